//! Writing what a command has staged, on the condition that what it read still holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sira_store::embedded::StoredObject;
use sira_store::{
    BatchOperation, BatchResult, Condition, Metadata, Result, StorageBackend, StorageError,
    StorageOptions,
};

use super::super::shared::Shared;
use super::snapshot::{Key, Snapshot};

/// What became of the staged writes.
#[derive(Debug)]
pub(super) enum Written {
    /// They took effect; so many objects were written or removed.
    Done(usize),
    /// What was read does not hold any more, and nothing was written.
    Overtaken,
}

pub(super) async fn write(shared: &Shared, snapshot: &Snapshot) -> Result<Written> {
    let Some(((database, _), _)) = snapshot.staged.first_key_value() else {
        return Ok(Written::Done(0));
    };
    let database = *database;
    let held: Vec<&Key> = match snapshot.holds_reads {
        true => snapshot.found.keys().filter(|key| !snapshot.staged.contains_key(*key)).collect(),
        false => Vec::new(),
    };
    let namespace = shared.away.open(database).await?;
    let backend = &*namespace.backend;
    if let (1, [], Some((key, object))) =
        (snapshot.staged.len(), held.as_slice(), snapshot.staged.first_key_value())
    {
        return one(backend, snapshot, key, object.as_ref()).await;
    }
    let mut parts: BTreeMap<u8, Vec<BatchOperation>> = BTreeMap::new();
    for (key, object) in &snapshot.staged {
        change(parts.entry(key.0).or_default(), snapshot, key, object.as_ref())?;
    }
    for key in held {
        if let Some(found) = snapshot.found.get(key) {
            hold(parts.entry(key.0).or_default(), key, found.object.as_ref());
        }
    }
    let done = Written::Done(snapshot.staged.len());
    match parts.remove(&database) {
        Some(operations) if parts.is_empty() && backend.capabilities().atomic_batch => {
            for result in backend.batch(operations).await? {
                if let BatchResult::Error(error) = result {
                    return overtaken(error);
                }
            }
            Ok(done)
        }
        operations => {
            parts.extend(operations.map(|operations| (database, operations)));
            match shared.away.commit(parts).await {
                Ok(()) => Ok(done),
                Err(error) => overtaken(error),
            }
        }
    }
}

/// Keys that are written, for those who take turns.
pub(super) fn keys(snapshot: &Snapshot) -> BTreeSet<&Key> {
    snapshot.staged.keys().collect()
}

async fn one(
    backend: &dyn StorageBackend,
    snapshot: &Snapshot,
    key: &Key,
    object: Option<&StoredObject>,
) -> Result<Written> {
    let condition = condition(snapshot, key);
    let text = text(&key.1)?;
    let written = match object {
        Some(object) => {
            let options = options(object, condition)?;
            backend.put(text, object.value.clone(), options).await.map(drop)
        }
        None => backend.remove(text, condition).await.map(drop),
    };
    match written {
        Ok(()) => Ok(Written::Done(1)),
        Err(error) => overtaken(error),
    }
}

fn overtaken(error: StorageError) -> Result<Written> {
    match error {
        StorageError::PreconditionFailed(_) | StorageError::Conflict(_) => Ok(Written::Overtaken),
        error => Err(error),
    }
}

/// What must hold of a key: what was read of it, if anything was.
fn condition(snapshot: &Snapshot, key: &Key) -> Condition {
    match snapshot.found.get(key) {
        None => Condition::Always,
        Some(found) => match &found.object {
            None => Condition::IfAbsent,
            Some(object) => Condition::IfMatch(object.version),
        },
    }
}

fn options(object: &StoredObject, condition: Condition) -> Result<StorageOptions> {
    Ok(StorageOptions {
        expires_at_ms: object.expires_at_ms,
        metadata: Metadata::decode(&object.metadata)?,
        condition,
        ..StorageOptions::default()
    })
}

fn text(key: &Bytes) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| {
        StorageError::invalid_input("keys of a database with a policy of its own are UTF-8 text")
    })
}

fn change(
    operations: &mut Vec<BatchOperation>,
    snapshot: &Snapshot,
    key: &Key,
    object: Option<&StoredObject>,
) -> Result<()> {
    let condition = condition(snapshot, key);
    let key = text(&key.1)?.to_owned();
    match object {
        Some(object) => {
            let options = options(object, condition)?;
            operations.push(BatchOperation::Put { key, value: object.value.clone(), options });
        }
        None => operations.push(BatchOperation::Delete { key, condition }),
    }
    Ok(())
}

/// Makes the batch depend on a key that it does not change.
fn hold(operations: &mut Vec<BatchOperation>, key: &Key, object: Option<&StoredObject>) {
    // A key that is no text can hold nothing here.
    let Ok(key) = text(&key.1).map(str::to_owned) else { return };
    let condition = match object {
        Some(object) => Condition::IfMatch(object.version),
        None => Condition::IfAbsent,
    };
    operations.push(BatchOperation::Check { key, condition });
}

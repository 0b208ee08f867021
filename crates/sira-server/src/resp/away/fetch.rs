//! Reading what a command misses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use sira_store::embedded::StoredObject;
use sira_store::limits::{KEY_BYTES_MAX, LIST_LIMIT_MAX};
use sira_store::{
    BatchOperation, BatchResult, ListOptions, Metadata, Object, ObjectHead, ReadOptions, Result,
    StorageBackend, StorageError,
};

use super::super::command::keys::database;
use super::super::session::Session;
use super::super::shared::{Shared, namespace_name};
use super::errand::Request;
use super::snapshot::{Found, Key, Listing, Next, Snapshot, Want};

/// Keys of the first page of a listing; each page has twice as many as the one before.
const FIRST_PAGE_KEYS: usize = 256;

/// Does what the last run of the command wanted.
pub(super) async fn satisfy(
    shared: &Shared,
    session: &Session,
    request: &Request,
    snapshot: &mut Snapshot,
) -> Result<()> {
    match snapshot.take_want() {
        None => Err(StorageError::invalid_input("the command runs on no database of its own")),
        Some(Want::Object { key, whole }) => {
            let mut keys = related(session, request, whole);
            keys.insert(key);
            read(shared, keys, whole, snapshot).await
        }
        Some(Want::Listing { database, prefix, start_after }) => {
            let (keys, next) = (Vec::new(), Next::First);
            snapshot.listings.push(Listing { database, prefix, start_after, keys, next });
            Ok(())
        }
        Some(Want::Keys(number)) => match snapshot.listings.get_mut(number) {
            Some(listing) => list(shared, listing).await,
            None => Ok(()),
        },
        Some(Want::Flush(databases)) => {
            for database in databases.clone() {
                if shared.databases.is_away(database) {
                    shared.away.client.namespace(&namespace_name(database)).clear().await?;
                } else {
                    shared.flush(database..database + 1)?;
                }
            }
            snapshot.flushed = Some(databases);
            Ok(())
        }
    }
}

/// Keys that the command names: what it wants of one it will want of the others.
fn related(session: &Session, request: &Request, whole: bool) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    let mut add = |database: u8, key: &[u8]| {
        if key.len() <= KEY_BYTES_MAX {
            keys.insert((database, Bytes::copy_from_slice(key)));
        }
    };
    let mut current = session.database;
    match &session.queue {
        Some(queue) if request.queued.command.name == "exec" => {
            if !whole {
                session.watched.iter().for_each(|watched| add(watched.database, &watched.key));
            }
            for queued in &queue.commands {
                let args = queued.args();
                if queued.command.name == "select" {
                    current = database(args.get(1)).unwrap_or(current);
                }
                let positions = queued.command.key_positions(args.len());
                positions.for_each(|index| add(current, args.get(index)));
            }
        }
        _ => {
            let args = request.queued.args();
            let positions = request.queued.command.key_positions(args.len());
            positions.for_each(|index| add(current, args.get(index)));
        }
    }
    keys
}

async fn read(
    shared: &Shared,
    keys: BTreeSet<Key>,
    whole: bool,
    snapshot: &mut Snapshot,
) -> Result<()> {
    let mut missing: BTreeMap<u8, Vec<(Bytes, String)>> = BTreeMap::new();
    for key in keys {
        if snapshot.found.get(&key).is_some_and(|found| found.whole || !whole) {
            continue;
        }
        match std::str::from_utf8(&key.1) {
            Ok(text) if !text.is_empty() => {
                missing.entry(key.0).or_default().push((key.1.clone(), text.to_owned()));
            }
            // No object has such a key where keys are text.
            _ => drop(snapshot.found.insert(key, Found { object: None, whole: true })),
        }
    }
    for (database, keys) in missing {
        let namespace = shared.away.open(database).await?;
        let backend = &*namespace.backend;
        let texts = keys.iter().map(|(_, text)| text.as_str());
        let objects =
            if whole { wholes(backend, texts).await? } else { heads(backend, texts).await? };
        for ((key, _), object) in keys.into_iter().zip(objects) {
            let whole = whole || object.is_none();
            snapshot.found.insert((database, key), Found { object, whole });
        }
    }
    Ok(())
}

async fn heads(
    backend: &dyn StorageBackend,
    keys: impl Iterator<Item = &str>,
) -> Result<Vec<Option<StoredObject>>> {
    let heads = try_join_all(keys.map(|key| backend.head(key))).await?;
    heads.into_iter().map(|head| head.map(|head| stored(&head, Bytes::new())).transpose()).collect()
}

async fn wholes(
    backend: &dyn StorageBackend,
    keys: impl ExactSizeIterator<Item = &str>,
) -> Result<Vec<Option<StoredObject>>> {
    let whole = |object: Option<Object>| {
        object.map(|object| stored(&object.head, object.value)).transpose()
    };
    if keys.len() == 1 {
        let mut objects = Vec::new();
        for key in keys {
            objects.push(whole(backend.read(key, ReadOptions::default()).await?)?);
        }
        return Ok(objects);
    }
    let operations = keys.map(|key| BatchOperation::Get { key: key.to_owned() }).collect();
    let results = backend.batch(operations).await?;
    results
        .into_iter()
        .map(|result| match result {
            BatchResult::Value(object) => whole(object),
            BatchResult::Success { .. } => Ok(None),
            BatchResult::Error(error) => Err(error),
        })
        .collect()
}

fn stored(head: &ObjectHead, value: Bytes) -> Result<StoredObject> {
    Ok(StoredObject {
        version: head.version,
        expires_at_ms: head.expires_at_ms,
        metadata: match &head.metadata {
            metadata if metadata.is_empty() => Bytes::new(),
            metadata => Metadata::encode(metadata)?.into(),
        },
        value,
        size: head.size,
    })
}

/// Reads the next page, twice as long as all before: a command runs again for each.
async fn list(shared: &Shared, listing: &mut Listing) -> Result<()> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
    let namespace = shared.away.open(listing.database).await?;
    let start_after = match &listing.next {
        Next::First => match &listing.start_after {
            // A cursor is a key that was listed, and so it is text.
            Some(after) => text(after),
            None => None,
        },
        Next::After(key) => Some(key.clone()),
        Next::End => return Ok(()),
    };
    let Some(prefix) = text(&listing.prefix) else {
        listing.next = Next::End;
        return Ok(());
    };
    let limit = listing.keys.len().saturating_mul(2).clamp(FIRST_PAGE_KEYS, LIST_LIMIT_MAX);
    let options = ListOptions { prefix, start_after, delimiter: None, limit };
    let page = Arc::clone(&namespace.backend).list(options).await?;
    listing.keys.extend(page.entries.into_iter().map(|entry| Bytes::from(entry.key)));
    listing.next = page.next.map_or(Next::End, Next::After);
    Ok(())
}

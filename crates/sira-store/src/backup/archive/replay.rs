//! Reading the archive: what has changed between a snapshot and a moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::super::repository::Repository;
use super::super::snapshot::Snapshot;
use super::super::source::{Opened, open_stored};
use super::file::{self, FileName, Record, RecordPut};
use crate::backend::{Object, ObjectHead};
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::seal::Keyring;

/// Files that are held in memory while more of their values may be asked for.
const HELD_FILES: usize = 4;

/// Changes by the numbers of namespaces and by keys; `None` is a removal.
pub(in super::super) type Changes = BTreeMap<u32, BTreeMap<Vec<u8>, Option<Archived>>>;

/// What a snapshot becomes by the archive.
pub(in super::super) struct Replayed {
    pub(in super::super) changes: Changes,
    /// Numbers of the namespaces by name.
    pub(in super::super) names: BTreeMap<String, u32>,
    /// The archive is complete up to here, in milliseconds since the Unix epoch.
    pub(in super::super) until_ms: u64,
}

/// A value in the archive.
#[derive(Clone)]
pub(in super::super) struct Archived {
    file: Arc<FileName>,
    put: Arc<RecordPut>,
    files: Arc<Files>,
}

/// Files that were read last.
struct Files {
    repository: Repository,
    held: Mutex<VecDeque<(Arc<FileName>, Bytes)>>,
}

impl Files {
    async fn read(&self, name: &Arc<FileName>) -> Result<Bytes> {
        if let Some((_, bytes)) = self.held.lock().iter().find(|(held, _)| held == name) {
            return Ok(bytes.clone());
        }
        let bytes = file::read(&self.repository, &name.key()).await?;
        let mut held = self.held.lock();
        held.push_back((Arc::clone(name), bytes.clone()));
        if held.len() > HELD_FILES {
            held.pop_front();
        }
        Ok(bytes)
    }
}

impl Archived {
    /// Bytes of the value as it is stored.
    pub(in super::super) fn size(&self) -> u64 {
        self.put.size.into()
    }

    /// Where it lies, in an order that reads files one after the other.
    pub(in super::super) fn place(&self) -> (u128, u64) {
        (self.file.first.into(), self.put.offset)
    }

    /// When the object expires, in milliseconds since the Unix epoch.
    pub(in super::super) fn expires_at_ms(&self) -> Option<u64> {
        self.put.expires_at_ms
    }

    /// Version of the object.
    pub(in super::super) fn version(&self) -> crate::version::Version {
        self.put.version
    }

    /// The object as callers saw it.
    pub(in super::super) async fn open(
        &self,
        namespace: &str,
        key: &[u8],
        keyring: &Arc<Keyring>,
    ) -> Result<Opened> {
        let put = &self.put;
        let size = put.size as usize;
        let value = if put.parts.is_empty() {
            let whole = self.files.read(&self.file).await?;
            let start = put.offset as usize;
            if start + size > whole.len() {
                return Err(StorageError::corrupt("a file of the archive is cut off"));
            }
            whole.slice(start..start + size)
        } else {
            let mut value = BytesMut::with_capacity(size);
            for part in &put.parts {
                let key = self.file.part_key(*part);
                value.extend_from_slice(&file::read(&self.files.repository, &key).await?);
            }
            value.freeze()
        };
        if value.len() != size {
            return Err(StorageError::corrupt("an archived value has another size than it should"));
        }
        let head = ObjectHead {
            version: put.version,
            size: put.size.into(),
            expires_at_ms: put.expires_at_ms,
            metadata: Metadata::decode(&put.metadata)?,
        };
        let object = Object { range: 0..head.size, head, value };
        let (namespace, key, keyring) = (namespace.to_owned(), key.to_vec(), Arc::clone(keyring));
        super::super::aside(move || open_stored(&namespace, &key, &keyring, object)).await?
    }
}

/// Reads what changed since a snapshot up to a time, that time included.
///
/// # Errors
/// [`StorageError::NotFound`] where a stretch of the log was never archived, and with it the moment
/// cannot be restored; [`StorageError::Corrupt`] for a damaged file.
pub(in super::super) async fn replay(
    repository: &Repository,
    snapshot: &Snapshot,
    at_ms: u64,
) -> Result<Option<Replayed>> {
    let Some(mark) = &snapshot.mark else { return Ok(None) };
    let files = Arc::new(Files { repository: repository.clone(), held: Mutex::default() });
    let named = snapshot.namespaces.iter();
    let named = named.filter_map(|(name, namespace)| Some((name.clone(), namespace.number?)));
    let mut replayed =
        Replayed { changes: Changes::new(), names: named.collect(), until_ms: snapshot.as_of_ms };
    let mut at = mark.place.sequence;
    for name in file::names(repository, &mark.stream).await? {
        let names_only = name.first == name.next && name.until_ms > snapshot.as_of_ms;
        if name.next < at || (name.next == at && !names_only) {
            continue;
        }
        if name.first > at {
            return Err(gap(replayed.until_ms));
        }
        let bytes = file::read(repository, &name.key()).await?;
        let decoded = super::super::aside(move || file::decode(&bytes)).await?;
        let (header, records) = decoded.map_err(|error| error.with_key(name.key()))?;
        if header.earliest_ms > at_ms && replayed.until_ms > at_ms {
            break;
        }
        let name = Arc::new(name);
        let mut touched = std::collections::BTreeSet::new();
        for Record { sequence, time, namespace, key, put } in records {
            if sequence < at || time.time_ms() > at_ms {
                continue;
            }
            touched.insert(namespace);
            let put = put.map(|put| Archived {
                file: Arc::clone(&name),
                put: Arc::new(put),
                files: Arc::clone(&files),
            });
            replayed.changes.entry(namespace).or_default().insert(key, put);
        }
        at = name.next;
        if header.until_ms <= at_ms {
            replayed.names = header.names;
        } else {
            // Names of this stretch that are in use by the moment: those that have changes.
            for (name, number) in header.names {
                if touched.contains(&number) {
                    replayed.names.insert(name, number);
                }
            }
        }
        replayed.until_ms = replayed.until_ms.max(header.until_ms);
    }
    Ok(Some(replayed))
}

fn gap(until_ms: u64) -> StorageError {
    StorageError::not_found(format!(
        "the archive has a gap behind {until_ms} ms since 1970: what there was then can be restored, \
         or a snapshot after it"
    ))
}

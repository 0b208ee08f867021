//! Writing: one record, then the index.

use sira_log::frame::BinaryLogFormat;
use sira_log::log::{Appended, Entry};
use sira_log::record::{ContentKind, RECORD_BODY_OFFSET};

use super::super::index::Location;
use super::super::item::{NewItem, Op};
use super::super::{Commit, NamespaceId, Ticket, WriteOptions};
use super::Engine;
use super::lookup::{FullKey, coarse_expiry, held_version, key_too_long};
use crate::driver::check_newer;
use crate::error::{Result, StorageError};
use crate::key::check_exact_version;
use crate::limits::{
    BLOCK_ALIGN_BYTES, KEY_BYTES_MAX, STORED_METADATA_BYTES_MAX, STREAM_VALUE_BYTES_MAX,
    VALUE_BYTES_MAX,
};
use crate::version::Version;

/// The record's data is a sequence of items, each at a multiple of four bytes.
pub(super) const FLAG_BATCH: u8 = 1;

/// The record holds a removal or an object that expires: it may hide what older segments hold.
pub(super) const FLAG_HIDES: u8 = 2;

/// A change that is ready to be written.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub namespace: NamespaceId,
    pub key: &'a [u8],
    /// `None` removes the key.
    pub put: Option<Put<'a>>,
}

/// What a change stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put<'a> {
    pub value: &'a [u8],
    pub expires_at_ms: Option<u64>,
    pub metadata: &'a [u8],
    /// Version to store, which [`check_version`] has let through; `None` for one that is drawn.
    pub version: Option<Version>,
}

pub(super) fn put(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    value: &[u8],
    options: WriteOptions<'_>,
) -> Result<Commit> {
    let WriteOptions { expires_at_ms, metadata, version } = options;
    let put = Put { value, expires_at_ms, metadata, version };
    let change = Change { namespace, key, put: Some(put) };
    check(engine, &change)?;
    let _held = engine.stripes.lock_one(namespace, key);
    if let Some(version) = version {
        check_version(engine, namespace, key, version)?;
    }
    apply_one(engine, &change)
}

/// Refuses what can never be stored, before anything is written.
pub(crate) fn check(engine: &Engine, change: &Change<'_>) -> Result<()> {
    if !engine.namespaces.is_live(change.namespace) {
        return Err(StorageError::not_found("the namespace was dropped"));
    }
    if change.key.len() > KEY_BYTES_MAX {
        return Err(key_too_long());
    }
    if let Some(put) = change.put {
        if put.value.len() as u64 > STREAM_VALUE_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "the value is larger than {STREAM_VALUE_BYTES_MAX} bytes"
            )));
        }
        if put.metadata.len() > STORED_METADATA_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "the metadata is larger than {STORED_METADATA_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(())
}

/// Lets a version through that is newer than what the key holds, also when that has expired. The
/// caller holds the key's lock.
pub(crate) fn check_version(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    version: Version,
) -> Result<()> {
    check_exact_version(version)?;
    check_newer(version, held_version(engine, namespace, key)?)?;
    // Before it can be read, so that a write after it is newer.
    engine.clock.observe(version);
    Ok(())
}

/// Writes one change as a record of its own. The caller holds the key's lock.
pub(crate) fn apply_one(engine: &Engine, change: &Change<'_>) -> Result<Commit> {
    let exact = change.put.and_then(|put| put.version);
    let version = exact.unwrap_or_else(|| engine.next_version());
    let appended = append_alone(engine, change, version)?;
    let location = location_alone(&appended, change);
    index_change(engine, change.namespace, change.key, change.put.is_some().then_some(location))?;
    Ok(Commit { version, ticket: Ticket(appended.ticket) })
}

impl Change<'_> {
    /// Flags that the record of the change needs.
    fn flags(&self) -> u8 {
        match self.put {
            Some(put) if put.expires_at_ms.is_none() => 0,
            _ => FLAG_HIDES,
        }
    }
}

/// Where the item of a record of its own lies.
pub(super) fn location_alone(appended: &Appended, change: &Change<'_>) -> Location {
    Location {
        segment: appended.position.segment,
        offset: (appended.position.offset / BinaryLogFormat::ALIGN_BYTES as u64) as u32,
        item: RECORD_BODY_OFFSET as u32,
        size: change.put.map_or(0, |put| put.value.len()) as u32,
        expiry: coarse_expiry(change.put.and_then(|put| put.expires_at_ms)),
    }
}

/// Appends the record of one change.
pub(super) fn append_alone(
    engine: &Engine,
    change: &Change<'_>,
    version: Version,
) -> Result<Appended> {
    let item = new_item(change);
    let encoded = item.encode(version, true)?;
    let entry = Entry {
        kind: ContentKind::Custom as u8,
        flags: change.flags(),
        time: version.as_u64(),
        count: 1,
        head: &[encoded.lead.bytes()],
        data: item.value,
        align: if encoded.aligned { BLOCK_ALIGN_BYTES as u64 } else { 1 },
        data_crc: encoded.value_crc,
    };
    Ok(engine.log.append(&entry)?)
}

/// Writes several changes as one record: after a crash all of them are there or none. The caller
/// holds the locks of all keys.
pub(crate) fn apply_batch(engine: &Engine, changes: &[Change<'_>]) -> Result<Commit> {
    let version = engine.next_version();
    let mut data = Vec::new();
    let mut places = Vec::with_capacity(changes.len());
    for change in changes {
        let item = new_item(change);
        let exact = change.put.and_then(|put| put.version);
        let item = NewItem { versioned: exact.is_some(), ..item };
        let encoded = item.encode(exact.unwrap_or(version), false)?;
        places.push(data.len());
        data.extend_from_slice(encoded.lead.bytes());
        data.extend_from_slice(item.value);
        data.resize(data.len().next_multiple_of(4), 0);
        if data.len() > VALUE_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "the writes of one step are larger than {VALUE_BYTES_MAX} bytes together"
            )));
        }
    }
    let entry = Entry {
        kind: ContentKind::Custom as u8,
        flags: changes.iter().fold(FLAG_BATCH, |flags, change| flags | change.flags()),
        time: version.as_u64(),
        count: 1,
        head: &[],
        data: &data,
        align: 1,
        data_crc: None,
    };
    let appended = engine.log.append(&entry)?;
    engine.gate.close_while(|| {
        changes.iter().zip(places).try_for_each(|(change, place)| {
            let location = change.put.map(|put| Location {
                segment: appended.position.segment,
                offset: (appended.position.offset / BinaryLogFormat::ALIGN_BYTES as u64) as u32,
                item: (RECORD_BODY_OFFSET + place) as u32,
                size: put.value.len() as u32,
                expiry: coarse_expiry(put.expires_at_ms),
            });
            index_change(engine, change.namespace, change.key, location)
        })
    })?;
    Ok(Commit { version, ticket: Ticket(appended.ticket) })
}

fn new_item<'a>(change: &Change<'a>) -> NewItem<'a> {
    let nothing = Put { value: &[], expires_at_ms: None, metadata: &[], version: None };
    let put = change.put.unwrap_or(nothing);
    NewItem {
        op: if change.put.is_some() { Op::Put } else { Op::Delete },
        namespace: change.namespace,
        key: change.key,
        expires_at_ms: put.expires_at_ms,
        metadata: put.metadata,
        value: put.value,
        versioned: false,
    }
}

/// Points the index at a key's new place, or takes the key out, and keeps the counts.
pub(super) fn index_change(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    location: Option<Location>,
) -> Result<()> {
    let full = FullKey::checked(namespace, key)?;
    let previous = match location {
        Some(location) => {
            let previous = engine.index.insert(full.bytes(), location).map_err(|error| {
                StorageError::out_of_space("there is no memory for the index")
                    .with_retry(crate::Retry::Ambiguous)
                    .with_source(error)
            })?;
            engine.add_live(key.len(), location);
            previous
        }
        None => engine.index.remove(full.bytes()),
    };
    if let Some(previous) = previous {
        engine.add_dead(key.len(), previous);
    }
    let by = i64::from(location.is_some()) - i64::from(previous.is_some());
    if by != 0 {
        engine.namespaces.with_count(namespace, |count| count.add(by));
    }
    Ok(())
}

//! Reading: from a key to its verified bytes.

use std::borrow::Cow;
use std::ops::{Bound, ControlFlow, Range};

use bytes::Bytes;
use sira_log::frame::BinaryLogFormat;
use sira_log::log::Segment;
use sira_log::record::RECORD_BODY_OFFSET;

use super::super::index::Location;
use super::super::item::{ITEM_BYTES, Item, ItemHeader, Op};
use super::super::{NamespaceId, ObjectRef, ScanEntry, StoredObject};
use super::Engine;
use crate::error::{Result, StorageError};
use crate::limits::{BLOCK_BYTES, KEY_BYTES_MAX};
use crate::version::Version;

/// Seconds of the Unix epoch at which coarse expiries begin: 2020-01-01.
const EXPIRY_EPOCH_S: u64 = 1_577_836_800;

/// Bytes from the start of a frame to the record's time, which is its version.
const VERSION_OFFSET: usize = BinaryLogFormat::HEAD_BYTES + 24;
/// Bytes from the start of a frame to the offset of the record's data.
const DATA_OFFSET: usize = BinaryLogFormat::HEAD_BYTES + 4;

/// Values up to this size are copied out: that is quicker than counting one more reader of the
/// segment, and a small value that is kept long keeps no whole segment with it.
const COPY_BYTES_MAX: usize = 1024;

/// A segment can go between the look into the index and the read; the index then has a newer place.
const TRIES: usize = 64;

/// A key with its namespace in front, as the index has it.
#[derive(Debug)]
pub(crate) enum FullKey {
    Short { bytes: [u8; FullKey::SHORT], len: usize },
    Long(Vec<u8>),
}

impl FullKey {
    /// Keys up to this length are put together on the stack.
    const SHORT: usize = 128;

    /// Keys over the limit are nowhere in the index; see [`FullKey::checked`] for writes.
    #[inline]
    pub(crate) fn new(namespace: NamespaceId, key: &[u8]) -> Option<Self> {
        let namespace = namespace.0.to_be_bytes();
        let len = namespace.len() + key.len();
        if len <= Self::SHORT {
            let mut bytes = [0; Self::SHORT];
            bytes[..4].copy_from_slice(&namespace);
            bytes[4..len].copy_from_slice(key);
            return Some(Self::Short { bytes, len });
        }
        (key.len() <= KEY_BYTES_MAX).then(|| Self::Long([&namespace, key].concat()))
    }

    pub(crate) fn checked(namespace: NamespaceId, key: &[u8]) -> Result<Self> {
        Self::new(namespace, key).ok_or_else(key_too_long)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { bytes, len } => bytes.get(..*len).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

pub(super) fn key_too_long() -> StorageError {
    StorageError::too_large(format!("the key is longer than {KEY_BYTES_MAX} bytes"))
}

/// The coarse expiry of an index entry: seconds, rounded down, never 0 for a time.
pub(super) fn coarse_expiry(expires_at_ms: Option<u64>) -> u32 {
    expires_at_ms.map_or(0, |at| {
        let seconds = (at / 1000).saturating_sub(EXPIRY_EPOCH_S).max(1);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    })
}

/// Whether a coarse expiry alone decides: `Some(true)` has expired, `Some(false)` has not.
pub(super) fn coarsely_expired(expiry: u32, now_ms: u64) -> Option<bool> {
    if expiry == 0 {
        return Some(false);
    }
    let now = (now_ms / 1000).saturating_sub(EXPIRY_EPOCH_S);
    match u64::from(expiry) {
        at if expiry == u32::MAX || at == 1 || at == now => None,
        at => Some(at < now),
    }
}

/// Bytes of a segment, borrowed where it is mapped.
fn fetch(segment: &Segment, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
    match segment.slice(offset, len) {
        Some(bytes) => Ok(Cow::Borrowed(bytes)),
        None => Ok(Cow::Owned(segment.read(offset, len)?.to_vec())),
    }
}

/// An item and where its value lies.
pub(super) struct Found<'a> {
    pub item: Item<'a>,
    pub value_offset: u64,
}

/// Reads the item at a location, without its value. Nothing is verified yet.
pub(super) fn item_at(segment: &Segment, location: Location) -> Result<Found<'_>> {
    let frame = u64::from(location.offset) * BinaryLogFormat::ALIGN_BYTES as u64;
    let corrupt = |detail: &str| {
        StorageError::corrupt(format!("segment {} at byte {frame}: {detail}", segment.id))
    };
    let start = fetch(segment, frame, RECORD_BODY_OFFSET)?;
    let word = |at: usize| start.get(at..at + 8).and_then(|word| word.first_chunk::<8>());
    let (Some(version), Some(data)) = (word(VERSION_OFFSET), word(DATA_OFFSET)) else {
        return Err(corrupt("the record header is cut off"));
    };
    let version = Version::from_u64(u64::from_le_bytes(*version));
    let data_offset = u64::from_le_bytes(*data) & u64::from(u32::MAX);
    let item_offset = frame + u64::from(location.item);
    let fixed = fetch(segment, item_offset, ITEM_BYTES)?;
    let Some(header) = ItemHeader::decode(&fixed) else {
        return Err(corrupt("no item is here"));
    };
    let lead = fetch(segment, item_offset, header.lead_len())?;
    let Some(version) = header.version(&lead, version) else {
        return Err(corrupt("the item is cut off"));
    };
    let value_offset = if header.blocks {
        frame + BinaryLogFormat::HEAD_BYTES as u64 + data_offset
    } else {
        item_offset + header.lead_len() as u64
    };
    Ok(Found { item: Item { header, version, lead }, value_offset })
}

/// Runs `visit` on the item that the index names for a key, again if its segment went meanwhile.
pub(super) fn with_item<R>(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    mut visit: impl FnMut(&Segment, Found<'_>) -> Result<R>,
) -> Result<Option<R>> {
    if !engine.namespaces.is_live(namespace) {
        return Ok(None);
    }
    let Some(full) = FullKey::new(namespace, key) else { return Ok(None) };
    for _ in 0..TRIES {
        let location = engine.index.get(full.bytes());
        engine.gate.pass();
        let Some(location) = location else { return Ok(None) };
        // What never expires needs no clock.
        let now_ms = if location.expiry == 0 { 0 } else { engine.env.now_ms() };
        if coarsely_expired(location.expiry, now_ms) == Some(true) {
            return Ok(None);
        }
        let result = engine.log.with_segment(location.segment, |segment| {
            let found = item_at(segment, location)?;
            if found.item.header.expired(now_ms) {
                return check(segment, &found).map(|()| None);
            }
            if found.item.key() != key || found.item.header.op != Op::Put {
                return Err(StorageError::corrupt(format!(
                    "segment {} holds another item than the index says",
                    segment.id
                )));
            }
            visit(segment, found).map(Some)
        });
        match result {
            Some(Ok(found)) => return Ok(found),
            Some(Err(error)) => {
                if matches!(error, StorageError::Corrupt(_)) {
                    engine.saw_corruption();
                }
                return Err(error.with_key(String::from_utf8_lossy(key)));
            }
            None => {}
        }
    }
    engine.saw_corruption();
    Err(StorageError::corrupt("the segment that holds the object is not there")
        .with_key(String::from_utf8_lossy(key)))
}

/// Verifies all of an item but the blocks of a large value.
pub(super) fn check(segment: &Segment, found: &Found<'_>) -> Result<()> {
    let item = &found.item;
    let valid = if item.header.blocks {
        item.verify(None)
    } else {
        item.verify(Some(&fetch(segment, found.value_offset, item.header.value_len as usize)?))
    };
    if valid { Ok(()) } else { Err(mismatch(segment)) }
}

fn mismatch(segment: &Segment) -> StorageError {
    StorageError::corrupt(format!(
        "the stored object fails its checksum (segment {}): it is not served",
        segment.id
    ))
}

pub(super) fn read<R>(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    visit: impl FnOnce(ObjectRef<'_>) -> R,
) -> Result<Option<R>> {
    let mut visit = Some(visit);
    let result = with_item(engine, namespace, key, |segment, found| {
        let item = &found.item;
        let value = fetch(segment, found.value_offset, item.header.value_len as usize)?;
        if !item.verify(Some(&value)) || (item.header.blocks && !item.verify_blocks(0, &value)) {
            return Err(mismatch(segment));
        }
        Ok(visit.take().map(|visit| {
            visit(ObjectRef {
                version: item.version,
                expires_at_ms: item.header.expires_at_ms(),
                metadata: item.metadata(),
                value: &value,
            })
        }))
    })?;
    Ok(result.flatten())
}

pub(super) fn get(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    range: Range<u64>,
) -> Result<Option<StoredObject>> {
    with_item(engine, namespace, key, |segment, found| {
        let value = value_range(segment, &found.item, found.value_offset, range.clone())?;
        Ok(stored(&found.item, value))
    })
}

/// A range of an item's value, its end cut to the size, verified.
pub(super) fn value_range(
    segment: &Segment,
    item: &Item<'_>,
    value_offset: u64,
    range: Range<u64>,
) -> Result<Bytes> {
    let size = u64::from(item.header.value_len);
    let end = range.end.min(size);
    let start = range.start.min(end);
    // Without blocks one checksum covers the whole value; with them, whole blocks are read.
    let (first, last) = if item.header.blocks {
        let block = BLOCK_BYTES as u64;
        (start / block * block, end.next_multiple_of(block).min(size))
    } else {
        (0, size)
    };
    let (from, len) = (value_offset + first, (last - first) as usize);
    let small = segment.slice(from, len).filter(|_| len <= COPY_BYTES_MAX);
    let held = if small.is_none() { segment.read(from, len)? } else { Bytes::new() };
    let bytes = small.unwrap_or(&held);
    let valid = if item.header.blocks {
        item.verify(None) && item.verify_blocks((first / BLOCK_BYTES as u64) as usize, bytes)
    } else {
        item.verify(Some(bytes))
    };
    if !valid {
        return Err(mismatch(segment));
    }
    let wanted = (start - first) as usize..(end - first) as usize;
    Ok(match small {
        Some(bytes) => Bytes::copy_from_slice(bytes.get(wanted).unwrap_or_default()),
        None if wanted.len() == len => held,
        None => held.slice(wanted),
    })
}

pub(super) fn head(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
) -> Result<Option<StoredObject>> {
    with_item(engine, namespace, key, |segment, found| {
        check(segment, &found)?;
        Ok(stored(&found.item, Bytes::new()))
    })
}

/// The version that a key holds, also when it has expired; `None` for an object that cannot be read
/// any more, which no version can be compared with.
pub(crate) fn held_version(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
) -> Result<Option<Version>> {
    let full = FullKey::checked(namespace, key)?;
    for _ in 0..TRIES {
        let Some(location) = engine.index.get(full.bytes()) else { return Ok(None) };
        let version = engine.log.with_segment(location.segment, |segment| {
            let found = item_at(segment, location)?;
            check(segment, &found).map(|()| found.item.version)
        });
        match version {
            Some(Err(StorageError::Corrupt(_))) => return Ok(None),
            Some(version) => return version.map(Some),
            None => {}
        }
    }
    Ok(None)
}

pub(super) fn stored(item: &Item<'_>, value: Bytes) -> StoredObject {
    StoredObject {
        version: item.version,
        expires_at_ms: item.header.expires_at_ms(),
        metadata: match item.metadata() {
            [] => Bytes::new(),
            metadata => Bytes::copy_from_slice(metadata),
        },
        value,
        size: u64::from(item.header.value_len),
    }
}

pub(super) fn scan(
    engine: &Engine,
    namespace: NamespaceId,
    prefix: &[u8],
    start_after: Option<&[u8]>,
    mut visit: impl FnMut(ScanEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    if !engine.namespaces.is_live(namespace) {
        return Ok(());
    }
    let now_ms = engine.env.now_ms();
    let full = |key: &[u8]| [&namespace.0.to_be_bytes(), key].concat();
    let (from, after) = match start_after {
        Some(after) if after >= prefix => (full(after), true),
        _ => (full(prefix), false),
    };
    let from = if after { Bound::Excluded(&from[..]) } else { Bound::Included(&from[..]) };
    let own = namespace.0.to_be_bytes();
    let mut failed = None;
    engine.index.scan(from, &mut |full_key, location| {
        let Some(key) = full_key.strip_prefix(&own).filter(|key| key.starts_with(prefix)) else {
            return ControlFlow::Break(());
        };
        match is_expired(engine, full_key, location, now_ms) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => visit(ScanEntry { key, size: u64::from(location.size) }),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    engine.gate.pass();
    failed.map_or(Ok(()), Err)
}

/// Whether the object at a location has expired, exactly.
pub(super) fn is_expired(
    engine: &Engine,
    full_key: &[u8],
    location: Location,
    now_ms: u64,
) -> Result<bool> {
    if let Some(decided) = coarsely_expired(location.expiry, now_ms) {
        return Ok(decided);
    }
    let mut location = location;
    for _ in 0..TRIES {
        let expired = engine.log.with_segment(location.segment, |segment| {
            let found = item_at(segment, location)?;
            check(segment, &found).map(|()| found.item.header.expired(now_ms))
        });
        if let Some(expired) = expired {
            return expired;
        }
        match engine.index.get(full_key) {
            Some(newer) => location = newer,
            None => return Ok(true),
        }
    }
    Err(StorageError::corrupt("the segment that holds the object is not there"))
}

/// Keys among which a random one is chosen.
const RANDOM_KEYS: u64 = 1024;

pub(super) fn random_key(engine: &Engine, namespace: NamespaceId) -> Result<Option<Bytes>> {
    let mut found = None;
    let mut skip = engine.env.random_u64() % engine.count(namespace).clamp(1, RANDOM_KEYS);
    scan(engine, namespace, b"", None, |entry| {
        found = Some(Bytes::copy_from_slice(entry.key));
        if skip == 0 {
            return ControlFlow::Break(());
        }
        skip -= 1;
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

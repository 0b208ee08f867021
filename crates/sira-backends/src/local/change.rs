//! What is read and written within a transaction.

use bytes::{Bytes, BytesMut};
use sira_store::driver::{Change, Guard, Part, Place, Record, RecordHead};
use sira_store::{Result, StorageError, Version};

use super::{Fault, Map, Transaction, key_of};

/// A value of the heads.
#[derive(Debug)]
pub(super) struct Entry {
    head: RecordHead,
    value: Bytes,
    /// The body, where it lies with its head.
    pub(super) body: Option<Bytes>,
}

impl Entry {
    pub(super) fn decode(value: Bytes) -> Result<Self> {
        let head = RecordHead::decode(&value)?;
        let begin = head.body_start();
        let len = usize::try_from(head.body_bytes).unwrap_or(usize::MAX);
        let body = match begin.checked_add(len) {
            Some(end) if end <= value.len() => Some(value.slice(begin..end)),
            _ if begin == value.len() => None,
            _ => return Err(StorageError::corrupt("a stored record is cut off")),
        };
        Ok(Self { head, value, body })
    }

    /// The part of the record that was asked for. `body` is what lies apart from the head.
    pub(super) fn into_record(self, part: &Part, body: Option<Bytes>) -> Result<Record> {
        let body = match (part, self.body.or(body)) {
            (Part::Head, _) => Bytes::new(),
            (_, Some(body)) if body.len() as u64 == self.head.body_bytes => match part {
                Part::Range(range) => {
                    let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
                    body.slice(cut(range.start)..cut(range.end).max(cut(range.start)))
                }
                _ => body,
            },
            _ => {
                return Err(StorageError::corrupt("the body of a stored record is missing or cut"));
            }
        };
        self.head.into_record(&self.value, body)
    }
}

pub(super) fn read(
    txn: &dyn Transaction,
    key: &[u8],
    part: &Part,
) -> Result<Option<Record>, Fault> {
    let Some(value) = txn.read(Map::Heads, key)? else { return Ok(None) };
    let entry = Entry::decode(value)?;
    let body = match part {
        Part::Head => None,
        _ if entry.body.is_some() => None,
        _ => txn.read(Map::Bodies, key)?,
    };
    Ok(Some(entry.into_record(part, body)?))
}

/// Makes a change if its guard holds.
pub(super) fn apply(
    txn: &dyn Transaction,
    place: &Place,
    change: Change,
    with_head_max: usize,
) -> Result<Result<Option<Version>>, Fault> {
    let key = key_of(place, change.key());
    match change {
        Change::Put { record, guard, .. } => {
            Ok(put(txn, &key, record, &guard, with_head_max)?.map(Some))
        }
        Change::Remove { guard, .. } => Ok(remove(txn, &key, &guard)?.map(|_| None)),
        Change::Check { guard, .. } => {
            let held = txn.read(Map::Heads, &key)?.map(Entry::decode).transpose();
            let held = held.map(|held| held.map(|held| held.head.held()));
            Ok(held.and_then(|held| guard.admit_removal(held)).map(|_| None))
        }
    }
}

/// Writes a record if the guard holds.
pub(super) fn put(
    txn: &dyn Transaction,
    key: &[u8],
    mut record: Record,
    guard: &Guard,
    with_head_max: usize,
) -> Result<Result<Version>, Fault> {
    let held = match txn.read(Map::Heads, key)?.map(Entry::decode).transpose() {
        Ok(held) => held,
        Err(error) => return Ok(Err(error)),
    };
    match guard.admit(held.as_ref().map(|held| held.head.held()), record.version) {
        Ok(version) => record.version = version,
        Err(error) => return Ok(Err(error)),
    }
    if record.body.len() <= with_head_max {
        txn.write(Map::Heads, key, record.encode())?;
        if held.as_ref().is_some_and(|held| held.body.is_none()) {
            txn.remove(Map::Bodies, key)?;
        }
    } else {
        let mut head = BytesMut::new();
        record.encode_head(&mut head);
        txn.write(Map::Heads, key, head.freeze())?;
        txn.write(Map::Bodies, key, record.body)?;
    }
    let expired = held.and_then(|held| held.head.expires_at_ms);
    if expired != record.expires_at_ms {
        if let Some(at) = expired {
            txn.remove(Map::Expiries, &expiry_key(at, key))?;
        }
        if let Some(at) = record.expires_at_ms {
            txn.write(Map::Expiries, &expiry_key(at, key), Bytes::new())?;
        }
    }
    Ok(Ok(record.version))
}

/// Removes a record if the guard holds, and says whether one was there that had not expired.
pub(super) fn remove(
    txn: &dyn Transaction,
    key: &[u8],
    guard: &Guard,
) -> Result<Result<bool>, Fault> {
    let held = match txn.read(Map::Heads, key)?.map(Entry::decode).transpose() {
        Ok(held) => held,
        // What cannot be read can still be removed.
        Err(_) if guard.is_blind() => {
            erase(txn, key, None, true)?;
            return Ok(Ok(true));
        }
        Err(error) => return Ok(Err(error)),
    };
    let judged = guard.admit_removal(held.as_ref().map(|held| held.head.held()));
    if let (Ok(_), Some(held)) = (&judged, held) {
        erase(txn, key, held.head.expires_at_ms, held.body.is_none())?;
    }
    Ok(judged)
}

/// Removes a record that has expired, by its entry in the expiries, and says whether it had.
pub(super) fn collect(txn: &dyn Transaction, entry: &[u8], now_ms: u64) -> Result<bool, Fault> {
    txn.remove(Map::Expiries, entry)?;
    let Some((at, key)) = expiry_of(entry) else { return Ok(false) };
    let held = txn.read(Map::Heads, key)?.and_then(|value| Entry::decode(value).ok());
    let Some(Entry { head, body, .. }) = held else { return Ok(false) };
    let expired = head.expires_at_ms == Some(at) && !head.held().lives(now_ms);
    if expired {
        erase(txn, key, None, body.is_none())?;
    }
    Ok(expired)
}

/// `apart` says that the body does not lie with its head.
fn erase(
    txn: &dyn Transaction,
    key: &[u8],
    expires_at_ms: Option<u64>,
    apart: bool,
) -> Result<(), Fault> {
    txn.remove(Map::Heads, key)?;
    if apart {
        txn.remove(Map::Bodies, key)?;
    }
    match expires_at_ms {
        Some(at) => txn.remove(Map::Expiries, &expiry_key(at, key)),
        None => Ok(()),
    }
}

fn expiry_key(expires_at_ms: u64, key: &[u8]) -> Vec<u8> {
    [&expires_at_ms.to_be_bytes()[..], key].concat()
}

/// The time and the key of an entry in the expiries.
pub(super) fn expiry_of(entry: &[u8]) -> Option<(u64, &[u8])> {
    let (at, key) = entry.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*at), key))
}

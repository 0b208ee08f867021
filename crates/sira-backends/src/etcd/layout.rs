//! Keys in etcd, and what is under them.
//!
//! | key | value |
//! |---|---|
//! | `PREFIXah/NAMESPACE/KEY` | the head: version and expiry for comparison, then head and envelope of the record |
//! | `PREFIXab/NAMESPACE/KEY` | the body |
//! | `PREFIXax/EXPIRY/NAMESPACE/KEY` | empty; the key expires then, or did before it was replaced |
//! | `PREFIXformat` | version of this layout |
//!
//! `a` is the code of the area, `EXPIRY` 16 hexadecimal digits. Head and body change in one
//! transaction. The head begins with the version and the expiry as big-endian numbers of 8 bytes (all
//! ones for never), so that etcd's own comparison of values, which is by byte order, tells whether a
//! version is held and whether it lives.

use bytes::{Bytes, BytesMut};
use sira_store::driver::{Area, Held, Place, Record, RecordHead};
use sira_store::{Result, StorageError, Version};

/// Version of the layout.
pub(super) const FORMAT: u64 = 1;

/// Bytes before the record's own head.
const ORDER_BYTES: usize = 16;

/// The keys of one record.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// What stands before and after the expiry in the key of an expiry.
    expiry: (String, Vec<u8>),
}

impl Names {
    pub(super) fn new(prefix: &str, place: &Place, key: &str) -> Self {
        let member = format!("{}/{key}", place.namespace).into_bytes();
        Self::of_member(prefix, place.area, member)
    }

    /// The keys of `NAMESPACE/KEY`.
    pub(super) fn of_member(prefix: &str, area: Area, member: Vec<u8>) -> Self {
        let name = |kind: char| {
            let root = root(prefix, area, kind);
            [root.as_bytes(), &member[..]].concat()
        };
        Self { head: name('h'), body: name('b'), expiry: (root(prefix, area, 'x'), member) }
    }

    /// The key that says when the record expires.
    pub(super) fn expiry(&self, expires_at_ms: u64) -> Vec<u8> {
        let (root, member) = &self.expiry;
        [format!("{root}{expires_at_ms:016x}/").as_bytes(), &member[..]].concat()
    }
}

/// What all keys of a kind begin with: `h`ead, `b`ody or e`x`piry.
pub(super) fn root(prefix: &str, area: Area, kind: char) -> String {
    format!("{prefix}{}{kind}/", area.code())
}

/// The time and the `NAMESPACE/KEY` of an expiry's key, after its root.
pub(super) fn split_expiry(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = rest.split_at_checked(16)?;
    let at = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((at, rest.strip_prefix(b"/")?))
}

/// The value of a head.
pub(super) fn encode_head(record: &Record) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(ORDER_BYTES + 64 + record.envelope.len());
    out.extend_from_slice(&record.version.as_u64().to_be_bytes());
    out.extend_from_slice(&record.expires_at_ms.unwrap_or(u64::MAX).to_be_bytes());
    record.encode_head(&mut out);
    out.into()
}

/// A head that was read.
#[derive(Debug, Clone)]
pub(super) struct StoredHead {
    pub(super) head: RecordHead,
    bytes: Bytes,
}

impl StoredHead {
    pub(super) fn decode(value: Vec<u8>) -> Result<Self> {
        let mut bytes = Bytes::from(value);
        if bytes.len() < ORDER_BYTES {
            return Err(StorageError::corrupt("a head in etcd is cut off"));
        }
        let bytes = bytes.split_off(ORDER_BYTES);
        Ok(Self { head: RecordHead::decode(&bytes)?, bytes })
    }

    pub(super) fn held(&self) -> Held {
        self.head.held()
    }

    /// The record with all of its body.
    pub(super) fn with_body(self, body: Bytes) -> Result<Record> {
        if self.head.body_bytes != body.len() as u64 {
            return Err(StorageError::corrupt(format!(
                "a body in etcd has {} bytes where its head says {}",
                body.len(),
                self.head.body_bytes
            )));
        }
        self.head.into_record(&self.bytes, body)
    }

    /// The record without its body.
    pub(super) fn without_body(self) -> Result<Record> {
        self.head.into_record(&self.bytes, Bytes::new())
    }
}

/// What heads of records below this version are smaller than, and no other head.
pub(super) fn below(version: Version) -> Vec<u8> {
    version.as_u64().to_be_bytes().into()
}

/// What heads of this version that live at `now_ms` are greater than; heads of it that do not are
/// smaller.
pub(super) fn alive(version: Version, now_ms: u64) -> Vec<u8> {
    let mut bound = below(version);
    bound.extend_from_slice(&now_ms.to_be_bytes());
    // Greater than the first byte of any record.
    bound.push(0xFF);
    bound
}

#[cfg(test)]
mod tests;

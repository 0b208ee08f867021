//! What the cache keeps of a key, and its form in the tiers below the memory.

use bytes::{BufMut, Bytes, BytesMut};

use crate::backend::{Object, ObjectHead, ReadOptions};
use crate::error::Result;
use crate::key::{check_range, check_range_start};
use crate::metadata::Metadata;
use crate::version::Version;

/// Memory that an entry takes beside key, value and metadata: slot, index, policy and allocations.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// First byte of the stored form.
const FORMAT: u8 = 1;

/// Bytes before the metadata: format, token, time, version, expiry, length of the metadata, length
/// of the name.
const FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 4 + 4;

/// What a key held at a moment.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The object, or `None` where there was none.
    pub(super) found: Option<Found>,
    /// When it was read, on the monotonic clock, in milliseconds: a moment before the primary was
    /// asked.
    pub(super) read_at_ms: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) head: ObjectHead,
    pub(super) value: Bytes,
}

impl Entry {
    pub(super) fn version(&self) -> Option<Version> {
        self.found.as_ref().map(|found| found.head.version)
    }

    /// When the object expires, in milliseconds since the Unix epoch.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        self.found.as_ref().and_then(|found| found.head.expires_at_ms)
    }

    /// Whether the object has not expired.
    pub(super) fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_none_or(|at| at > now_ms)
    }

    /// Memory that it takes under a key.
    pub(super) fn weight(&self, key: &str) -> u64 {
        let Some(found) = &self.found else { return ENTRY_OVERHEAD_BYTES + key.len() as u64 };
        let metadata = &found.head.metadata;
        let described = metadata.content_type.as_ref().map_or(0, String::len)
            + metadata
                .user
                .iter()
                .map(|(name, value)| name.len() + value.len() + 64)
                .sum::<usize>();
        ENTRY_OVERHEAD_BYTES + (key.len() + found.value.len() + described) as u64
    }

    /// The same with bytes of its own, which keep no larger buffer and no mapped file alive.
    pub(super) fn own(&self) -> Self {
        let found = self.found.as_ref().map(|found| Found {
            head: found.head.clone(),
            value: Bytes::copy_from_slice(&found.value),
        });
        Self { found, read_at_ms: self.read_at_ms }
    }

    /// What a read with these options answers.
    pub(super) fn answer(&self, options: &ReadOptions) -> Result<Option<Object>> {
        options.condition.require(self.version())?;
        let Some(Found { head, value }) = &self.found else { return Ok(None) };
        let (start, end) = match &options.range {
            None => (0, value.len()),
            Some(range) => {
                check_range(range)?;
                check_range_start(range.start, head.size)?;
                // Both are at most the size, which is a `usize`.
                (range.start as usize, range.end.min(head.size) as usize)
            }
        };
        let range = start as u64..end as u64;
        Ok(Some(Object { head: head.clone(), value: value.slice(start..end), range }))
    }
}

/// An entry as it lies in a tier below the memory.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) head: ObjectHead,
    pub(super) value: Bytes,
    /// Of the tier when the entry was put there: see [`super::tier::Tier::trusts`].
    pub(super) token: u64,
    /// When it was read from the primary, in milliseconds since the Unix epoch.
    pub(super) read_at_ms: u64,
}

impl Stored {
    /// The stored form: integers little-endian, then metadata, name, value, and a CRC-32C of all
    /// before it. The name binds it to its key: what lies in a wrong place is found out.
    pub(super) fn encode(&self, name: &str) -> Result<Bytes> {
        let metadata = self.head.metadata.encode()?;
        let size = FIXED_BYTES + metadata.len() + name.len() + self.value.len() + 4;
        let mut out = BytesMut::with_capacity(size);
        out.put_u8(FORMAT);
        out.put_u64_le(self.token);
        out.put_u64_le(self.read_at_ms);
        out.put_u64_le(self.head.version.as_u64());
        out.put_u64_le(self.head.expires_at_ms.unwrap_or(0));
        out.put_u32_le(metadata.len() as u32);
        out.put_u32_le(name.len() as u32);
        out.extend_from_slice(&metadata);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&self.value);
        let checksum = crc32c::crc32c(&out);
        out.put_u32_le(checksum);
        Ok(out.freeze())
    }

    /// Reads the stored form; `None` for anything else, and for the entry of another name.
    pub(super) fn decode(bytes: &Bytes, name: &str) -> Option<Self> {
        let body = bytes.len().checked_sub(4)?;
        let (checked, checksum) = bytes.split_at_checked(body)?;
        if crc32c::crc32c(checked).to_le_bytes() != checksum {
            return None;
        }
        let (&format, rest) = checked.split_first()?;
        let (token, rest) = take_u64(rest)?;
        let (read_at_ms, rest) = take_u64(rest)?;
        let (version, rest) = take_u64(rest)?;
        let (expires_at_ms, rest) = take_u64(rest)?;
        let (metadata_len, rest) = take_u32(rest)?;
        let (name_len, rest) = take_u32(rest)?;
        let (metadata, rest) = rest.split_at_checked(metadata_len as usize)?;
        let (stored_name, value) = rest.split_at_checked(name_len as usize)?;
        if format != FORMAT || stored_name != name.as_bytes() {
            return None;
        }
        let head = ObjectHead {
            version: Version::from_u64(version),
            size: value.len() as u64,
            expires_at_ms: (expires_at_ms != 0).then_some(expires_at_ms),
            metadata: Metadata::decode(metadata).ok()?,
        };
        let value = bytes.slice(body - value.len()..body);
        Some(Self { head, value, token, read_at_ms })
    }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk::<8>().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk::<4>().map(|(number, rest)| (u32::from_le_bytes(*number), rest))
}

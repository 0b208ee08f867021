//! The item: one change to one key, as it stands in a record.
//!
//! ```text
//! | op 1 | flags 1 | key_len 2 | namespace 4 | expires_at_ms 8 | meta_len 4 | value_len 4 | crc 4 |
//! | key | metadata | block checksums 4 each (flag BLOCKS) | version 8 (flag VERSION) | value |
//! ```
//!
//! The CRC32C covers the fields before it, the version, and all that follows it but the value, which
//! it covers without the flag BLOCKS. See `docs/formats/store.md`.

use std::borrow::Cow;

use sira_log::checksum::crc32c_combine;

use super::NamespaceId;
use crate::error::{Result, StorageError};
use crate::limits::{BLOCK_BYTES, BLOCK_VALUE_BYTES_MIN};
use crate::version::Version;

/// Bytes of the fixed part.
pub(super) const ITEM_BYTES: usize = 28;

/// From this size on, combining the value's checksum into those of item and frame is quicker than
/// going over the value twice.
const COMBINE_BYTES_MIN: usize = 4096;

/// The value lies apart from the item and has a checksum for each block.
const FLAG_BLOCKS: u8 = 1;

/// The item has a version of its own, in the place of its record's.
const FLAG_VERSION: u8 = 2;

/// Bytes of that version.
const VERSION_BYTES: usize = 8;

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Stores a value.
    Put = 1,
    /// Removes the key.
    Delete = 2,
}

/// The fixed part of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ItemHeader {
    pub op: Op,
    pub blocks: bool,
    pub versioned: bool,
    pub key_len: u16,
    pub namespace: NamespaceId,
    /// 0 is never.
    pub expires_at_ms: u64,
    pub meta_len: u32,
    pub value_len: u32,
    pub crc: u32,
}

impl ItemHeader {
    /// Reads the fixed part; `None` for bytes that are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ITEM_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let op = match bytes[0] {
            1 => Op::Put,
            2 => Op::Delete,
            _ => return None,
        };
        Some(Self {
            op,
            blocks: bytes[1] & FLAG_BLOCKS != 0,
            versioned: bytes[1] & FLAG_VERSION != 0,
            key_len: u16::from_le_bytes([bytes[2], bytes[3]]),
            namespace: NamespaceId(u32_at(4)),
            expires_at_ms: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            meta_len: u32_at(16),
            value_len: u32_at(20),
            crc: u32_at(24),
        })
    }

    /// Encodes the fixed part, without the checksum.
    fn encode(&self) -> [u8; ITEM_BYTES] {
        let mut out = [0; ITEM_BYTES];
        out[0] = self.op as u8;
        out[1] = if self.blocks { FLAG_BLOCKS } else { 0 }
            | if self.versioned { FLAG_VERSION } else { 0 };
        out[2..4].copy_from_slice(&self.key_len.to_le_bytes());
        out[4..8].copy_from_slice(&self.namespace.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.expires_at_ms.to_le_bytes());
        out[16..20].copy_from_slice(&self.meta_len.to_le_bytes());
        out[20..24].copy_from_slice(&self.value_len.to_le_bytes());
        out
    }

    /// Block checksums behind the metadata.
    pub(super) fn block_count(&self) -> usize {
        if self.blocks { (self.value_len as usize).div_ceil(BLOCK_BYTES) } else { 0 }
    }

    /// Bytes from the start of the item to its value, where that follows at once.
    pub(super) fn lead_len(&self) -> usize {
        let version = if self.versioned { VERSION_BYTES } else { 0 };
        let blocks = self.block_count() * 4;
        ITEM_BYTES + usize::from(self.key_len) + self.meta_len as usize + blocks + version
    }

    /// The version of an item that begins with these bytes, in a record of this version; `None` when
    /// they are cut off.
    pub(super) fn version(&self, item: &[u8], record: Version) -> Option<Version> {
        if !self.versioned {
            return Some(record);
        }
        let bytes = item.get(..self.lead_len())?.last_chunk::<VERSION_BYTES>()?;
        Some(Version::from_u64(u64::from_le_bytes(*bytes)))
    }

    /// Bytes of the whole item where its value follows at once.
    pub(super) fn inline_len(&self) -> usize {
        self.lead_len() + if self.blocks { 0 } else { self.value_len as usize }
    }

    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        (self.expires_at_ms != 0).then_some(self.expires_at_ms)
    }

    /// Whether the item has expired at `now_ms`.
    pub(super) fn expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms != 0 && self.expires_at_ms <= now_ms
    }
}

/// What a change writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewItem<'a> {
    pub op: Op,
    pub namespace: NamespaceId,
    pub key: &'a [u8],
    pub expires_at_ms: Option<u64>,
    pub metadata: &'a [u8],
    pub value: &'a [u8],
    /// The version is not the record's.
    pub versioned: bool,
}

/// An item without its value, ready to be written.
#[derive(Debug)]
pub(super) struct EncodedLead {
    /// All that is before the value.
    pub lead: Lead,
    /// CRC32C of the value, where it was computed on the way.
    pub value_crc: Option<u32>,
    /// The value is to be aligned.
    pub aligned: bool,
}

/// Bytes that mostly fit on the stack.
#[allow(clippy::large_enum_variant, reason = "on the stack, so that small writes allocate nothing")]
#[derive(Debug)]
pub(super) enum Lead {
    Small { bytes: [u8; Lead::SMALL], len: usize },
    Large(Vec<u8>),
}

impl Lead {
    const SMALL: usize = 256;

    fn new(len: usize) -> Self {
        if len <= Self::SMALL {
            Self::Small { bytes: [0; Self::SMALL], len }
        } else {
            Self::Large(vec![0; len])
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small { bytes, len } => &mut bytes[..*len],
            Self::Large(bytes) => bytes,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small { bytes, len } => &bytes[..*len],
            Self::Large(bytes) => bytes,
        }
    }
}

impl NewItem<'_> {
    /// Encodes all but the value. `alone` says that the item has a record of its own, where a
    /// large value is aligned and checked by blocks.
    pub(super) fn encode(&self, version: Version, alone: bool) -> Result<EncodedLead> {
        let too_large = |what: &str| StorageError::too_large(format!("the {what} is too large"));
        let header = ItemHeader {
            op: self.op,
            blocks: alone && self.value.len() >= BLOCK_VALUE_BYTES_MIN,
            versioned: self.versioned,
            key_len: u16::try_from(self.key.len()).map_err(|_| too_large("key"))?,
            namespace: self.namespace,
            expires_at_ms: self.expires_at_ms.map_or(0, |at| at.max(1)),
            meta_len: u32::try_from(self.metadata.len()).map_err(|_| too_large("metadata"))?,
            value_len: u32::try_from(self.value.len()).map_err(|_| too_large("value"))?,
            crc: 0,
        };
        let mut lead = Lead::new(header.lead_len());
        let out = lead.bytes_mut();
        out[..ITEM_BYTES].copy_from_slice(&header.encode());
        let mut at = ITEM_BYTES;
        for part in [self.key, self.metadata] {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let mut value_crc = None;
        if header.blocks {
            let mut whole = 0;
            for block in self.value.chunks(BLOCK_BYTES) {
                let crc = crc32c::crc32c(block);
                out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
                at += 4;
                whole = crc32c_combine(whole, crc, block.len());
            }
            value_crc = Some(whole);
        }
        if header.versioned {
            out[at..at + VERSION_BYTES].copy_from_slice(&version.as_u64().to_le_bytes());
        }
        let mut crc = lead_crc(&out[..24], version, &out[ITEM_BYTES..]);
        if !header.blocks && alone && self.value.len() >= COMBINE_BYTES_MIN {
            let value = crc32c::crc32c(self.value);
            crc = crc32c_combine(crc, value, self.value.len());
            value_crc = Some(value);
        } else if !header.blocks {
            crc = crc32c::crc32c_append(crc, self.value);
        }
        out[24..ITEM_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(EncodedLead { lead, value_crc, aligned: header.blocks })
    }
}

fn lead_crc(fields: &[u8], version: Version, rest: &[u8]) -> u32 {
    let crc = crc32c::crc32c(fields);
    let crc = crc32c::crc32c_append(crc, &version.as_u64().to_le_bytes());
    crc32c::crc32c_append(crc, rest)
}

/// A verified item, borrowed or held.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub header: ItemHeader,
    pub version: Version,
    /// All that is before the value.
    pub lead: Cow<'a, [u8]>,
}

impl Item<'_> {
    /// Verifies the item's lead; with `value`, the value of an item without blocks too.
    pub(super) fn verify(&self, value: Option<&[u8]>) -> bool {
        let Some(rest) = self.lead.get(ITEM_BYTES..) else { return false };
        let crc = lead_crc(&self.lead[..24], self.version, rest);
        match value {
            Some(value) if !self.header.blocks => {
                crc32c::crc32c_append(crc, value) == self.header.crc
            }
            _ => crc == self.header.crc,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.lead.get(ITEM_BYTES..ITEM_BYTES + usize::from(self.header.key_len)).unwrap_or_default()
    }

    pub(super) fn metadata(&self) -> &[u8] {
        let start = ITEM_BYTES + usize::from(self.header.key_len);
        self.lead.get(start..start + self.header.meta_len as usize).unwrap_or_default()
    }

    /// Verifies the blocks of a large value that `bytes` begins with block `first`; the last block
    /// may be shorter.
    pub(super) fn verify_blocks(&self, first: usize, bytes: &[u8]) -> bool {
        let table = ITEM_BYTES + usize::from(self.header.key_len) + self.header.meta_len as usize;
        let Some(table) = self.lead.get(table..) else { return false };
        bytes.chunks(BLOCK_BYTES).enumerate().all(|(n, block)| {
            let at = (first + n) * 4;
            table
                .get(at..at + 4)
                .and_then(|crc| crc.first_chunk())
                .is_some_and(|crc| u32::from_le_bytes(*crc) == crc32c::crc32c(block))
        })
    }
}

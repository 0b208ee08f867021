//! The seal: what the stored bytes of a value are, and its encoding.

use std::ops::Range;

use bytes::Bytes;

use super::cipher::{COMMITMENT_BYTES, Cipher, SALT_BYTES, TAG_BYTES, WRAPPED_BYTES};
use super::codec::Codec;
use super::keyring::KEY_ID_BYTES_MAX;
use crate::error::{Result, StorageError};
use crate::limits::{SEAL_BYTES_MAX, SEAL_SEGMENT_BYTES, VALUE_BYTES_MAX};
use crate::version::Version;

/// Version of the layout.
const FORMAT: u8 = 1;

/// Set in a segment's length when its bytes are not compressed.
const RAW: u32 = 1 << 31;

/// What the stored bytes of a value are. It lies beside them, in
/// [`Metadata::seal`](crate::Metadata::seal); `docs/formats/envelope.md` draws it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub(super) codec: Codec,
    pub(super) plain_bytes: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) protection: Protection,
}

/// How a value is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protection {
    /// Against accidents only: CRC32C of the plain bytes.
    Checksum(u32),
    /// Encrypted.
    Encrypted(Box<Encrypted>),
}

/// How a value is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encrypted {
    pub(super) cipher: Cipher,
    /// Version of the object when its segments were encrypted.
    pub(super) sealed_version: Version,
    pub(super) key_id: String,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) commitment: [u8; COMMITMENT_BYTES],
    pub(super) wrapped: [u8; WRAPPED_BYTES],
}

/// One segment as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) stored_bytes: u32,
    /// Not compressed.
    pub(super) raw: bool,
    /// CRC32C of the stored bytes.
    pub(super) checksum: u32,
}

impl Seal {
    /// Bytes of the value.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Bytes that are stored for it.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.stored_bytes)).sum()
    }

    /// What made it smaller.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What it is encrypted with, and the id of the key.
    #[must_use]
    pub fn encryption(&self) -> Option<(Cipher, &str)> {
        self.encrypted().map(|encrypted| (encrypted.cipher, encrypted.key_id.as_str()))
    }

    /// Which stored bytes are needed for these bytes of the value; the end is cut to its size.
    #[must_use]
    pub fn stored_range(&self, range: &Range<u64>) -> Range<u64> {
        let span = self.span(range);
        let bytes = |segments: &[Segment]| -> u64 {
            segments.iter().map(|segment| u64::from(segment.stored_bytes)).sum()
        };
        let start = bytes(self.segments.get(..span.start).unwrap_or_default());
        start..start + bytes(self.segments.get(span).unwrap_or_default())
    }

    /// Which segments hold these bytes of the value.
    pub(super) fn span(&self, range: &Range<u64>) -> Range<usize> {
        let end = range.end.min(self.plain_bytes);
        if range.start == 0 && end == self.plain_bytes {
            return 0..self.segments.len();
        }
        if range.start >= end {
            return 0..0;
        }
        let segment = SEAL_SEGMENT_BYTES as u64;
        (range.start / segment) as usize..end.div_ceil(segment) as usize
    }

    /// Bytes of the value in a segment.
    pub(super) fn plain_bytes_of(&self, number: usize) -> usize {
        let start = number as u64 * SEAL_SEGMENT_BYTES as u64;
        (self.plain_bytes.saturating_sub(start) as usize).min(SEAL_SEGMENT_BYTES)
    }

    pub(super) fn encrypted(&self) -> Option<&Encrypted> {
        match &self.protection {
            Protection::Checksum(_) => None,
            Protection::Encrypted(encrypted) => Some(encrypted),
        }
    }

    /// All that the wrapped key is bound to.
    pub(super) fn encode_head(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, self.codec as u8, 0, 0];
        let checksum = match &self.protection {
            Protection::Checksum(checksum) => *checksum,
            // The checksum of a secret would tell something of it.
            Protection::Encrypted(_) => 0,
        };
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&self.plain_bytes.to_le_bytes());
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            let raw = if segment.raw { RAW } else { 0 };
            out.extend_from_slice(&(segment.stored_bytes | raw).to_le_bytes());
            out.extend_from_slice(&segment.checksum.to_le_bytes());
        }
        if let Some(encrypted) = self.encrypted() {
            out[2] = encrypted.cipher as u8;
            out.extend_from_slice(&encrypted.sealed_version.as_u64().to_le_bytes());
            // Ids are shorter than this.
            out.push(encrypted.key_id.len() as u8);
            out.extend_from_slice(encrypted.key_id.as_bytes());
            out.extend_from_slice(&encrypted.salt);
            out.extend_from_slice(&encrypted.commitment);
        }
        out
    }

    /// The stored form.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] past [`SEAL_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes> {
        let mut out = self.encode_head();
        if let Some(encrypted) = self.encrypted() {
            out.extend_from_slice(&encrypted.wrapped);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        if out.len() > SEAL_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "a value of {} bytes is too large to be compressed or encrypted",
                self.plain_bytes
            )));
        }
        Ok(out.into())
    }

    /// Reads the stored form. What it says is checked against itself, so that sizes and lengths fit
    /// together; it is not authenticated before a value is opened with it.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for bytes that [`Seal::encode`] does not write,
    /// [`StorageError::Unsupported`] for a format that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(format) => {
                return Err(StorageError::unsupported(format!(
                    "the seal of the value has format {format}, this version reads {FORMAT}"
                )));
            }
            None => return Err(malformed()),
        }
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(StorageError::corrupt("the seal of the value fails its checksum"));
        }
        let mut fields = Fields(body);
        fields
            .seal()
            .filter(|seal| fields.0.is_empty() && seal.is_consistent())
            .ok_or_else(malformed)
    }

    /// Whether sizes and segments fit together.
    fn is_consistent(&self) -> bool {
        let tag = if self.encrypted().is_some() { TAG_BYTES } else { 0 };
        let least = u64::from(self.encrypted().is_some());
        let count = self.plain_bytes.div_ceil(SEAL_SEGMENT_BYTES as u64).max(least);
        self.plain_bytes <= VALUE_BYTES_MAX as u64
            && count == self.segments.len() as u64
            && self.segments.iter().enumerate().all(|(number, segment)| {
                let plain = self.plain_bytes_of(number);
                match (segment.stored_bytes as usize).checked_sub(tag) {
                    Some(len) if segment.raw => len == plain,
                    Some(len) => self.codec != Codec::None && len > 0 && len < plain,
                    None => false,
                }
            })
    }
}

fn malformed() -> StorageError {
    StorageError::corrupt("the seal of the value is malformed")
}

/// Fields of an encoded seal, taken from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn seal(&mut self) -> Option<Seal> {
        let [_, codec, cipher, reserved] = self.take()?;
        let codec = Codec::from_number(codec).filter(|_| reserved == 0)?;
        let checksum = self.u32()?;
        let plain_bytes = self.u64()?;
        let count = self.u32()? as usize;
        // Nothing is reserved for segments that are not there.
        if count > self.0.len() / 8 {
            return None;
        }
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let (len, checksum) = (self.u32()?, self.u32()?);
            segments.push(Segment { stored_bytes: len & !RAW, raw: len & RAW != 0, checksum });
        }
        let protection = match cipher {
            0 => Protection::Checksum(checksum),
            _ if checksum != 0 => return None,
            number => {
                Protection::Encrypted(Box::new(self.encrypted(Cipher::from_number(number)?)?))
            }
        };
        Some(Seal { codec, plain_bytes, segments, protection })
    }

    fn encrypted(&mut self, cipher: Cipher) -> Option<Encrypted> {
        let sealed_version = Version::from_u64(self.u64()?);
        let [id_bytes] = self.take()?;
        let (id, rest) = self.0.split_at_checked(usize::from(id_bytes))?;
        self.0 = rest;
        let key_id = std::str::from_utf8(id).ok().filter(|id| id.len() <= KEY_ID_BYTES_MAX)?;
        Some(Encrypted {
            cipher,
            sealed_version,
            key_id: key_id.to_owned(),
            salt: self.take()?,
            commitment: self.take()?,
            wrapped: self.take()?,
        })
    }
}

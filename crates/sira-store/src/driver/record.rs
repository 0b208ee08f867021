//! A record, and its form for engines that keep plain bytes under a key.

use bytes::{BufMut, Bytes, BytesMut};

use super::guard::Held;
use crate::error::{Result, StorageError};
use crate::version::Version;

/// First bytes of an encoded record.
const MAGIC: [u8; 4] = *b"SREC";

/// Version of the layout.
const FORMAT: u8 = 1;

/// Bytes of an encoded record before its envelope.
pub const HEAD_BYTES: usize = 48;

/// Most bytes of an envelope: metadata, checksums of a value of 4 GiB and what is around them.
const ENVELOPE_BYTES_MAX: u32 = 1024 * 1024;

/// What an outside engine keeps under a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Version of the object.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Bytes of the object's value, which are more than the body's when it lies in chunks.
    pub size: u64,
    /// What describes the object; opaque to a driver, from some 20 bytes to some tens of KiB.
    pub envelope: Bytes,
    /// The bytes, or the part of them that was asked for.
    pub body: Bytes,
}

impl Record {
    /// What a guard looks at.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { version: self.version, expires_at_ms: self.expires_at_ms }
    }

    /// The record as one piece, as `docs/formats/envelope.md` draws it: a head of [`HEAD_BYTES`],
    /// the envelope, the body. The length is odd exactly when the record expires, so that a listing
    /// of sizes tells which ones may have.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        self.encode_head(&mut out);
        out.put_slice(&self.body);
        if self.is_padded() {
            out.put_u8(0);
        }
        out.freeze()
    }

    /// Bytes that [`Record::encode`] gives.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEAD_BYTES + self.envelope.len() + self.body.len() + usize::from(self.is_padded())
    }

    /// Head and envelope of the encoded form; what follows is the body, and a zero byte where
    /// [`Record::encoded_bytes`] says so.
    pub fn encode_head(&self, out: &mut BytesMut) {
        let begin = out.len();
        out.put_slice(&MAGIC);
        out.put_u8(FORMAT);
        out.put_slice(&[0; 3]);
        out.put_u64_le(self.version.as_u64());
        out.put_u64_le(self.expires_at_ms.unwrap_or(0));
        out.put_u64_le(self.size);
        out.put_u64_le(self.body.len() as u64);
        out.put_u32_le(u32::try_from(self.envelope.len()).unwrap_or(u32::MAX));
        let sum = crc32c::crc32c(out.get(begin..).unwrap_or_default());
        out.put_u32_le(crc32c::crc32c_append(sum, &self.envelope));
        out.put_slice(&self.envelope);
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for bytes that are no record.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let head = RecordHead::decode(bytes)?;
        let begin = head.body_start();
        let end = usize::try_from(head.body_bytes).ok().and_then(|len| begin.checked_add(len));
        match end {
            Some(end) if end <= bytes.len() => head.into_record(bytes, bytes.slice(begin..end)),
            _ => Err(malformed("it is cut off")),
        }
    }

    fn is_padded(&self) -> bool {
        let odd = (HEAD_BYTES + self.envelope.len() + self.body.len()) % 2 == 1;
        odd != self.expires_at_ms.is_some()
    }
}

/// The first [`HEAD_BYTES`] of an encoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Version of the object.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Bytes of the object's value.
    pub size: u64,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes of the envelope.
    pub envelope_bytes: u32,
    checksum: u32,
}

impl RecordHead {
    /// Reads the head from the first bytes of an encoded record. The checksum, which covers the
    /// envelope too, is checked by [`RecordHead::into_record`].
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for bytes that are no record.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Err(malformed("it is shorter than a head"));
        };
        if !head.starts_with(&MAGIC) {
            return Err(malformed("it does not begin as a record does"));
        }
        if head[4] != FORMAT {
            return Err(StorageError::unsupported(format!(
                "the stored record has format {}, this version reads {FORMAT}",
                head[4]
            )));
        }
        let u64_at = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (envelope_bytes, checksum) = (u64_at(40) as u32, (u64_at(40) >> 32) as u32);
        if envelope_bytes > ENVELOPE_BYTES_MAX {
            return Err(malformed("its envelope is larger than any"));
        }
        Ok(Self {
            version: Version::from_u64(u64_at(8)),
            expires_at_ms: Some(u64_at(16)).filter(|at| *at != 0),
            size: u64_at(24),
            body_bytes: u64_at(32),
            envelope_bytes,
            checksum,
        })
    }

    /// What a guard looks at.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { version: self.version, expires_at_ms: self.expires_at_ms }
    }

    /// Where the body begins in the encoded record.
    #[must_use]
    pub fn body_start(&self) -> usize {
        HEAD_BYTES + self.envelope_bytes as usize
    }

    /// The record of this head: `prefix` begins with head and envelope, `body` is the part of the
    /// body that was read.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when head and envelope do not match their checksum.
    pub fn into_record(self, prefix: &Bytes, body: Bytes) -> Result<Record> {
        if prefix.len() < self.body_start() {
            return Err(malformed("its envelope is cut off"));
        }
        let envelope = prefix.slice(HEAD_BYTES..self.body_start());
        let sum = crc32c::crc32c(&prefix[..HEAD_BYTES - 4]);
        if crc32c::crc32c_append(sum, &envelope) != self.checksum {
            return Err(malformed("its head does not match its checksum"));
        }
        Ok(Record {
            version: self.version,
            expires_at_ms: self.expires_at_ms,
            size: self.size,
            envelope,
            body,
        })
    }
}

fn malformed(why: &str) -> StorageError {
    StorageError::corrupt(format!("the stored bytes are no record of this store: {why}"))
}

#[cfg(test)]
mod tests;

//! What a committed transaction is going to write, as it is kept until it is written.
//! `docs/formats/transactions.md` draws it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::backend::ObjectHead;
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::version::Version;

const MAGIC: &[u8; 4] = b"STXN";

/// Version of the layout.
const FORMAT: u8 = 1;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// One key of a transaction, and what it holds from the commit on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) namespace: Arc<str>,
    pub(super) key: String,
    /// Greater than that of anything the key held before.
    pub(super) version: Version,
    /// `None` where the key holds nothing.
    pub(super) put: Option<Put>,
}

/// An object, but for its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) value: Bytes,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Metadata,
}

impl Write {
    /// What the key holds at this time.
    pub(super) fn head(&self, now_ms: u64) -> Option<ObjectHead> {
        let put = self.put.as_ref().filter(|put| put.expires_at_ms.is_none_or(|at| at > now_ms))?;
        Some(ObjectHead {
            version: self.version,
            size: put.value.len() as u64,
            expires_at_ms: put.expires_at_ms,
            metadata: put.metadata.clone(),
        })
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn weight(&self) -> usize {
        self.namespace.len() + self.key.len() + self.put.as_ref().map_or(0, |put| put.value.len())
    }
}

/// The stored form of a transaction's writes.
///
/// # Errors
/// [`StorageError::TooLarge`] for metadata over its limit, [`StorageError::InvalidInput`] for
/// metadata that cannot be stored.
pub(super) fn encode(writes: &[Write]) -> Result<Bytes> {
    let weight: usize = writes.iter().map(|write| write.weight() + 32).sum();
    let mut out = BytesMut::with_capacity(weight + 16);
    out.put_slice(MAGIC);
    out.put_u8(FORMAT);
    put_length(&mut out, writes.len())?;
    for write in writes {
        put_bytes(&mut out, write.namespace.as_bytes())?;
        put_bytes(&mut out, write.key.as_bytes())?;
        out.put_u64_le(write.version.as_u64());
        match &write.put {
            None => out.put_u8(DELETE),
            Some(put) => {
                out.put_u8(PUT);
                out.put_u64_le(put.expires_at_ms.unwrap_or(0));
                put_bytes(&mut out, &put.metadata.encode()?)?;
                put_bytes(&mut out, &put.value)?;
            }
        }
    }
    out.put_u32_le(crc32c::crc32c(&out));
    Ok(out.freeze())
}

fn put_length(out: &mut BytesMut, length: usize) -> Result<()> {
    let length = u32::try_from(length)
        .map_err(|_| StorageError::too_large("a part of the transaction is too large"))?;
    out.put_u32_le(length);
    Ok(())
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<()> {
    put_length(out, bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

/// Reads the stored form.
///
/// # Errors
/// [`StorageError::Corrupt`] for bytes that [`encode`] does not write, and
/// [`StorageError::Unsupported`] for a newer format.
pub(super) fn decode(bytes: &Bytes) -> Result<Vec<Write>> {
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(malformed("it is shorter than its checksum"));
    };
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(malformed("it does not match its checksum"));
    }
    let mut rest = Reader { bytes: bytes.slice(..body.len()), at: 0 };
    if rest.take(MAGIC.len())? != MAGIC[..] {
        return Err(malformed("it does not begin as one"));
    }
    match rest.byte()? {
        FORMAT => {}
        format => {
            return Err(StorageError::unsupported(format!(
                "a newer version of Sira wrote the transaction, in format {format}; this one reads \
                 {FORMAT}"
            )));
        }
    }
    let count = rest.u32()?;
    let mut writes = Vec::new();
    for _ in 0..count {
        let namespace = rest.text()?.into();
        let key = rest.text()?;
        let version = Version::from_u64(rest.u64()?);
        let put = match rest.byte()? {
            DELETE => None,
            PUT => {
                let expires_at_ms = Some(rest.u64()?).filter(|at| *at != 0);
                let metadata = Metadata::decode(&rest.sized()?)?;
                Some(Put { value: rest.sized()?, expires_at_ms, metadata })
            }
            _ => return Err(malformed("a write is neither a value nor a removal")),
        };
        writes.push(Write { namespace, key, version, put });
    }
    match rest.at == body.len() {
        true => Ok(writes),
        false => Err(malformed("something follows its last write")),
    }
}

struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| malformed("it ends in the middle of a write"))?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken
            .first_chunk::<N>()
            .copied()
            .ok_or_else(|| malformed("it ends in the middle of a write"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    fn sized(&mut self) -> Result<Bytes> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Result<String> {
        let bytes = self.sized()?;
        String::from_utf8(bytes.into()).map_err(|_| malformed("a name is not UTF-8"))
    }
}

fn malformed(why: &str) -> StorageError {
    StorageError::corrupt(format!("the record of a committed transaction is malformed: {why}"))
}

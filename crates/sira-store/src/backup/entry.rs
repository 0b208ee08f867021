//! What a snapshot says of one object, and pages of such entries.
//!
//! A page is a chunk like those of values. It ends where the hash of a key says so, so that a page
//! of which nothing has changed is the same chunk in the next snapshot.

use super::codec::{Reader, put_u16, put_u32, put_u64};
use super::digest::Digest;
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::EncryptionType;
use crate::seal::Cipher;
use crate::version::Version;

/// Entries of a page before the hash of a key can end it.
const PAGE_ENTRIES_MIN: usize = 64;

/// One key in this many ends a page.
const PAGE_KEYS: u32 = 512;

/// Bytes from which on a page ends, whatever its keys are.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The value is one chunk, whose digest is the value's.
const FLAG_WHOLE: u8 = 1;

/// Bits of the cipher's number.
const CIPHER_SHIFT: u8 = 1;
const CIPHER_MASK: u8 = 0b110;

/// What a snapshot says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The key. Those of the embedded engine can be any bytes.
    pub key: Vec<u8>,
    /// Version of the object.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Size of the value in bytes.
    pub size: u64,
    /// What is kept beside the bytes.
    pub metadata: Metadata,
    /// SHA-256 of the value.
    pub digest: Digest,
    /// What the value was encrypted with; it is stored so again.
    pub cipher: Option<Cipher>,
    /// The chunks of the value in order.
    pub chunks: Vec<Digest>,
}

impl SnapshotEntry {
    /// How the value is to be encrypted when it is stored again: with the current key.
    pub(super) fn encryption(&self) -> EncryptionType {
        let key_id = String::new();
        match self.cipher {
            None => EncryptionType::None,
            Some(Cipher::Aes256Gcm) => EncryptionType::Aes256Gcm { key_id },
            Some(Cipher::ChaCha20Poly1305) => EncryptionType::ChaCha20Poly1305 { key_id },
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let metadata = self.metadata.encode()?;
        let whole = self.chunks == [self.digest];
        let cipher = self.cipher.map_or(0, |cipher| cipher as u8) << CIPHER_SHIFT;
        out.push(cipher | if whole { FLAG_WHOLE } else { 0 });
        put_u16(out, self.key.len() as u16);
        put_u32(out, metadata.len() as u32);
        put_u64(out, self.version.as_u64());
        put_u64(out, self.expires_at_ms.unwrap_or(0));
        put_u64(out, self.size);
        out.extend_from_slice(self.digest.as_bytes());
        if !whole {
            put_u32(out, self.chunks.len() as u32);
            for chunk in &self.chunks {
                out.extend_from_slice(chunk.as_bytes());
            }
        }
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&metadata);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let flags = reader.u8()?;
        let cipher = match (flags & CIPHER_MASK) >> CIPHER_SHIFT {
            0 => None,
            1 => Some(Cipher::Aes256Gcm),
            2 => Some(Cipher::ChaCha20Poly1305),
            _ => return Err(StorageError::corrupt("an entry of the backup names no cipher")),
        };
        let (key_len, meta_len) = (reader.u16()?, reader.u32()?);
        let version = Version::from_u64(reader.u64()?);
        let expires_at_ms = Some(reader.u64()?).filter(|at| *at > 0);
        let size = reader.u64()?;
        let digest = reader.digest()?;
        let chunks = match flags & FLAG_WHOLE {
            0 => {
                let count = reader.u32()?;
                (0..count).map(|_| reader.digest()).collect::<Result<_>>()?
            }
            _ => vec![digest],
        };
        let key = reader.bytes(key_len.into())?.to_vec();
        let metadata = Metadata::decode(reader.bytes(meta_len as usize)?)?;
        Ok(Self { key, version, expires_at_ms, size, metadata, digest, cipher, chunks })
    }
}

/// Reads a page.
pub(super) fn decode_page(bytes: &[u8]) -> Result<Vec<SnapshotEntry>> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(SnapshotEntry::decode(&mut reader)?);
    }
    Ok(entries)
}

/// Entries on their way to pages.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    bytes: Vec<u8>,
    entries: usize,
}

impl PageBuilder {
    /// Adds the next entry, in byte order of the keys, and gives the page that ends with it.
    pub(super) fn push(&mut self, entry: &SnapshotEntry) -> Result<Option<Vec<u8>>> {
        entry.encode(&mut self.bytes)?;
        self.entries += 1;
        let by_key = self.entries >= PAGE_ENTRIES_MIN
            && crc32c::crc32c(&entry.key).is_multiple_of(PAGE_KEYS);
        Ok(if by_key || self.bytes.len() >= PAGE_BYTES_MAX { self.finish() } else { None })
    }

    /// The last page, if there is anything on it.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        self.entries = 0;
        let page = std::mem::take(&mut self.bytes);
        (!page.is_empty()).then_some(page)
    }
}

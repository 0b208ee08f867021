//! Packs: many chunks in one object, with a table of them at the end. See `docs/formats/backup.md`.

use bytes::Bytes;

use super::codec::{Reader, put_u32};
use super::digest::{CHUNK_BYTES_MAX, Digest};
use crate::error::{Result, StorageError};

/// Bytes of chunks from which on a pack is full.
pub(super) const PACK_BYTES: usize = 16 * 1024 * 1024;

/// Most chunks of a pack, so that its table stays small.
pub(super) const PACK_CHUNKS_MAX: usize = 65_536;

/// What a pack ends with.
const MAGIC: [u8; 4] = *b"SBP1";

/// Bytes of one line of the table: digest and length.
const LINE_BYTES: usize = Digest::BYTES + 4;

/// Bytes behind the table: count, checksum, magic.
pub(super) const TAIL_BYTES: usize = 12;

/// Random name of a pack or an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackId(pub(super) u128);

impl std::fmt::Display for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl PackId {
    /// The name that a key ends with.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| digits).map(Self)
    }
}

/// What a pack holds, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackTable {
    pub(super) id: PackId,
    /// Digests and lengths of the chunks; each lies behind the one before it.
    pub(super) chunks: Vec<(Digest, u32)>,
}

impl PackTable {
    /// Bytes of all chunks.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// Bytes of the pack before it is sealed.
    pub(super) fn pack_bytes(&self) -> u64 {
        self.chunk_bytes() + (self.chunks.len() * LINE_BYTES + TAIL_BYTES) as u64
    }
}

/// A pack that is being filled.
#[derive(Debug)]
pub(super) struct PackBuilder {
    table: PackTable,
    bytes: Vec<u8>,
}

impl PackBuilder {
    pub(super) fn new(id: PackId) -> Self {
        let table = PackTable { id, chunks: Vec::new() };
        Self { table, bytes: Vec::with_capacity(PACK_BYTES + CHUNK_BYTES_MAX / 4) }
    }

    /// Adds a chunk and says where it begins.
    pub(super) fn add(&mut self, digest: Digest, chunk: &[u8]) -> u32 {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(chunk);
        self.table.chunks.push((digest, chunk.len() as u32));
        offset
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.chunks.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= PACK_BYTES || self.table.chunks.len() >= PACK_CHUNKS_MAX
    }

    /// The bytes to store, with the table behind the chunks.
    pub(super) fn finish(mut self) -> (PackTable, Bytes) {
        let begin = self.bytes.len();
        for (digest, len) in &self.table.chunks {
            self.bytes.extend_from_slice(digest.as_bytes());
            put_u32(&mut self.bytes, *len);
        }
        let checksum = crc32c::crc32c(self.bytes.get(begin..).unwrap_or_default());
        put_u32(&mut self.bytes, self.table.chunks.len() as u32);
        put_u32(&mut self.bytes, checksum);
        self.bytes.extend_from_slice(&MAGIC);
        (self.table, self.bytes.into())
    }
}

/// Bytes of the table and what is behind it, by the last [`TAIL_BYTES`] of a pack.
pub(super) fn table_bytes(tail: &[u8]) -> Result<u64> {
    let mut tail = Reader::new(tail);
    let count = tail.u32()?;
    let _checksum = tail.u32()?;
    if tail.rest() != MAGIC || count as usize > PACK_CHUNKS_MAX {
        return Err(StorageError::corrupt("the end of the pack is no end of a pack"));
    }
    Ok(u64::from(count) * LINE_BYTES as u64 + TAIL_BYTES as u64)
}

/// Reads the table of a pack of so many bytes from its last bytes, which [`table_bytes`] counted.
pub(super) fn read_table(id: PackId, pack_bytes: u64, end: &[u8]) -> Result<PackTable> {
    let wrong = || StorageError::corrupt("the table of the pack fails its checksum");
    let at = end.len().checked_sub(TAIL_BYTES).ok_or_else(wrong)?;
    let (lines, tail) = end.split_at_checked(at).ok_or_else(wrong)?;
    let mut tail = Reader::new(tail);
    let (count, checksum) = (tail.u32()?, tail.u32()?);
    if crc32c::crc32c(lines) != checksum || lines.len() != count as usize * LINE_BYTES {
        return Err(wrong());
    }
    let mut lines = Reader::new(lines);
    let mut chunks = Vec::with_capacity(count as usize);
    for _ in 0..count {
        chunks.push((lines.digest()?, lines.u32()?));
    }
    let table = PackTable { id, chunks };
    if table.pack_bytes() != pack_bytes {
        return Err(StorageError::corrupt("the pack has another size than its table says"));
    }
    Ok(table)
}

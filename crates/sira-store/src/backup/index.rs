//! Which pack holds each chunk: files that name chunks by packs, and the table in memory.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::codec::{Reader, close, open, put_u32, put_u128};
use super::digest::Digest;
use super::pack::{PACK_CHUNKS_MAX, PackId, PackTable};
use crate::error::{Result, StorageError};

/// What an index file begins with.
const MAGIC: [u8; 4] = *b"SBX1";

/// Packs that one index file names at most.
pub(super) const INDEX_PACKS_MAX: usize = 256;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: PackId,
    pub(super) offset: u32,
    pub(super) len: u32,
    /// Bytes of the pack before it is sealed.
    pub(super) pack_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    pack: u32,
    offset: u32,
    len: u32,
}

/// Every chunk of a repository.
#[derive(Debug, Default)]
pub(super) struct ChunkIndex {
    packs: Vec<(PackId, u64)>,
    chunks: HashMap<Digest, Slot, FixedState>,
}

impl ChunkIndex {
    /// Adds what a pack holds. Of a chunk that is there twice, the first place counts.
    pub(super) fn add(&mut self, table: &PackTable) {
        let pack = self.packs.len() as u32;
        self.packs.push((table.id, table.pack_bytes()));
        let mut offset = 0;
        for (digest, len) in &table.chunks {
            self.chunks.entry(*digest).or_insert(Slot { pack, offset, len: *len });
            offset += len;
        }
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Place> {
        let slot = self.chunks.get(digest)?;
        let (pack, pack_bytes) = *self.packs.get(slot.pack as usize)?;
        Some(Place { pack, offset: slot.offset, len: slot.len, pack_bytes })
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.chunks.contains_key(digest)
    }
}

/// Encodes an index file of some packs.
pub(super) fn encode(tables: &[PackTable]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_u32(&mut out, tables.len() as u32);
    for table in tables {
        put_u128(&mut out, table.id.0);
        put_u32(&mut out, table.chunks.len() as u32);
        for (digest, len) in &table.chunks {
            out.extend_from_slice(digest.as_bytes());
            put_u32(&mut out, *len);
        }
    }
    close(out)
}

/// Reads an index file.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<PackTable>> {
    let mut reader = Reader::new(open(bytes)?);
    if reader.bytes(MAGIC.len())? != MAGIC {
        return Err(StorageError::corrupt("an index file of the backup is none"));
    }
    let count = reader.u32()?;
    let mut tables = Vec::new();
    for _ in 0..count {
        let id = PackId(reader.u128()?);
        let chunks = reader.u32()?;
        if chunks as usize > PACK_CHUNKS_MAX {
            return Err(StorageError::corrupt("an index file of the backup names too many chunks"));
        }
        let mut table = PackTable { id, chunks: Vec::with_capacity(chunks as usize) };
        for _ in 0..chunks {
            table.chunks.push((reader.digest()?, reader.u32()?));
        }
        tables.push(table);
    }
    match reader.is_empty() {
        true => Ok(tables),
        false => Err(StorageError::corrupt("an index file of the backup goes on behind its end")),
    }
}

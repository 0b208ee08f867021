//! Chunks on their way into packs.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::task::JoinSet;

use super::digest::Digest;
use super::index::{self, ChunkIndex, INDEX_PACKS_MAX};
use super::lease::Lease;
use super::pack::{PackBuilder, PackTable};
use super::repository::{Repository, index_key, pack_key};
use crate::error::{Result, StorageError};

/// Packs that are sealed and stored at once.
const UPLOADS_MAX: usize = 4;

/// Packs after which an index file names them, so that a run after a crash finds their chunks.
const PACKS_A_FILE: usize = 64;

/// Stores chunks that the repository does not hold.
pub(super) struct PackWriter {
    repository: Repository,
    lease: Arc<Lease>,
    index: Arc<RwLock<ChunkIndex>>,
    current: Option<PackBuilder>,
    /// Digests in packs that are not stored yet.
    pending: std::collections::BTreeSet<Digest>,
    uploads: JoinSet<Result<PackTable>>,
    stored: Vec<PackTable>,
    /// Bytes of chunks that were added.
    bytes: u64,
}

impl PackWriter {
    pub(super) fn new(
        repository: Repository,
        lease: Arc<Lease>,
        index: Arc<RwLock<ChunkIndex>>,
    ) -> Self {
        Self {
            repository,
            lease,
            index,
            current: None,
            pending: std::collections::BTreeSet::new(),
            uploads: JoinSet::new(),
            stored: Vec::new(),
            bytes: 0,
        }
    }

    /// Bytes of chunks that were added, before compression.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stores a chunk unless it is there; says whether it was new.
    pub(super) async fn add(&mut self, digest: Digest, chunk: &[u8]) -> Result<bool> {
        if self.pending.contains(&digest) || self.index.read().contains(&digest) {
            return Ok(false);
        }
        let pack = match &mut self.current {
            Some(pack) => pack,
            None => self.current.insert(PackBuilder::new(self.repository.draw())),
        };
        pack.add(digest, chunk);
        self.pending.insert(digest);
        self.bytes += chunk.len() as u64;
        if pack.is_full() {
            self.send().await?;
        }
        Ok(true)
    }

    /// Sends the current pack on its way.
    async fn send(&mut self) -> Result<()> {
        let Some(pack) = self.current.take().filter(|pack| !pack.is_empty()) else { return Ok(()) };
        while self.uploads.len() >= UPLOADS_MAX {
            self.join().await?;
        }
        self.lease.check()?;
        let repository = self.repository.clone();
        self.uploads.spawn(async move {
            let (table, bytes) = pack.finish();
            repository.put(&pack_key(table.id), bytes).await?;
            Ok(table)
        });
        if self.stored.len() >= PACKS_A_FILE {
            self.name_stored().await?;
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<()> {
        let Some(joined) = self.uploads.join_next().await else { return Ok(()) };
        let table = joined.map_err(|error| {
            StorageError::unavailable("the runtime shut down before the pack was stored")
                .with_source(error)
        })??;
        for (digest, _) in &table.chunks {
            self.pending.remove(digest);
        }
        self.index.write().add(&table);
        self.stored.push(table);
        Ok(())
    }

    /// Writes index files of the packs that are stored.
    async fn name_stored(&mut self) -> Result<()> {
        let tables = std::mem::take(&mut self.stored);
        for tables in tables.chunks(INDEX_PACKS_MAX) {
            self.lease.check()?;
            self.repository.flush().await?;
            let bytes = index::encode(tables);
            self.repository.put(&index_key(self.repository.draw()), bytes.into()).await?;
        }
        Ok(())
    }

    /// Stores what is left, and names it in an index file. After that all chunks can be read.
    ///
    /// # Errors
    /// Those of the target; [`StorageError::Locked`] when another process has begun to write.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.send().await?;
        while !self.uploads.is_empty() {
            self.join().await?;
        }
        self.name_stored().await
    }
}

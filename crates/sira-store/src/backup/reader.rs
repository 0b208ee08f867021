//! Chunks on their way out of packs, each compared with its digest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use super::digest::Digest;
use super::entry::{SnapshotEntry, decode_page};
use super::index::{self, ChunkIndex, Place};
use super::pack::{self, PackId, TAIL_BYTES};
use super::repository::{INDEX, PACKS, Repository, pack_key};
use crate::error::{Result, StorageError};

/// Packs that are held in memory while more of their chunks may be asked for.
const HELD_PACKS: usize = 12;

/// How much of a pack to read for a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// All of it: others of its chunks follow.
    Pack,
    /// What the chunk takes.
    Chunk,
}

type Held = Arc<OnceCell<Option<Bytes>>>;

/// Reads chunks of a repository.
pub(super) struct ChunkReader {
    repository: Repository,
    index: Arc<RwLock<ChunkIndex>>,
    /// The packs that were used last, the newest last. `None` of one that cannot be read whole.
    held: Mutex<VecDeque<(PackId, Held)>>,
}

impl ChunkReader {
    pub(super) fn new(repository: Repository, index: Arc<RwLock<ChunkIndex>>) -> Self {
        Self { repository, index, held: Mutex::default() }
    }

    /// Opens the repository's index.
    pub(super) async fn open(repository: &Repository) -> Result<Self> {
        let index = Arc::new(RwLock::new(load_index(repository).await?));
        Ok(Self::new(repository.clone(), index))
    }

    pub(super) fn place(&self, digest: &Digest) -> Option<Place> {
        self.index.read().find(digest)
    }

    /// The bytes of this digest.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when they are not there, or others are.
    pub(super) async fn chunk(&self, digest: &Digest, fetch: Fetch) -> Result<Bytes> {
        let place = match self.place(digest) {
            Some(place) => place,
            None => {
                self.reload().await?;
                self.place(digest).ok_or_else(|| {
                    StorageError::corrupt(format!(
                        "the backup names a chunk {digest} that no pack holds"
                    ))
                })?
            }
        };
        match self.at(&place, digest, fetch).await {
            Err(StorageError::NotFound(_)) => {
                // A prune has put the chunk into another pack meanwhile.
                self.reload().await?;
                let place = self.place(digest).unwrap_or(place);
                self.at(&place, digest, fetch).await.map_err(|error| {
                    StorageError::corrupt(format!("a pack of the backup is missing: {error}"))
                })
            }
            result => result,
        }
    }

    async fn reload(&self) -> Result<()> {
        let loaded = load_index(&self.repository).await?;
        *self.index.write() = loaded;
        self.held.lock().clear();
        Ok(())
    }

    async fn at(&self, place: &Place, digest: &Digest, fetch: Fetch) -> Result<Bytes> {
        let whole = match fetch {
            Fetch::Pack => self.whole(place).await?,
            Fetch::Chunk => None,
        };
        let (start, len) = (place.offset as usize, place.len as usize);
        let bytes = match whole.as_ref().filter(|whole| whole.len() >= start + len) {
            Some(whole) => whole.slice(start..start + len),
            // Damage elsewhere in the pack is no harm to this chunk.
            None => {
                let key = pack_key(place.pack);
                let (from, len) = (u64::from(place.offset), u64::from(place.len));
                let found = self.repository.get_range(&key, from, len).await;
                let found = found.map_err(|error| match error {
                    StorageError::InvalidInput(_) => StorageError::corrupt("the pack is cut off"),
                    error => error,
                })?;
                found
                    .ok_or_else(|| StorageError::not_found("the pack is not there").with_key(key))?
            }
        };
        if bytes.len() != len || Digest::of(&bytes) != *digest {
            return Err(StorageError::corrupt("a chunk of the backup fails its SHA-256")
                .with_key(pack_key(place.pack)));
        }
        Ok(bytes)
    }

    /// A pack as a whole; `None` where it cannot be read so.
    async fn whole(&self, place: &Place) -> Result<Option<Bytes>> {
        let cell = {
            let mut held = self.held.lock();
            let at = held.iter().position(|(id, _)| *id == place.pack);
            let found = at.and_then(|at| held.remove(at)).map(|(_, cell)| cell);
            let cell = found.unwrap_or_default();
            held.push_back((place.pack, Arc::clone(&cell)));
            if held.len() > HELD_PACKS {
                held.pop_front();
            }
            cell
        };
        let key = pack_key(place.pack);
        let read = || async {
            match self.repository.get(&key).await {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                Ok(None) => Err(StorageError::not_found("the pack is not there").with_key(&key)),
                Err(StorageError::Corrupt(_)) => Ok(None),
                Err(error) => Err(error),
            }
        };
        cell.get_or_try_init(read).await.cloned()
    }

    /// The entries of a page.
    pub(super) async fn page(&self, digest: &Digest) -> Result<Vec<SnapshotEntry>> {
        decode_page(&self.chunk(digest, Fetch::Pack).await?)
    }
}

/// Reads the index files. Of packs that only a damaged one names, their own tables tell.
pub(super) async fn load_index(repository: &Repository) -> Result<ChunkIndex> {
    let mut index = ChunkIndex::default();
    let mut named = std::collections::BTreeSet::new();
    let mut damaged = false;
    for key in repository.keys(INDEX).await? {
        let read = match repository.get(&key).await {
            Ok(Some(bytes)) => index::decode(&bytes),
            // A prune has replaced it meanwhile.
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match read {
            Ok(tables) => {
                for table in &tables {
                    if named.insert(table.id) {
                        index.add(table);
                    }
                }
            }
            Err(error @ (StorageError::Corrupt(_) | StorageError::PermissionDenied(_))) => {
                tracing::warn!(%key, %error, "an index file of the backup cannot be read");
                damaged = true;
            }
            Err(error) => return Err(error),
        }
    }
    if damaged {
        for key in repository.keys(PACKS).await? {
            let id = key.strip_prefix(PACKS).and_then(PackId::parse);
            let Some(id) = id.filter(|id| !named.contains(id)) else { continue };
            match table_of(repository, id).await {
                Ok(table) => index.add(&table),
                Err(error) => tracing::warn!(%key, %error, "a pack of the backup cannot be read"),
            }
        }
    }
    Ok(index)
}

/// Reads the table that a pack ends with.
pub(super) async fn table_of(repository: &Repository, id: PackId) -> Result<pack::PackTable> {
    let key = pack_key(id);
    let missing = || StorageError::not_found("the pack is not there").with_key(&key);
    let size = repository.size(&key).await?.ok_or_else(missing)?;
    let from = size.saturating_sub(TAIL_BYTES as u64);
    let tail = repository.get_range(&key, from, TAIL_BYTES as u64).await?.ok_or_else(missing)?;
    let len = pack::table_bytes(&tail)?;
    let from = size.checked_sub(len).ok_or_else(|| StorageError::corrupt("the pack is cut off"))?;
    let end = repository.get_range(&key, from, len).await?.ok_or_else(missing)?;
    pack::read_table(id, size, &end)
}

/// The entries of a namespace in a snapshot, in byte order of their keys.
pub(super) struct Entries<'a> {
    reader: &'a ChunkReader,
    pages: std::vec::IntoIter<Digest>,
    page: std::iter::Peekable<std::vec::IntoIter<SnapshotEntry>>,
    /// Pages that could not be read.
    damaged: Vec<(Digest, StorageError)>,
    /// Goes on behind a page that cannot be read.
    lenient: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(reader: &'a ChunkReader, pages: &[Digest]) -> Self {
        let page = Vec::new().into_iter().peekable();
        let pages: Vec<Digest> = pages.to_vec();
        let pages = pages.into_iter();
        Self { reader, pages, page, damaged: Vec::new(), lenient: false }
    }

    /// Leaves out pages that cannot be read; they are [told](Entries::damaged).
    pub(super) fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// The next entry, which stays the next one.
    pub(super) async fn peek(&mut self) -> Result<Option<&SnapshotEntry>> {
        while self.page.peek().is_none() {
            let Some(digest) = self.pages.next() else { return Ok(None) };
            match self.reader.page(&digest).await {
                Ok(page) => self.page = page.into_iter().peekable(),
                Err(error @ StorageError::Corrupt(_)) if self.lenient => {
                    self.damaged.push((digest, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.page.peek())
    }

    pub(super) async fn next(&mut self) -> Result<Option<SnapshotEntry>> {
        self.peek().await?;
        Ok(self.page.next())
    }

    /// Goes to the first entry of at least this key, and gives it if it is of this key.
    pub(super) async fn find(&mut self, key: &[u8]) -> Result<Option<SnapshotEntry>> {
        while let Some(entry) = self.peek().await? {
            match entry.key.as_slice().cmp(key) {
                std::cmp::Ordering::Less => drop(self.page.next()),
                std::cmp::Ordering::Equal => return Ok(self.page.next()),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Pages that could not be read, taken.
    pub(super) fn damaged(&mut self) -> Vec<(Digest, StorageError)> {
        std::mem::take(&mut self.damaged)
    }
}

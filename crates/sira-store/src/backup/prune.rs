//! Pruning: snapshots that are too old, and what only they needed.
//!
//! What is removed is no longer named by anything before it goes: first the snapshots, then, once new
//! packs and index files stand, the index files before them, then packs. A prune that dies leaves
//! what nothing names, and the next one removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use parking_lot::RwLock;
use serde::Serialize;

use super::archive;
use super::digest::Digest;
use super::index::{self, ChunkIndex, INDEX_PACKS_MAX};
use super::lease::Lease;
use super::pack::{PackId, PackTable};
use super::reader::{ChunkReader, Fetch, table_of};
use super::repository::{INDEX, PACKS, Repository, SNAPSHOTS, index_key, pack_key, snapshot_key};
use super::retention::Retention;
use super::snapshot::{Snapshot, SnapshotId};
use super::writer::PackWriter;
use crate::error::{Result, StorageError};

/// Packs of which less than this is needed are written anew, in percent.
const LIVE_PERCENT_MIN: u64 = 50;

/// What is removed.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Which snapshots are kept; all where nothing says.
    pub retention: Option<Retention>,
    /// Snapshots that go whatever is kept.
    pub remove: Vec<SnapshotId>,
    /// Says what would be removed, and removes nothing.
    pub dry_run: bool,
}

/// What was removed, or would have been.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PruneReport {
    /// Snapshots that are kept.
    pub kept: Vec<SnapshotId>,
    /// Snapshots that are removed.
    pub removed: Vec<SnapshotId>,
    /// Packs that are removed: nothing of them is needed.
    pub packs_removed: u64,
    /// Packs that are written anew: little of them is needed.
    pub packs_rewritten: u64,
    /// Packs that no index names, left behind by runs that died.
    pub packs_left_behind: u64,
    /// Parts of the archive that no snapshot needs.
    pub archive_removed: u64,
    /// Bytes of chunks that are no longer kept, before compression.
    pub freed_bytes: u64,
}

/// Removes what is no longer wanted.
pub struct Prune {
    repository: Repository,
    options: PruneOptions,
}

/// What the index files name.
struct Named {
    keys: Vec<String>,
    tables: BTreeMap<PackId, PackTable>,
    /// Packs that only a damaged index file may name, and whose own tables are damaged.
    unknown: BTreeSet<PackId>,
}

impl Prune {
    /// A prune.
    #[must_use]
    pub fn new(repository: Repository, options: PruneOptions) -> Self {
        Self { repository, options }
    }

    /// Prunes.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process writes to the repository;
    /// [`StorageError::NotFound`] for a snapshot to remove that there is not;
    /// [`StorageError::Corrupt`] where a snapshot that is kept cannot be read, and so what it needs is
    /// not known: then nothing but snapshots was removed.
    pub async fn run(&self) -> Result<PruneReport> {
        let repository = &self.repository;
        let _alone = repository.alone().await;
        let lease = repository.lease().await?;
        let mut report = PruneReport::default();
        let kept = self.remove_snapshots(&lease, &mut report).await?;
        let reader = ChunkReader::open(repository).await?;
        let used = mark(&reader, &kept).await?;
        let named = self.named().await?;
        let packs = repository.keys(PACKS).await?;
        let left_behind: Vec<String> = packs
            .into_iter()
            .filter(|key| {
                let id = key.strip_prefix(PACKS).and_then(PackId::parse);
                id.is_none_or(|id| !named.tables.contains_key(&id) && !named.unknown.contains(&id))
            })
            .collect();
        report.packs_left_behind = left_behind.len() as u64;
        self.sweep(&lease, &reader, &used, named, left_behind, &mut report).await?;
        report.archive_removed =
            archive::prune(repository, &lease, &kept, self.options.dry_run).await?;
        Ok(report)
    }

    /// Removes snapshots, and gives those that stay.
    async fn remove_snapshots(
        &self,
        lease: &Lease,
        report: &mut PruneReport,
    ) -> Result<Vec<Snapshot>> {
        let keys = self.repository.keys(SNAPSHOTS).await?;
        let ids = keys.iter().filter_map(|key| key.strip_prefix(SNAPSHOTS)?.parse().ok());
        let ids: Vec<SnapshotId> = ids.collect();
        if let Some(missing) = self.options.remove.iter().find(|id| !ids.contains(id)) {
            return Err(StorageError::not_found(format!("there is no snapshot {missing}")));
        }
        let mut removed: BTreeSet<SnapshotId> = self.options.remove.iter().copied().collect();
        if let Some(retention) = &self.options.retention {
            let rest: Vec<_> = ids.iter().filter(|id| !removed.contains(id)).copied().collect();
            removed.extend(retention.expired(&rest, self.repository.env().now_ms()));
        }
        let mut kept = Vec::new();
        for id in ids.into_iter().filter(|id| !removed.contains(id)) {
            let snapshot = self.repository.snapshot(id).await.map_err(|error| match error {
                StorageError::Corrupt(_) => StorageError::corrupt(format!(
                    "what the snapshot {id} needs cannot be read ({error}): nothing is pruned until \
                     it is removed, with `sira backup prune --remove {id}`"
                )),
                error => error,
            })?;
            report.kept.push(id);
            kept.push(snapshot);
        }
        for id in &removed {
            if !self.options.dry_run {
                lease.check()?;
                self.repository.remove(&snapshot_key(*id)).await?;
            }
            report.removed.push(*id);
        }
        Ok(kept)
    }

    /// Reads the index files; of packs that only a damaged one names, their own tables tell.
    async fn named(&self) -> Result<Named> {
        let mut named =
            Named { keys: Vec::new(), tables: BTreeMap::new(), unknown: BTreeSet::new() };
        let mut damaged = false;
        for key in self.repository.keys(INDEX).await? {
            match self.repository.get(&key).await {
                Ok(Some(bytes)) => match index::decode(&bytes) {
                    Ok(tables) => {
                        named.tables.extend(tables.into_iter().map(|table| (table.id, table)));
                    }
                    Err(_) => damaged = true,
                },
                Ok(None) => continue,
                Err(StorageError::Corrupt(_)) => damaged = true,
                Err(error) => return Err(error),
            }
            named.keys.push(key);
        }
        if damaged {
            for key in self.repository.keys(PACKS).await? {
                let id = key.strip_prefix(PACKS).and_then(PackId::parse);
                let Some(id) = id.filter(|id| !named.tables.contains_key(id)) else { continue };
                match table_of(&self.repository, id).await {
                    Ok(table) => drop(named.tables.insert(id, table)),
                    Err(_) => drop(named.unknown.insert(id)),
                }
            }
        }
        Ok(named)
    }

    /// Removes packs that are not needed, and writes those anew of which little is.
    async fn sweep(
        &self,
        lease: &Arc<Lease>,
        reader: &ChunkReader,
        used: &Used,
        named: Named,
        left_behind: Vec<String>,
        report: &mut PruneReport,
    ) -> Result<()> {
        let mut counted: Used = HashSet::default();
        let (mut stay, mut go, mut rewrite) = (Vec::new(), Vec::new(), Vec::new());
        for table in named.tables.into_values() {
            // Of a chunk that two packs hold, one place counts.
            let live: Vec<bool> = table
                .chunks
                .iter()
                .map(|(digest, _)| used.contains(digest) && counted.insert(*digest))
                .collect();
            let bytes = |wanted: bool| -> u64 {
                let chunks = table.chunks.iter().zip(&live).filter(|(_, live)| **live == wanted);
                chunks.map(|((_, len), _)| u64::from(*len)).sum()
            };
            let (living, dead) = (bytes(true), bytes(false));
            if !live.contains(&true) {
                report.freed_bytes += dead;
                go.push(table);
            } else if living * 100 < (living + dead) * LIVE_PERCENT_MIN {
                report.freed_bytes += dead;
                rewrite.push((table, live));
            } else {
                stay.push(table);
            }
        }
        report.packs_removed = go.len() as u64;
        report.packs_rewritten = rewrite.len() as u64;
        let nothing = go.is_empty() && rewrite.is_empty() && left_behind.is_empty();
        if self.options.dry_run || nothing {
            return Ok(());
        }
        // What a pack that stays holds too is not written again.
        let held: Used =
            stay.iter().flat_map(|table| table.chunks.iter().map(|(digest, _)| *digest)).collect();
        let index = Arc::new(RwLock::new(ChunkIndex::default()));
        let mut writer = PackWriter::new(self.repository.clone(), Arc::clone(lease), index);
        for (table, live) in rewrite {
            let chunks = table.chunks.iter().zip(live);
            let chunks = chunks.filter(|((digest, _), live)| *live && !held.contains(digest));
            let mut read = Vec::new();
            let mut sound = true;
            for ((digest, _), _) in chunks {
                match reader.chunk(digest, Fetch::Pack).await {
                    Ok(chunk) => read.push((*digest, chunk)),
                    // A damaged pack stays: what is left of it may be of use.
                    Err(StorageError::Corrupt(_)) => {
                        sound = false;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !sound {
                report.packs_rewritten -= 1;
                stay.push(table);
                continue;
            }
            for (digest, chunk) in read {
                writer.add(digest, &chunk).await?;
            }
            go.push(table);
        }
        writer.commit().await?;
        if !go.is_empty() {
            for tables in stay.chunks(INDEX_PACKS_MAX) {
                lease.check()?;
                let bytes = index::encode(tables);
                self.repository.put(&index_key(self.repository.draw()), bytes.into()).await?;
            }
            self.repository.flush().await?;
            for key in &named.keys {
                lease.check()?;
                self.repository.remove(key).await?;
            }
            self.repository.flush().await?;
        }
        for key in go.iter().map(|table| pack_key(table.id)).chain(left_behind) {
            lease.check()?;
            self.repository.remove(&key).await?;
        }
        self.repository.flush().await
    }
}

type Used = HashSet<Digest, FixedState>;

/// Every chunk that the snapshots need.
async fn mark(reader: &ChunkReader, snapshots: &[Snapshot]) -> Result<Used> {
    let mut used: Used = HashSet::default();
    for snapshot in snapshots {
        for namespace in snapshot.namespaces.values() {
            for page in &namespace.pages {
                if !used.insert(*page) {
                    continue;
                }
                let entries = reader.page(page).await.map_err(|error| match error {
                    StorageError::Corrupt(_) => StorageError::corrupt(format!(
                        "what the snapshot {} needs cannot be read ({error}): nothing is pruned \
                         until it is removed, with `sira backup prune --remove {}`",
                        snapshot.id, snapshot.id
                    )),
                    error => error,
                })?;
                for entry in entries {
                    used.extend(entry.chunks);
                }
            }
        }
    }
    Ok(used)
}

//! The archive: what the log of the embedded engine says, in files behind the snapshots.
//!
//! A file has the changes of a stretch of the log, values included, as they are stored. With the
//! newest snapshot before a moment and the files up to it, what there was at that moment can be
//! restored: every change that was acknowledged, and none that came after.

mod file;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::lease::Lease;
use super::repository::{ARCHIVE, Repository};
use super::snapshot::Snapshot;
use super::source::{BackupSource, EngineSource, NamespaceChoice};
use crate::embedded::{History, LogPlace};
use crate::error::{Result, StorageError};

pub(super) use replay::{Archived, replay};

use file::{FileBuilder, FileName, PART_BYTES};

/// Records that are read at once.
const RECORDS: usize = 65_536;

/// Bytes of values from which on a file is full.
const FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Where a pass of the archive has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ArchivePass {
    /// Changes that were archived.
    pub changes: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Everything that was acknowledged before this time is archived, in milliseconds since the Unix
    /// epoch.
    pub until_ms: u64,
}

/// Brings the log of the embedded engine into the archive, pass by pass.
pub struct Archiver {
    repository: Repository,
    source: BackupSource,
    choice: NamespaceChoice,
    state: Option<State>,
}

struct State {
    lease: Arc<Lease>,
    place: LogPlace,
    names: BTreeMap<String, u32>,
}

impl Archiver {
    /// An archiver of some namespaces, those that lie on the engine alone.
    #[must_use]
    pub fn new(repository: Repository, source: BackupSource, choice: NamespaceChoice) -> Self {
        Self { repository, source, choice, state: None }
    }

    /// Archives what was acknowledged since the last pass. `None` where the log no longer has all of
    /// it, or there is no snapshot yet to go on from: then a [run](super::Backup) is due, and the
    /// archive goes on behind it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process writes to the repository;
    /// [`StorageError::Unsupported`] for a source without an embedded engine; those of the engine and
    /// of the target. The next pass goes on where this one could not.
    pub async fn pass(&mut self) -> Result<Option<ArchivePass>> {
        let Some(engine) = self.source.engine.clone() else {
            return Err(StorageError::unsupported(
                "only the log of the embedded engine can be archived, and there is none",
            ));
        };
        let lost = self.state.as_ref().is_some_and(|state| state.lease.check().is_err());
        if lost {
            self.state = None;
        }
        if self.state.is_none() {
            self.state = self.resume(&engine).await?;
        }
        let Some(state) = &self.state else { return Ok(None) };
        let (mut place, mut names) = (state.place, state.names.clone());
        let lease = Arc::clone(&state.lease);
        let (end, until_ms) = engine.settled_end().await?;
        let mut pass = ArchivePass { until_ms, ..ArchivePass::default() };
        loop {
            let log = Arc::clone(&engine.engine);
            let read = move || log.history(place, Some(end), RECORDS, FILE_BYTES);
            let Some(history) = super::aside(read).await?? else {
                self.state = None;
                return Ok(None);
            };
            let now = self.source.numbers(&self.choice);
            let (next, last) = (history.next, history.next.sequence >= end.sequence);
            if next == place && !last {
                self.state = None;
                return Ok(None);
            }
            let wanted = self.wanted(&history, &now, &names);
            if wanted > 0 || now != names {
                let until_ms = if last { until_ms } else { latest(&history).min(until_ms) };
                lease.check()?;
                let written = self.write(&engine, place, history, now.clone(), until_ms).await?;
                pass.changes += written.changes;
                pass.bytes += written.bytes;
                names = now;
            }
            place = next;
            if let Some(state) = &mut self.state {
                (state.place, state.names) = (place, names.clone());
            }
            if last {
                return Ok(Some(pass));
            }
        }
    }

    fn wanted(
        &self,
        history: &History,
        now: &BTreeMap<String, u32>,
        before: &BTreeMap<String, u32>,
    ) -> usize {
        let own = |number: u32| now.values().chain(before.values()).any(|own| *own == number);
        history.writes.iter().filter(|write| own(write.namespace.as_u32())).count()
    }

    /// Where the archive ends: behind its last file, or behind the newest snapshot.
    async fn resume(&self, engine: &EngineSource) -> Result<Option<State>> {
        let snapshots = self.repository.snapshots().await?;
        let marks = snapshots.iter().filter_map(|snapshot| {
            let mark = snapshot.mark.as_ref().filter(|mark| mark.stream == engine.stream)?;
            let named = |(name, namespace): (&String, &super::SnapshotNamespace)| {
                Some((name.clone(), namespace.number?))
            };
            let names: BTreeMap<_, _> = snapshot.namespaces.iter().filter_map(named).collect();
            Some((mark.place, names))
        });
        let mut newest = marks.max_by_key(|(place, _)| place.sequence);
        if newest.is_none() {
            return Ok(None);
        }
        let files = file::names(&self.repository, &engine.stream).await?;
        if let Some(name) = files.last() {
            let header = file::header(&self.repository, name).await?;
            if newest.as_ref().is_none_or(|(place, _)| place.sequence <= header.next.sequence) {
                newest = Some((header.next, header.names));
            }
        }
        let lease = self.repository.lease().await?;
        Ok(newest.map(|(place, names)| State { lease, place, names }))
    }

    async fn write(
        &self,
        engine: &EngineSource,
        from: LogPlace,
        history: History,
        names: BTreeMap<String, u32>,
        until_ms: u64,
    ) -> Result<ArchivePass> {
        let name = FileName {
            stream: engine.stream.clone(),
            first: from.sequence,
            next: history.next.sequence,
            until_ms,
        };
        let state = self.state.as_ref();
        let before = state.map(|state| state.names.clone()).unwrap_or_default();
        let mut builder = FileBuilder::new(name, from, history.next, names, until_ms);
        let mut pass = ArchivePass { until_ms, ..ArchivePass::default() };
        for write in history.writes {
            let number = write.namespace.as_u32();
            if !builder.has(number) && !before.values().any(|own| *own == number) {
                continue;
            }
            pass.changes += 1;
            let large = write.put.as_ref().filter(|put| put.value.len() as u64 > PART_BYTES);
            let parts = match large.map(|put| put.value.clone()) {
                Some(value) => self.write_parts(&mut builder, value).await?,
                None => Vec::new(),
            };
            pass.bytes += write.put.as_ref().map_or(0, |put| put.size);
            builder.push(&write, &parts);
        }
        let (key, bytes) = builder.finish()?;
        self.put(&key, bytes.into()).await?;
        self.repository.flush().await?;
        Ok(pass)
    }

    /// Stores a large value as files of its own.
    async fn write_parts(&self, builder: &mut FileBuilder, value: Bytes) -> Result<Vec<u32>> {
        let mut parts = Vec::new();
        let mut at = 0;
        while at < value.len() {
            let end = (at + PART_BYTES as usize).min(value.len());
            let (number, key) = builder.part();
            self.put(&key, value.slice(at..end)).await?;
            parts.push(number);
            at = end;
        }
        Ok(parts)
    }

    /// Stores a file, whose name one that died may have stored already.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        match self.repository.put(key, bytes.clone()).await {
            Err(StorageError::PreconditionFailed(_)) => {
                self.repository.remove(key).await?;
                self.repository.put(key, bytes).await
            }
            put => put,
        }
    }
}

/// Time of the latest change.
fn latest(history: &History) -> u64 {
    history.writes.iter().map(|write| write.time.time_ms()).max().unwrap_or(0)
}

/// Removes files that no snapshot of these needs; says how many.
pub(super) async fn prune(
    repository: &Repository,
    lease: &Lease,
    kept: &[Snapshot],
    dry_run: bool,
) -> Result<u64> {
    let mut oldest: BTreeMap<&str, u64> = BTreeMap::new();
    for mark in kept.iter().filter_map(|snapshot| snapshot.mark.as_ref()) {
        let sequence = oldest.entry(&mark.stream).or_insert(u64::MAX);
        *sequence = (*sequence).min(mark.place.sequence);
    }
    let mut removed = 0;
    for key in repository.keys(ARCHIVE).await? {
        let needed = FileName::of_key(&key).is_none_or(|name| {
            let names_only = name.first == name.next;
            let behind = name.next.saturating_add(names_only.into());
            oldest.get(name.stream.as_str()).is_some_and(|sequence| behind > *sequence)
        });
        if needed {
            continue;
        }
        removed += 1;
        if !dry_run {
            lease.check()?;
            repository.remove(&key).await?;
        }
    }
    Ok(removed)
}

//! What a restore restores.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::archive::{Archived, replay};
use super::super::digest::Digest;
use super::super::entry::SnapshotEntry;
use super::super::reader::{ChunkReader, Entries};
use super::super::repository::Repository;
use super::super::snapshot::{Snapshot, SnapshotId};
use super::super::tree::{Item, Merged};
use super::{Moment, RestoreOptions};
use crate::error::{Result, StorageError};
use crate::version::Version;

/// What a restore restores.
pub(super) struct Plan {
    pub(super) snapshot: SnapshotId,
    /// What is restored is of this moment, in milliseconds since the Unix epoch.
    pub(super) as_of_ms: u64,
    pub(super) namespaces: Vec<PlannedNamespace>,
}

/// One namespace of it.
pub(super) struct PlannedNamespace {
    /// Its name in the snapshot.
    pub(super) name: String,
    pages: Vec<Digest>,
    changes: BTreeMap<Vec<u8>, Option<Archived>>,
}

impl Plan {
    pub(super) async fn make(repository: &Repository, options: &RestoreOptions) -> Result<Self> {
        let snapshot = choose(repository, options.moment).await?;
        let mut as_of_ms = snapshot.as_of_ms;
        let mut namespaces = Vec::new();
        let replayed = match options.moment {
            Moment::At(at_ms) => {
                let replayed = replay(repository, &snapshot, at_ms).await?;
                if let Some(replayed) = &replayed {
                    as_of_ms = replayed.until_ms.min(at_ms);
                }
                replayed
            }
            Moment::Newest | Moment::Snapshot(_) => None,
        };
        match replayed {
            None => {
                for (name, namespace) in &snapshot.namespaces {
                    let (name, pages) = (name.clone(), namespace.pages.clone());
                    namespaces.push(PlannedNamespace { name, pages, changes: BTreeMap::new() });
                }
            }
            Some(mut replayed) => {
                let by_number: BTreeMap<u32, &Vec<Digest>> = snapshot
                    .namespaces
                    .values()
                    .filter_map(|namespace| Some((namespace.number?, &namespace.pages)))
                    .collect();
                for (name, number) in replayed.names {
                    let pages = by_number.get(&number).map(|pages| pages.to_vec());
                    let pages = pages.unwrap_or_default();
                    let changes = replayed.changes.remove(&number).unwrap_or_default();
                    namespaces.push(PlannedNamespace { name, pages, changes });
                }
                let others = snapshot.namespaces.iter();
                for (name, namespace) in others.filter(|(_, namespace)| namespace.number.is_none())
                {
                    let (name, pages) = (name.clone(), namespace.pages.clone());
                    namespaces.push(PlannedNamespace { name, pages, changes: BTreeMap::new() });
                }
                namespaces.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        let names: Vec<String> = namespaces.iter().map(|planned| planned.name.clone()).collect();
        namespaces.retain(|planned| options.namespaces.has(&planned.name));
        let names = names.join(", ");
        if namespaces.is_empty() {
            return Err(StorageError::not_found(format!(
                "the snapshot {} has no such namespace; it has [{names}]",
                snapshot.id
            )));
        }
        if options.to.is_some() && namespaces.len() > 1 {
            return Err(StorageError::invalid_input(format!(
                "several namespaces cannot be restored into one: name one of [{names}]"
            )));
        }
        Ok(Self { snapshot: snapshot.id, as_of_ms, namespaces })
    }
}

async fn choose(repository: &Repository, moment: Moment) -> Result<Snapshot> {
    let at_ms = match moment {
        Moment::Snapshot(id) => return repository.snapshot(id).await,
        Moment::Newest => u64::MAX,
        Moment::At(at_ms) => at_ms,
    };
    let snapshots = repository.snapshots().await?;
    let oldest = snapshots.first().map(|snapshot| snapshot.as_of_ms);
    let found = snapshots.into_iter().rev().find(|snapshot| snapshot.as_of_ms <= at_ms);
    found.ok_or_else(|| match oldest {
        Some(oldest_ms) => StorageError::not_found(format!(
            "no snapshot is as old as that: the oldest is of {oldest_ms} ms since 1970"
        )),
        None => StorageError::not_found("there is no snapshot yet; `sira backup run` makes one"),
    })
}

impl PlannedNamespace {
    pub(super) fn entries<'a>(&self, reader: &'a ChunkReader) -> PlannedEntries<'a> {
        let entries = Entries::new(reader, &self.pages).lenient();
        PlannedEntries { merged: Merged::new(entries, self.changes.clone()) }
    }
}

/// An object that is to be restored.
pub(super) enum Planned {
    /// As a snapshot has it.
    Saved(Arc<SnapshotEntry>),
    /// As the archive has it.
    Archived(Vec<u8>, Archived),
}

impl Planned {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Saved(entry) => &entry.key,
            Self::Archived(key, _) => key,
        }
    }

    /// Bytes of the value; of an archived one, those that are stored.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Saved(entry) => entry.size,
            Self::Archived(_, archived) => archived.size(),
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::Saved(entry) => entry.version,
            Self::Archived(_, archived) => archived.version(),
        }
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        let at = match self {
            Self::Saved(entry) => entry.expires_at_ms,
            Self::Archived(_, archived) => archived.expires_at_ms(),
        };
        at.is_some_and(|at| at <= now_ms)
    }

    /// Where its first bytes lie, in an order that reads files one after the other.
    pub(super) fn place(&self, reader: &ChunkReader) -> (u128, u64) {
        match self {
            Self::Saved(entry) => {
                let place = entry.chunks.first().and_then(|chunk| reader.place(chunk));
                place.map_or((0, 0), |place| (place.pack.0, place.offset.into()))
            }
            Self::Archived(_, archived) => archived.place(),
        }
    }
}

/// The objects of a namespace in order.
pub(super) struct PlannedEntries<'a> {
    merged: Merged<'a, Archived>,
}

impl PlannedEntries<'_> {
    pub(super) async fn next(&mut self) -> Result<Option<Planned>> {
        Ok(self.merged.next().await?.map(|item| match item {
            Item::Entry(entry) => Planned::Saved(Arc::new(entry)),
            Item::Change(key, archived) => Planned::Archived(key, archived),
        }))
    }

    /// Pages that could not be read.
    pub(super) fn damaged(&mut self) -> Vec<(Digest, StorageError)> {
        self.merged.damaged()
    }
}

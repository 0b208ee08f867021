//! The objects of one namespace: listed in order, compared with the snapshot before, read in groups.

use std::sync::Arc;

use super::super::aside;
use super::super::digest::{Cut, Cutter};
use super::super::entry::SnapshotEntry;
use super::super::ordered::{Bounds, Ordered};
use super::super::origin::{Listed, Origin};
use super::super::reader::{ChunkReader, Entries};
use super::super::tree::{Tree, TreeBuilder};
use super::{Run, prepare};
use crate::error::{Result, StorageError};
use crate::seal::Keyring;

/// Keys of one page of a listing.
const PAGE_KEYS: usize = 2048;

/// Most objects of a group.
const GROUP_OBJECTS: usize = 128;

/// Bytes of values from which on a group is full.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// Values of at least this many bytes are read piece by piece, where that can be.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of a piece.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;

/// Times that a large value is begun again because another version took its place.
const TRIES: usize = 8;

/// A key, and what the snapshot before says of it.
struct Candidate {
    listed: Listed,
    before: Option<SnapshotEntry>,
}

/// What became of a key.
enum Found {
    /// It holds what it held.
    Same(SnapshotEntry),
    Read(SnapshotEntry, Cut),
    /// It is to be read piece by piece.
    Large(Box<Candidate>),
    /// It was removed since it was listed.
    Gone,
    Failed {
        key: Vec<u8>,
        error: StorageError,
        before: Option<SnapshotEntry>,
    },
}

/// What the objects of a namespace are read with.
#[derive(Clone)]
struct Reading {
    origin: Origin,
    name: Arc<str>,
    keyring: Arc<Keyring>,
    encrypted: bool,
}

impl Run<'_> {
    /// Saves the objects of a namespace.
    pub(super) async fn save_namespace(
        &mut self,
        name: &str,
        origin: Origin,
        keyring: Arc<Keyring>,
    ) -> Result<Tree> {
        let encrypted = self.backup.repository.is_encrypted();
        let reading = Reading { origin, name: name.into(), keyring, encrypted };
        let options = &self.backup.options;
        let bounds = Bounds { count: options.concurrency, bytes: options.bytes_in_flight_max };
        let mut groups: Ordered<Result<Vec<Found>>> = Ordered::new(bounds);
        let mut builder = TreeBuilder::default();
        let mut listing = Listing::new(reading.origin.clone());
        // Groups are made from here, so entries of the parent cannot be borrowed from the run.
        let pages = self.parent_pages(name);
        let index = Arc::clone(&self.index);
        let repository = self.backup.repository.clone();
        let parents = ChunkReader::new(repository, index);
        let mut before = Entries::new(&parents, &pages).lenient();
        loop {
            let mut group = Vec::new();
            let mut bytes = 0;
            while group.len() < GROUP_OBJECTS && bytes < GROUP_BYTES {
                let Some(listed) = listing.next().await? else { break };
                let before = before.find(&listed.key).await?;
                let before = before.filter(|entry| self.holds(entry));
                bytes += listed.size;
                group.push(Candidate { listed, before });
            }
            if group.is_empty() {
                break;
            }
            let limit = self.backup.options.bytes_per_second_max;
            self.throttle.wait(&**self.backup.repository.env(), bytes, limit).await;
            while groups.is_full(bytes) {
                if let Some(found) = groups.next().await? {
                    self.take(found?, &reading, &mut builder).await?;
                }
            }
            groups.begin(bytes, read_group(reading.clone(), group));
        }
        while let Some(found) = groups.next().await? {
            self.take(found?, &reading, &mut builder).await?;
        }
        for (_, error) in before.damaged() {
            tracing::warn!(namespace = name, %error, "the snapshot before cannot be read whole");
        }
        builder.finish(&mut self.writer).await
    }

    /// Writes what became of a group.
    async fn take(
        &mut self,
        group: Vec<Found>,
        reading: &Reading,
        builder: &mut TreeBuilder,
    ) -> Result<()> {
        for found in group {
            let entry = match found {
                Found::Gone => continue,
                Found::Same(entry) => entry,
                Found::Read(entry, cut) => {
                    self.store(&entry, &cut).await?;
                    entry
                }
                Found::Large(candidate) => match self.read_large(&candidate, reading).await {
                    Ok(Some(entry)) => entry,
                    Ok(None) => continue,
                    Err(Fault::Target(error)) => return Err(error),
                    Err(Fault::Object(error)) => {
                        self.fail(&reading.name, &candidate.listed.key, &error);
                        match candidate.before {
                            Some(before) => before,
                            None => continue,
                        }
                    }
                },
                Found::Failed { key, error, before } => {
                    self.fail(&reading.name, &key, &error);
                    match before {
                        Some(before) => before,
                        None => continue,
                    }
                }
            };
            {
                let mut report = self.backup.report.lock();
                report.objects += 1;
                report.bytes += entry.size;
            }
            builder.push(&entry, &mut self.writer).await?;
        }
        Ok(())
    }

    /// Saves a large value piece by piece; `None` when it has gone.
    async fn read_large(
        &mut self,
        candidate: &Candidate,
        reading: &Reading,
    ) -> Result<Option<SnapshotEntry>, Fault> {
        let key = &candidate.listed.key;
        for _ in 0..TRIES {
            let Some(large) = reading.origin.open_large(key).await.map_err(Fault::Object)? else {
                // Sealed values are opened whole.
                return match read_one(reading, key).await.map_err(Fault::Object)? {
                    Some((entry, cut)) => {
                        self.store(&entry, &cut).await.map_err(Fault::Target)?;
                        Ok(Some(entry))
                    }
                    None => Ok(None),
                };
            };
            let mut cutter = Cutter::new();
            let mut chunks = Vec::new();
            let mut at = 0;
            let size = large.head.size;
            let cut = loop {
                if at == size {
                    break Some(cutter.finish());
                }
                let end = (at + PIECE_BYTES).min(size);
                let piece = match large.read(at..end).await {
                    Ok(piece) => piece,
                    Err(StorageError::PreconditionFailed(_)) => break None,
                    Err(error) => return Err(Fault::Object(error)),
                };
                let work = move || {
                    let cut = cutter.push(piece);
                    (cutter, cut)
                };
                let (cutter_back, cut) = aside(work).await.map_err(Fault::Target)?;
                cutter = cutter_back;
                for (digest, chunk) in cut {
                    self.writer.add(digest, &chunk).await.map_err(Fault::Target)?;
                    chunks.push(digest);
                }
                at = end;
            };
            let Some((digest, last)) = cut else { continue };
            if let Some((digest, chunk)) = last {
                self.writer.add(digest, &chunk).await.map_err(Fault::Target)?;
                chunks.push(digest);
            }
            let head = large.head;
            let entry = SnapshotEntry {
                key: key.clone(),
                version: head.version,
                expires_at_ms: head.expires_at_ms,
                size,
                metadata: head.metadata,
                digest,
                cipher: None,
                chunks,
            };
            let nothing = Cut { digest, chunks: Vec::new() };
            self.store(&entry, &nothing).await.map_err(Fault::Target)?;
            return Ok(Some(entry));
        }
        Err(Fault::Object(StorageError::conflict(
            "the object was written again each time that it was read",
        )))
    }
}

/// Whose fault it is that an object was not saved.
enum Fault {
    /// The object's: the run goes on.
    Object(StorageError),
    /// The target's: it does not.
    Target(StorageError),
}

/// Looks at a group of keys, and reads and cuts what has changed.
async fn read_group(reading: Reading, group: Vec<Candidate>) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(group.len());
    let mut objects = Vec::new();
    for candidate in group {
        let key = &candidate.listed.key;
        if let Some(before) = &candidate.before {
            let version = match candidate.listed.version {
                Some(version) => Ok(Some(version)),
                None => reading.origin.version(key).await,
            };
            match version {
                Ok(Some(version)) if version == before.version => {
                    if let Some(before) = candidate.before {
                        found.push(Found::Same(before));
                    }
                    continue;
                }
                Ok(None) => {
                    found.push(Found::Gone);
                    continue;
                }
                // What cannot be looked at cannot be read either, and is told then.
                Ok(Some(_)) | Err(_) => {}
            }
        }
        if candidate.listed.size >= LARGE_BYTES {
            found.push(Found::Large(Box::new(candidate)));
            continue;
        }
        match reading.origin.read(key).await {
            Ok(None) => found.push(Found::Gone),
            Ok(Some(object)) => {
                objects.push((found.len(), candidate, object));
                found.push(Found::Gone);
            }
            Err(error) => {
                let Candidate { listed: Listed { key, .. }, before } = candidate;
                found.push(Found::Failed { key, error, before });
            }
        }
    }
    if objects.is_empty() {
        return Ok(found);
    }
    aside(move || {
        for (at, Candidate { listed: Listed { key, .. }, before }, object) in objects {
            let Reading { name, keyring, encrypted, .. } = &reading;
            let became = match prepare(name, key.clone(), keyring, object, *encrypted) {
                Ok((entry, cut)) => Found::Read(entry, cut),
                Err(error) => Found::Failed { key, error, before },
            };
            if let Some(slot) = found.get_mut(at) {
                *slot = became;
            }
        }
        found
    })
    .await
}

async fn read_one(reading: &Reading, key: &[u8]) -> Result<Option<(SnapshotEntry, Cut)>> {
    let Some(object) = reading.origin.read(key).await? else { return Ok(None) };
    let (reading, key) = (reading.clone(), key.to_vec());
    let Reading { name, keyring, encrypted, .. } = reading;
    aside(move || prepare(&name, key, &keyring, object, encrypted)).await?.map(Some)
}

/// Keys of a namespace in order.
struct Listing {
    origin: Origin,
    page: std::vec::IntoIter<Listed>,
    after: Option<Vec<u8>>,
    ended: bool,
}

impl Listing {
    fn new(origin: Origin) -> Self {
        Self { origin, page: Vec::new().into_iter(), after: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Listed>> {
        loop {
            if let Some(next) = self.page.next() {
                return Ok(Some(next));
            }
            if self.ended {
                return Ok(None);
            }
            let (page, next) = self.origin.page(self.after.as_deref(), PAGE_KEYS).await?;
            self.ended = next.is_none();
            self.after = next;
            self.page = page.into_iter();
        }
    }
}

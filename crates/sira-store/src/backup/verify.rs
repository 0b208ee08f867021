//! Verification: what a snapshot names is read and compared with its SHA-256.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::digest::{CHUNK_BYTES_MIN, Digest, Hasher};
use super::entry::SnapshotEntry;
use super::ordered::{Bounds, Ordered};
use super::pack::PackId;
use super::reader::{ChunkReader, Entries, Fetch, table_of};
use super::repository::{INDEX, PACKS, Repository, pack_key};
use super::snapshot::{FailedObject, Snapshot, SnapshotId};
use crate::error::{Result, StorageError};
use crate::migration::progress::Throttle;

/// Objects that are read at once.
const CONCURRENCY: usize = 16;

/// Bytes of values that are read at once.
const BYTES_IN_FLIGHT: u64 = 128 * 1024 * 1024;

/// What is read.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The snapshot; the newest where none is named.
    pub snapshot: Option<SnapshotId>,
    /// How many of the snapshot's objects, in percent.
    pub percent: f64,
    /// Reads every pack of the repository and every object of every snapshot, whatever the percent.
    pub full: bool,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { snapshot: None, percent: 5.0, full: false, bytes_per_second_max: None }
    }
}

/// What was found, or has been found so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct VerifyReport {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Objects that are in them.
    pub objects: u64,
    /// Objects that were read and compared.
    pub verified: u64,
    /// Bytes of their values.
    pub verified_bytes: u64,
    /// Packs that were read whole.
    pub packs: u64,
    /// Objects that are damaged.
    pub damaged: Vec<FailedObject>,
    /// Parts of the repository that are damaged, and what of it is.
    pub parts: Vec<String>,
    /// Time that it took, in seconds.
    pub elapsed_s: f64,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.parts.is_empty()
    }
}

/// Reads what snapshots name.
pub struct Verification {
    repository: Repository,
    options: VerifyOptions,
    report: Arc<Mutex<VerifyReport>>,
}

impl Verification {
    /// A verification.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a percent that is none.
    pub fn new(repository: Repository, options: VerifyOptions) -> Result<Self> {
        if !(0.0..=100.0).contains(&options.percent) {
            return Err(StorageError::invalid_input("a percent is from 0 to 100"));
        }
        Ok(Self { repository, options, report: Arc::default() })
    }

    /// What was found so far.
    #[must_use]
    pub fn report(&self) -> VerifyReport {
        self.report.lock().clone()
    }

    /// Reads, and says what is damaged.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is no snapshot, and those of the target. Damage is no
    /// error: it is told in the report.
    pub async fn run(&self) -> Result<VerifyReport> {
        let env = self.repository.env();
        let begun = env.monotonic();
        *self.report.lock() = VerifyReport::default();
        let reader = Arc::new(ChunkReader::open(&self.repository).await?);
        let mut sound = BTreeSet::new();
        let snapshots = match (self.options.full, self.options.snapshot) {
            (true, _) => {
                sound = self.read_packs().await?;
                self.read_documents().await?
            }
            (false, Some(id)) => vec![self.repository.snapshot(id).await?],
            (false, None) => vec![self.repository.newest().await?.ok_or_else(|| {
                StorageError::not_found("there is no snapshot yet; `sira backup run` makes one")
            })?],
        };
        let sound = Arc::new(sound);
        let mut known = BTreeSet::new();
        for snapshot in &snapshots {
            self.read_snapshot(&reader, snapshot, &sound, &mut known).await?;
            self.report.lock().snapshots += 1;
        }
        let mut report = self.report.lock();
        report.elapsed_s = env.monotonic().saturating_sub(begun).as_secs_f64();
        Ok(report.clone())
    }

    /// Reads every pack whole, and gives the chunks that are sound.
    async fn read_packs(&self) -> Result<BTreeSet<Digest>> {
        let mut sound = BTreeSet::new();
        let throttle = Throttle::default();
        let bounds = Bounds { count: 4, bytes: BYTES_IN_FLIGHT };
        let mut packs: Ordered<Result<(String, Result<Vec<Digest>>)>> = Ordered::new(bounds);
        let mut files = self.repository.files(PACKS).await?.into_iter();
        loop {
            let file = files.next();
            let bytes = file.as_ref().map_or(0, |(_, bytes)| *bytes);
            while file.is_none() || packs.is_full(bytes) {
                let Some(done) = packs.next().await? else { return Ok(sound) };
                let (key, chunks) = done?;
                self.report.lock().packs += 1;
                match chunks {
                    Ok(chunks) => sound.extend(chunks),
                    Err(error) => self.report.lock().parts.push(format!("{key}: {error}")),
                }
            }
            let Some((key, bytes)) = file else { continue };
            let Some(id) = key.strip_prefix(PACKS).and_then(PackId::parse) else {
                self.report.lock().parts.push(format!("{key}: no pack has such a name"));
                continue;
            };
            let limit = self.options.bytes_per_second_max;
            throttle.wait(&**self.repository.env(), bytes, limit).await;
            let repository = self.repository.clone();
            packs.begin(bytes, async move {
                match read_pack(&repository, id).await {
                    Err(error @ (StorageError::Corrupt(_) | StorageError::InvalidInput(_))) => {
                        Ok((key, Err(error)))
                    }
                    Err(StorageError::NotFound(_)) => Ok((key, Ok(Vec::new()))),
                    Err(error) => Err(error),
                    Ok(chunks) => Ok((key, Ok(chunks))),
                }
            });
        }
    }

    /// Reads every snapshot and every index file.
    async fn read_documents(&self) -> Result<Vec<Snapshot>> {
        for key in self.repository.keys(INDEX).await? {
            let read = match self.repository.get(&key).await {
                Ok(Some(bytes)) => super::index::decode(&bytes).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            self.note(&key, read)?;
        }
        let mut snapshots = Vec::new();
        for key in self.repository.keys(super::repository::SNAPSHOTS).await? {
            match self.repository.read::<Snapshot>(&key).await {
                Ok(snapshot) => snapshots.extend(snapshot),
                Err(error) => self.note(&key, Err(error))?,
            }
        }
        Ok(snapshots)
    }

    fn note(&self, key: &str, read: Result<()>) -> Result<()> {
        match read {
            Ok(()) => Ok(()),
            Err(error @ (StorageError::Corrupt(_) | StorageError::PermissionDenied(_))) => {
                self.report.lock().parts.push(format!("{key}: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn read_snapshot(
        &self,
        reader: &Arc<ChunkReader>,
        snapshot: &Snapshot,
        sound: &Arc<BTreeSet<Digest>>,
        known: &mut BTreeSet<Digest>,
    ) -> Result<()> {
        let (full, percent) = (self.options.full, self.options.percent);
        let env = Arc::clone(self.repository.env());
        let throttle = Throttle::default();
        for (name, namespace) in &snapshot.namespaces {
            // A page that several snapshots share is looked at once.
            let pages: Vec<Digest> = match full {
                true => {
                    namespace.pages.iter().filter(|page| known.insert(**page)).copied().collect()
                }
                false => namespace.pages.clone(),
            };
            let mut entries = Entries::new(reader, &pages).lenient();
            let bounds = Bounds { count: CONCURRENCY, bytes: BYTES_IN_FLIGHT };
            let mut reads: Ordered<(Vec<u8>, u64, Result<()>)> = Ordered::new(bounds);
            while let Some(entry) = entries.next().await? {
                self.report.lock().objects += 1;
                let drawn = env.random_u64() as f64 / u64::MAX as f64 * 100.0;
                if !full && (drawn >= percent && percent < 100.0) {
                    continue;
                }
                throttle.wait(&*env, entry.size, self.options.bytes_per_second_max).await;
                while reads.is_full(entry.size) {
                    self.take(name, reads.next().await?)?;
                }
                let (reader, sound) = (Arc::clone(reader), Arc::clone(sound));
                reads.begin(entry.size, async move {
                    let checked =
                        match full && entry.chunks.iter().all(|chunk| sound.contains(chunk)) {
                            // Its chunks were compared with their digests, and a value of one chunk has no
                            // other digest.
                            true if entry.chunks == [entry.digest] => Ok(()),
                            _ if full => check(&reader, &entry, Fetch::Pack).await,
                            _ => check(&reader, &entry, fetch_of(&entry)).await,
                        };
                    (entry.key, entry.size, checked)
                });
            }
            while let Some(done) = reads.next().await? {
                self.take(name, Some(done))?;
            }
            for (digest, error) in entries.damaged() {
                let part =
                    format!("page {digest} of the namespace {name:?} of {}: {error}", snapshot.id);
                self.report.lock().parts.push(part);
            }
        }
        Ok(())
    }

    fn take(&self, namespace: &str, done: Option<(Vec<u8>, u64, Result<()>)>) -> Result<()> {
        let Some((key, size, checked)) = done else { return Ok(()) };
        let mut report = self.report.lock();
        match checked {
            Ok(()) => {
                report.verified += 1;
                report.verified_bytes += size;
            }
            Err(error @ StorageError::Corrupt(_)) => {
                let key = String::from_utf8_lossy(&key).into_owned();
                let namespace = namespace.to_owned();
                report.damaged.push(FailedObject { namespace, key, error: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Of a sample of small objects many may lie in a pack, of large ones few do.
fn fetch_of(entry: &SnapshotEntry) -> Fetch {
    if entry.size < CHUNK_BYTES_MIN as u64 { Fetch::Pack } else { Fetch::Chunk }
}

/// Reads a value, and compares it with its SHA-256.
async fn check(reader: &ChunkReader, entry: &SnapshotEntry, fetch: Fetch) -> Result<()> {
    let mut whole = Hasher::new();
    let mut size = 0;
    let single = entry.chunks == [entry.digest];
    for digest in &entry.chunks {
        let chunk = reader.chunk(digest, fetch).await?;
        size += chunk.len() as u64;
        if !single {
            whole.update(&chunk);
        }
    }
    if size != entry.size || (!single && whole.finish() != entry.digest) {
        return Err(StorageError::corrupt("the value fails its SHA-256"));
    }
    Ok(())
}

/// Reads a pack whole, and gives its chunks; an error where any of it is damaged.
async fn read_pack(repository: &Repository, id: PackId) -> Result<Vec<Digest>> {
    let key = pack_key(id);
    let missing = || StorageError::not_found("the pack is not there").with_key(&key);
    let bytes = repository.get(&key).await?.ok_or_else(missing)?;
    let table = table_of(repository, id).await?;
    super::aside(move || {
        let mut at = 0;
        for (digest, len) in &table.chunks {
            let end = at + *len as usize;
            let chunk = bytes.get(at..end).unwrap_or_default();
            if Digest::of(chunk) != *digest {
                return Err(StorageError::corrupt("a chunk of the pack fails its SHA-256"));
            }
            at = end;
        }
        Ok(table.chunks.into_iter().map(|(digest, _)| digest).collect())
    })
    .await?
}

//! A run: what there is, into a new snapshot.

mod namespace;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::digest::{Cut, cut};
use super::entry::SnapshotEntry;
use super::lease::Lease;
use super::origin::Origin;
use super::reader::{ChunkReader, load_index};
use super::repository::{Repository, snapshot_key};
use super::snapshot::{FailedObject, LogMark, Snapshot, SnapshotId, SnapshotNamespace};
use super::source::{BackupSource, EngineSource, NamespaceChoice, Opened, object_of, open_stored};
use super::tree::{Overlay, Tree, merge};
use super::writer::PackWriter;
use crate::embedded::{LogPlace, LoggedWrite, NamespaceId};
use crate::error::{Result, StorageError};
use crate::seal::Keyring;

/// Records of the log that are looked at together.
const RECORDS: usize = 4096;

/// Bytes of values of the log that are looked at together.
const RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// How a run is made.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Which namespaces.
    pub namespaces: NamespaceChoice,
    /// Reads every object, also those whose versions are in the newest snapshot.
    pub full: bool,
    /// Groups of objects that are read at once.
    pub concurrency: usize,
    /// Bytes of values that are under way at once; one larger value goes alone.
    pub bytes_in_flight_max: u64,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            namespaces: NamespaceChoice::default(),
            full: false,
            concurrency: 16,
            bytes_in_flight_max: 256 * 1024 * 1024,
            bytes_per_second_max: None,
        }
    }
}

/// What a run did, or has done so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunReport {
    /// Name of the snapshot, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Objects that were read: the newest snapshot did not have them in this version.
    pub read: u64,
    /// Bytes of their values.
    pub read_bytes: u64,
    /// Bytes of chunks that the repository did not hold, before compression.
    pub added_bytes: u64,
    /// Objects that are missing from the snapshot, or older in it than they should be.
    pub failed: Vec<FailedObject>,
    /// Time that it took, in seconds.
    pub elapsed_s: f64,
}

/// A run on its way into a repository.
pub struct Backup {
    repository: Repository,
    source: BackupSource,
    options: RunOptions,
    report: Arc<Mutex<RunReport>>,
}

/// What the parts of a run share.
struct Run<'a> {
    backup: &'a Backup,
    writer: PackWriter,
    reader: ChunkReader,
    index: Arc<RwLock<super::index::ChunkIndex>>,
    parent: Option<Snapshot>,
    throttle: crate::migration::progress::Throttle,
}

impl Backup {
    /// A run that saves what the options choose.
    #[must_use]
    pub fn new(repository: Repository, source: BackupSource, options: RunOptions) -> Self {
        Self { repository, source, options, report: Arc::default() }
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> RunReport {
        self.report.lock().clone()
    }

    /// Saves everything into a new snapshot. Namespaces of the embedded engine are saved as they are
    /// at one moment, near the end of the run; objects elsewhere each as they are at some moment of
    /// it. Dropped before its end, or when it fails, there is no new snapshot; what it stored is
    /// found by the next run.
    ///
    /// Objects that cannot be read do not end it: they are told in the report and in the snapshot,
    /// which has them as the one before had them.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process writes to the repository;
    /// [`StorageError::InvalidInput`] for an encrypted namespace and a repository that is not; those
    /// of the source's listings and of the target.
    pub async fn run(&self) -> Result<RunReport> {
        let _alone = self.repository.alone().await;
        let lease = self.repository.lease().await?;
        let env = self.repository.env();
        let begun = env.monotonic();
        let id = SnapshotId { begun_ms: env.now_ms(), random: env.random_u64() as u32 };
        *self.report.lock() = RunReport::default();
        let index = Arc::new(RwLock::new(load_index(&self.repository).await?));
        let parent = match self.options.full {
            true => None,
            false => self.repository.newest().await?,
        };
        let parent_id = parent.as_ref().map(|parent| parent.id);
        let mut run = Run {
            backup: self,
            writer: PackWriter::new(
                self.repository.clone(),
                Arc::clone(&lease),
                Arc::clone(&index),
            ),
            reader: ChunkReader::new(self.repository.clone(), Arc::clone(&index)),
            index,
            parent,
            throttle: crate::migration::progress::Throttle::default(),
        };
        let (namespaces, mark, as_of_ms) = run.save().await?;
        run.writer.commit().await?;
        let snapshot = Snapshot {
            format: Snapshot::FORMAT,
            id,
            ended_ms: env.now_ms(),
            as_of_ms,
            parent: parent_id,
            namespaces,
            mark,
            failed: self.report.lock().failed.clone(),
        };
        self.repository.flush().await?;
        self.publish(&snapshot, &lease).await?;
        let mut report = self.report.lock();
        report.snapshot = Some(id);
        report.added_bytes = run.writer.bytes();
        report.elapsed_s = env.monotonic().saturating_sub(begun).as_secs_f64();
        Ok(report.clone())
    }

    /// Makes the snapshot appear, unless another process has begun to write meanwhile.
    async fn publish(&self, snapshot: &Snapshot, lease: &Lease) -> Result<()> {
        let key = snapshot_key(snapshot.id);
        lease.check()?;
        self.repository.write(&key, snapshot).await?;
        if let Err(lost) = lease.check() {
            // Who took the lease over may have removed what the snapshot names.
            self.repository.remove(&key).await?;
            return Err(lost);
        }
        self.repository.flush().await
    }
}

impl Run<'_> {
    /// Saves all namespaces, and says up to which place of the log and to which time.
    async fn save(
        &mut self,
    ) -> Result<(BTreeMap<String, SnapshotNamespace>, Option<LogMark>, u64)> {
        let source = self.backup.source.clone();
        let choice = &self.backup.options.namespaces;
        let begin = source.engine.as_ref().map(|engine| engine.engine.history_end());
        let numbers = source.numbers(choice);
        let mut trees: BTreeMap<u32, Tree> = BTreeMap::new();
        let mut saved = BTreeMap::new();
        let mut keyrings: BTreeMap<u32, (String, Arc<Keyring>)> = BTreeMap::new();
        for name in source.names(choice).await? {
            let opened = source.open(&name).await?;
            if opened.seal.is_encrypted() && !self.backup.repository.is_encrypted() {
                return Err(StorageError::invalid_input(
                    "the namespace is encrypted, and backups are not: have them encrypted, or leave \
                     the namespace out",
                )
                .with_namespace(name));
            }
            let number = numbers.get(&name).filter(|_| source.engine_of(&opened).is_some());
            match (number, &source.engine) {
                (Some(number), Some(EngineSource { engine, .. })) => {
                    let engine = Arc::clone(engine);
                    let origin = Origin::Engine { engine, id: NamespaceId(*number) };
                    let keyring = Arc::clone(&opened.keyring);
                    let tree = self.save_namespace(&name, origin, keyring).await?;
                    trees.insert(*number, tree);
                    keyrings.insert(*number, (name, opened.keyring));
                }
                _ => {
                    let origin = Origin::Backend(opened.stored);
                    let tree = self.save_namespace(&name, origin, opened.keyring).await?;
                    saved.insert(name, describe(tree, None, false));
                }
            }
        }
        let (Some(begin), Some(engine)) = (begin, &source.engine) else {
            return Ok((saved, None, self.backup.repository.env().now_ms()));
        };
        // What was written meanwhile: after it all trees are of one moment.
        let (end, as_of_ms) = engine.settled_end().await?;
        let numbers = source.numbers(choice);
        let plan = source.client.plan();
        for (name, number) in &numbers {
            let keyring = || (name.clone(), Arc::clone(&plan.keyring));
            keyrings.entry(*number).or_insert_with(keyring);
        }
        let caught_up = self.catch_up(engine, begin, end, &keyrings).await?;
        let exact = caught_up.is_some();
        let mut overlays = caught_up.unwrap_or_default();
        self.writer.commit().await?;
        for (name, number) in numbers {
            let mut tree = trees.remove(&number).unwrap_or_default();
            if let Some(overlay) = overlays.remove(&number).filter(|overlay| !overlay.is_empty()) {
                tree = merge(&tree, overlay, &self.reader, &mut self.writer).await?;
            }
            saved.insert(name, describe(tree, Some(number), exact));
        }
        let mark = exact.then(|| LogMark { stream: engine.stream.clone(), place: end });
        Ok((saved, mark, as_of_ms))
    }

    /// What the log has between two places, by the namespaces' numbers; `None` where it no longer
    /// has all of it.
    async fn catch_up(
        &mut self,
        engine: &EngineSource,
        mut from: LogPlace,
        until: LogPlace,
        keyrings: &BTreeMap<u32, (String, Arc<Keyring>)>,
    ) -> Result<Option<BTreeMap<u32, Overlay>>> {
        let mut overlays: BTreeMap<u32, Overlay> = BTreeMap::new();
        while from.sequence < until.sequence {
            let log = Arc::clone(&engine.engine);
            let read = move || log.history(from, Some(until), RECORDS, RECORD_BYTES);
            let Some(history) = super::aside(read).await?? else { return Ok(None) };
            if history.next == from {
                return Ok(None);
            }
            from = history.next;
            for write in history.writes {
                let Some((name, keyring)) = keyrings.get(&write.namespace.as_u32()) else {
                    continue;
                };
                let overlay = overlays.entry(write.namespace.as_u32()).or_default();
                self.change(write, name, keyring, overlay).await?;
            }
        }
        Ok(Some(overlays))
    }

    async fn change(
        &mut self,
        write: LoggedWrite,
        name: &str,
        keyring: &Arc<Keyring>,
        overlay: &mut Overlay,
    ) -> Result<()> {
        let key = write.key.to_vec();
        let Some(put) = write.put else {
            overlay.insert(key, None);
            return Ok(());
        };
        let object = object_of(put)?;
        let (opener, held) = (key.clone(), Arc::clone(keyring));
        let (namespace, encrypted) = (name.to_owned(), self.backup.repository.is_encrypted());
        let prepare = move || prepare(&namespace, opener, &held, object, encrypted);
        match super::aside(prepare).await? {
            Ok((entry, cut)) => {
                self.store(&entry, &cut).await?;
                overlay.insert(key, Some(entry));
            }
            Err(error) => self.fail(name, &key, &error),
        }
        Ok(())
    }

    /// Stores the chunks of an object.
    async fn store(&mut self, entry: &SnapshotEntry, cut: &Cut) -> Result<()> {
        for (digest, chunk) in &cut.chunks {
            self.writer.add(*digest, chunk).await?;
        }
        let mut report = self.backup.report.lock();
        report.read += 1;
        report.read_bytes += entry.size;
        report.added_bytes = self.writer.bytes();
        Ok(())
    }

    fn fail(&self, namespace: &str, key: &[u8], error: &StorageError) {
        let key = String::from_utf8_lossy(key).into_owned();
        tracing::warn!(namespace, key, %error, "an object was not saved");
        let failed =
            FailedObject { namespace: namespace.to_owned(), key, error: error.to_string() };
        self.backup.report.lock().failed.push(failed);
    }

    /// Whether all chunks of an entry can be taken over.
    fn holds(&self, entry: &SnapshotEntry) -> bool {
        let index = self.index.read();
        entry.chunks.iter().all(|chunk| index.contains(chunk))
    }

    /// The entries that the parent has of a namespace.
    fn parent_pages(&self, namespace: &str) -> Vec<super::digest::Digest> {
        let parent = self.parent.as_ref().and_then(|parent| parent.namespaces.get(namespace));
        parent.map(|namespace| namespace.pages.clone()).unwrap_or_default()
    }
}

fn describe(tree: Tree, number: Option<u32>, exact: bool) -> SnapshotNamespace {
    let Tree { pages, objects, bytes } = tree;
    SnapshotNamespace { pages, objects, bytes, exact, number }
}

/// Opens and cuts an object, which takes a while.
fn prepare(
    namespace: &str,
    key: Vec<u8>,
    keyring: &Keyring,
    object: crate::backend::Object,
    encrypted: bool,
) -> Result<(SnapshotEntry, Cut)> {
    let Opened { version, expires_at_ms, metadata, cipher, value } =
        open_stored(namespace, &key, keyring, object)?;
    if cipher.is_some() && !encrypted {
        return Err(StorageError::unsupported(
            "the object is encrypted, and backups are not: have them encrypted",
        ));
    }
    let cut = cut(&value);
    let chunks = cut.chunks.iter().map(|(digest, _)| *digest).collect();
    let (size, digest) = (value.len() as u64, cut.digest);
    let entry =
        SnapshotEntry { key, version, expires_at_ms, size, metadata, digest, cipher, chunks };
    Ok((entry, cut))
}

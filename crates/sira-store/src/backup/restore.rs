//! Restoring: objects of a snapshot, back into namespaces.

mod object;
mod plan;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::ordered::{Bounds, Ordered};
use super::reader::ChunkReader;
use super::repository::Repository;
use super::snapshot::{FailedObject, SnapshotId};
use super::source::{BackupSource, NamespaceChoice};
use crate::error::{Result, StorageError};
use crate::placement::Catalog;
use object::{Outcome, Target};
use plan::{Plan, PlannedNamespace};

/// Entries that are put into the order of their packs together.
const WINDOW: usize = 4096;

/// Conflicts that are told by their names.
const CONFLICTS_NAMED: usize = 100;

/// What is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moment {
    /// The newest snapshot.
    #[default]
    Newest,
    /// This snapshot.
    Snapshot(SnapshotId),
    /// What there was at this time, in milliseconds since the Unix epoch: the newest snapshot that is
    /// not after it, and for namespaces on the embedded engine what the archive has up to it.
    At(u64),
}

/// How objects are restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Of when.
    pub moment: Moment,
    /// Which namespaces.
    pub namespaces: NamespaceChoice,
    /// Name of the namespace to restore into, where one is restored; else each goes into its own.
    pub to: Option<String>,
    /// Replaces objects that are there in another version. Else one such object is an error, and
    /// nothing is written.
    pub overwrite: bool,
    /// Says what would be done, and writes nothing.
    pub dry_run: bool,
    /// Objects that are written at once.
    pub concurrency: usize,
    /// Bytes of values that are under way at once; one larger value goes alone.
    pub bytes_in_flight_max: u64,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            moment: Moment::Newest,
            namespaces: NamespaceChoice::default(),
            to: None,
            overwrite: false,
            dry_run: false,
            concurrency: 32,
            bytes_in_flight_max: 256 * 1024 * 1024,
        }
    }
}

/// What was restored, or has been so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RestoreReport {
    /// Snapshot that it is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The moment that exact namespaces are of, in milliseconds since the Unix epoch: the one that
    /// was asked for, or an earlier one where the archive does not reach it.
    pub as_of_ms: u64,
    /// Objects that were to be restored.
    pub objects: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Objects that were written, or would have been.
    pub restored: u64,
    /// Bytes of their values.
    pub restored_bytes: u64,
    /// Objects that were there already.
    pub present: u64,
    /// Objects that have expired since.
    pub expired: u64,
    /// Objects that are there in another version.
    pub conflicts: u64,
    /// Names of the first of these, as `NAMESPACE/KEY`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicting: Vec<String>,
    /// Objects that were not restored.
    pub failed: Vec<FailedObject>,
    /// Parts of the backup that could not be read, with objects that are not known by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// Time that it took, in seconds.
    pub elapsed_s: f64,
}

impl RestoreReport {
    /// Whether everything was restored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.parts.is_empty()
    }
}

/// Brings objects of a snapshot back.
///
/// Every value is compared with its SHA-256 before it is written. What is damaged is left out and
/// told in the report, and everything else is restored. Objects keep their versions, where the
/// backend takes them; an object that is there in the same version is left alone, so a restore that
/// died is gone on with by another.
pub struct Restore {
    repository: Repository,
    source: BackupSource,
    options: RestoreOptions,
    report: Arc<Mutex<RestoreReport>>,
}

impl Restore {
    /// A restore into the namespaces of `source`.
    #[must_use]
    pub fn new(repository: Repository, source: BackupSource, options: RestoreOptions) -> Self {
        Self { repository, source, options, report: Arc::default() }
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> RestoreReport {
        self.report.lock().clone()
    }

    /// Restores.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a snapshot or namespace that there is not,
    /// [`StorageError::Conflict`] for objects that are there in another version, unless they may be
    /// overwritten: then nothing was written. [`StorageError::InvalidInput`] for several namespaces
    /// that are to go into one. Those of the repository's target, and of listings. What cannot be
    /// read or written of single objects is no error: it is told in the report.
    pub async fn run(&self) -> Result<RestoreReport> {
        let env = self.repository.env();
        let begun = env.monotonic();
        *self.report.lock() = RestoreReport::default();
        let reader = Arc::new(ChunkReader::open(&self.repository).await?);
        let plan = Plan::make(&self.repository, &self.options).await?;
        let fresh = RestoreReport {
            snapshot: Some(plan.snapshot),
            as_of_ms: plan.as_of_ms,
            ..RestoreReport::default()
        };
        *self.report.lock() = fresh.clone();
        let mut targets = Vec::new();
        for namespace in &plan.namespaces {
            let name = self.options.to.as_deref().unwrap_or(&namespace.name);
            crate::key::check_namespace(name)?;
            if Catalog::owns(name) {
                return Err(StorageError::permission_denied(
                    "the namespace belongs to the catalog of where objects lie; choose another name",
                )
                .with_namespace(name));
            }
            let overwrite = self.options.overwrite;
            let target = Target::open(&self.source, &namespace.name, name, overwrite).await?;
            targets.push(Arc::new(target));
        }
        // Nothing is written where something is in the way.
        let look = self.options.dry_run || !self.options.overwrite;
        for (namespace, target) in plan.namespaces.iter().zip(&targets).filter(|_| look) {
            if self.options.dry_run || !target.is_empty().await? {
                self.each(&reader, namespace, target, true).await?;
            }
        }
        if self.options.dry_run {
            return Ok(self.end(begun));
        }
        self.refuse_conflicts()?;
        *self.report.lock() = fresh;
        for (namespace, target) in plan.namespaces.iter().zip(&targets) {
            self.each(&reader, namespace, target, false).await?;
            target.flush().await?;
        }
        Ok(self.end(begun))
    }

    fn end(&self, begun: std::time::Duration) -> RestoreReport {
        let mut report = self.report.lock();
        report.elapsed_s = self.repository.env().monotonic().saturating_sub(begun).as_secs_f64();
        report.clone()
    }

    fn refuse_conflicts(&self) -> Result<()> {
        let report = self.report.lock();
        if report.conflicts == 0 {
            return Ok(());
        }
        Err(StorageError::conflict(format!(
            "{} objects are there in another version, such as {}, and nothing was written: restore \
             into another namespace, or have them overwritten",
            report.conflicts,
            report.conflicting.first().map_or("", String::as_str)
        ))
        .with_retry(crate::error::Retry::Permanent))
    }

    /// Looks at every object of a namespace, or writes it.
    async fn each(
        &self,
        reader: &Arc<ChunkReader>,
        namespace: &PlannedNamespace,
        target: &Arc<Target>,
        look: bool,
    ) -> Result<()> {
        let RestoreOptions { concurrency, bytes_in_flight_max, .. } = self.options;
        let bounds = Bounds { count: concurrency, bytes: bytes_in_flight_max };
        let mut work: Ordered<(Vec<u8>, u64, Result<Outcome>)> = Ordered::new(bounds);
        let mut entries = namespace.entries(reader);
        let now_ms = self.repository.env().now_ms();
        loop {
            let mut window = Vec::with_capacity(WINDOW);
            while window.len() < WINDOW {
                let Some(entry) = entries.next().await? else { break };
                window.push(entry);
            }
            if window.is_empty() {
                break;
            }
            // Packs are read one after the other rather than back and forth.
            window.sort_by_cached_key(|entry| entry.place(reader));
            for entry in window {
                let (size, target) = (entry.size(), Arc::clone(target));
                while work.is_full(size) {
                    self.take(target.name(), work.next().await?);
                }
                let reader = Arc::clone(reader);
                work.begin(size, async move {
                    let outcome = match look {
                        true => target.look(&entry, now_ms).await,
                        false => target.restore(&reader, &entry, now_ms).await,
                    };
                    (entry.key().to_vec(), size, outcome)
                });
            }
        }
        while let Some(done) = work.next().await? {
            self.take(target.name(), Some(done));
        }
        for (digest, error) in entries.damaged() {
            let part = format!("page {digest} of the namespace {:?}: {error}", namespace.name);
            self.report.lock().parts.push(part);
        }
        Ok(())
    }

    fn take(&self, namespace: &str, done: Option<(Vec<u8>, u64, Result<Outcome>)>) {
        let Some((key, size, outcome)) = done else { return };
        let mut report = self.report.lock();
        report.objects += 1;
        report.bytes += size;
        match outcome {
            Ok(Outcome::Restored) => {
                report.restored += 1;
                report.restored_bytes += size;
            }
            Ok(Outcome::Present) => report.present += 1,
            Ok(Outcome::Expired) => report.expired += 1,
            Ok(Outcome::Conflict) => {
                report.conflicts += 1;
                if report.conflicting.len() < CONFLICTS_NAMED {
                    let name = format!("{namespace}/{}", String::from_utf8_lossy(&key));
                    report.conflicting.push(name);
                }
            }
            Err(error) => {
                let key = String::from_utf8_lossy(&key).into_owned();
                let namespace = namespace.to_owned();
                report.failed.push(FailedObject { namespace, key, error: error.to_string() });
            }
        }
    }
}

//! The engine: opening, reading, scanning, durability.

mod checkpoint;
mod follow;
mod history;
mod lookup;
mod maintain;
mod open;
mod reader;
mod reclaim;
mod replay;
mod snapshot;
mod write;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_log::disk::{Disk, OsDisk};
use sira_log::log::{OpenReport, ScrubStep, SegmentLog};
use sira_log::record::LogPosition;

use super::durable::DurableWaiters;
use super::gate::Gate;
use super::index::{Index, Location};
use super::namespaces::Namespaces;
use super::stripes::Stripes;
use super::transaction::Transaction;
use super::{
    Commit, EngineOptions, NamespaceId, ObjectRef, ScanEntry, StoredObject, Ticket, WriteOptions,
};
use crate::backend::{HealthStatus, StorageStats};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::version::{HybridClock, Version};

pub(super) use follow::Followed;
pub use follow::LogPlace;
pub use history::{History, LoggedWrite};
pub use maintain::MaintenanceReport;
pub(super) use maintain::collect_if_expired;
pub use reader::ObjectReader;
pub use snapshot::Snapshot;
pub(super) use write::{Change, Put, apply_batch, apply_one, check, check_version};

/// Live bytes of each segment; read without a lock, replaced whole.
pub(super) type SegmentUsage = ArcSwap<BTreeMap<u32, Arc<AtomicU64>>>;

/// The embedded engine. Shared as `Arc<Engine>`; every call takes `&self` from any thread.
///
/// A write is one frame of the log, visible at once and durable when [`Engine::durable`] reaches
/// its ticket. An index in memory says where each key's newest frame lies.
pub struct Engine {
    pub(super) log: SegmentLog,
    pub(super) index: Index,
    pub(super) namespaces: Namespaces,
    pub(super) stripes: Stripes,
    pub(super) gate: Gate,
    pub(super) clock: HybridClock,
    pub(super) env: Arc<dyn Env>,
    pub(super) usage: SegmentUsage,
    options: EngineOptions,
    waiters: Arc<DurableWaiters>,
    maintenance: maintain::Maintenance,
    maintenance_error: Mutex<Option<String>>,
    worker: Mutex<Option<std::thread::JoinHandle<()>>>,
    stop: Arc<maintain::Stop>,
    report: OpenReport,
    corrupt_reads: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("root", &self.log.root()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens or makes the store in a folder of the operating system.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process has it, [`StorageError::OutOfSpace`],
    /// [`StorageError::PermissionDenied`], [`StorageError::Corrupt`] for a folder whose settings
    /// are damaged, [`StorageError::Io`]. Damage of the log is no error: what verifies is served,
    /// and writes answer [`StorageError::ReadOnly`].
    pub fn open(root: &Path, options: EngineOptions) -> Result<Arc<Self>> {
        Self::open_on(Arc::new(OsDisk), Arc::new(SystemEnv), root, options)
    }

    /// Opens or makes the store on any medium, in any environment.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        env: Arc<dyn Env>,
        root: &Path,
        options: EngineOptions,
    ) -> Result<Arc<Self>> {
        open::open(disk, env, root, options)
    }

    /// How the engine was opened.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The environment that the engine runs in.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// Folder of the store.
    pub fn root(&self) -> &Path {
        self.log.root()
    }

    /// What opening the log found: a clean end, a torn one, damage.
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// The namespace of this name, made (durably) if it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a name that is none, and the medium's.
    pub fn namespace(&self, name: &str) -> Result<NamespaceId> {
        self.namespaces.ensure(name)
    }

    /// The namespace of this name, if it is there.
    pub fn find_namespace(&self, name: &str) -> Option<NamespaceId> {
        self.namespaces.find(name)
    }

    /// Names and numbers of all namespaces, sorted by name.
    pub fn namespaces(&self) -> Vec<(String, NamespaceId)> {
        self.namespaces.list()
    }

    /// Drops a namespace with all its objects, in constant visible time; says whether it was there.
    /// It is durable when this returns.
    ///
    /// # Errors
    /// The medium's; the namespace is then still there.
    pub fn drop_namespace(&self, name: &str) -> Result<bool> {
        let dropped = self.namespaces.remove(name)?;
        if let Some(id) = dropped {
            self.maintenance.dropped(id);
            self.stop.wake();
        }
        Ok(dropped.is_some())
    }

    /// Empties a namespace, making it if it is not there, in constant visible time. Its number
    /// changes, unless it was empty. It is durable when this returns.
    ///
    /// # Errors
    /// As [`Engine::namespace`].
    pub fn clear_namespace(&self, name: &str) -> Result<NamespaceId> {
        if let Some(id) = self.find_namespace(name).filter(|id| self.count(*id) == 0) {
            return Ok(id);
        }
        let (old, new) = self.namespaces.clear(name)?;
        if let Some(old) = old {
            self.maintenance.dropped(old);
            self.stop.wake();
        }
        Ok(new)
    }

    /// Exchanges the contents of two namespaces as one step; both are made if not there.
    ///
    /// # Errors
    /// As [`Engine::namespace`].
    pub fn swap_namespaces(&self, a: &str, b: &str) -> Result<()> {
        self.namespaces.swap(a, b)
    }

    /// Lends the object under a key to `visit`; expired objects are not there.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when the stored bytes fail their checksum, [`StorageError::Io`].
    pub fn read<R>(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        visit: impl FnOnce(ObjectRef<'_>) -> R,
    ) -> Result<Option<R>> {
        lookup::read(self, namespace, key, visit)
    }

    /// The object under a key, without a copy.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        lookup::get(self, namespace, key, 0..u64::MAX)
    }

    /// A range of the object's bytes (the end is cut to the size). Of a large value only the blocks
    /// that the range touches are read and verified. A start past the end gives no bytes.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn get_range(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        range: Range<u64>,
    ) -> Result<Option<StoredObject>> {
        lookup::get(self, namespace, key, range)
    }

    /// All but the bytes: `value` is empty, `size` is the whole size.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn head(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        lookup::head(self, namespace, key)
    }

    /// Visits keys in byte order: those that begin with `prefix` and come after `start_after`.
    /// Expired objects are left out. Writers go on meanwhile: a key that is there all the time is
    /// visited exactly once.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn scan(
        &self,
        namespace: NamespaceId,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        visit: impl FnMut(ScanEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        lookup::scan(self, namespace, prefix, start_after, visit)
    }

    /// Keys of a namespace, expired ones that are not collected yet included.
    pub fn count(&self, namespace: NamespaceId) -> u64 {
        self.namespaces.with_count(namespace, |count| count.get()).unwrap_or(0)
    }

    /// Some key of a namespace that has not expired; `None` when there is none.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn random_key(&self, namespace: NamespaceId) -> Result<Option<Bytes>> {
        lookup::random_key(self, namespace)
    }

    /// Writes one object, whatever was there.
    ///
    /// # Errors
    /// [`StorageError::OutOfSpace`], [`StorageError::TooLarge`], [`StorageError::NotFound`] when
    /// the namespace was dropped, [`StorageError::ReadOnly`] when the engine takes no writes,
    /// [`StorageError::Io`].
    pub fn put(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        value: &[u8],
        options: WriteOptions<'_>,
    ) -> Result<Commit> {
        write::put(self, namespace, key, value, options)
    }

    /// Takes the keys for reading and writing as one step; others wait until the transaction is
    /// committed or dropped. Do not begin a second one on the same thread meanwhile.
    pub fn begin(&self, keys: &[(NamespaceId, &[u8])]) -> Transaction<'_> {
        Transaction::new(self, self.stripes.lock(keys))
    }

    /// Takes every key of every namespace.
    pub fn begin_exclusive(&self) -> Transaction<'_> {
        Transaction::new(self, self.stripes.lock_all())
    }

    /// Everything up to this ticket is durable.
    pub fn durable(&self) -> Ticket {
        Ticket(self.log.durable())
    }

    /// Blocks until the ticket is durable, syncing for the whole group if nobody does.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] when a sync failed: what is durable is unknown then.
    pub fn wait_durable(&self, ticket: Ticket) -> Result<()> {
        Ok(self.log.wait_durable(ticket.0)?)
    }

    /// Asks the engine's own thread to make the ticket durable, and returns at once. Watchers are
    /// called when it is, or when the engine fails.
    pub fn request_durable(&self, ticket: Ticket) {
        self.log.request_durable(ticket.0);
    }

    /// How long a sync takes of late, smoothed; zero before the first.
    pub fn sync_time(&self) -> Duration {
        self.log.sync_time()
    }

    /// Asks for all writes so far to become durable within `delay`, and returns at once.
    pub fn request_durable_within(&self, delay: Duration) {
        self.log.request_durable_within(delay);
    }

    /// Calls `watcher` after each sync, from the thread that synced; it must be quick and must not
    /// call the engine, but for [`Engine::durable`].
    pub fn watch_durable(&self, watcher: Arc<dyn Fn() + Send + Sync>) {
        self.log.watch_durable(watcher);
    }

    /// Waits, without blocking a thread, until the ticket is durable.
    ///
    /// # Errors
    /// As [`Engine::wait_durable`].
    pub async fn durable_async(&self, ticket: Ticket) -> Result<()> {
        self.waiters.wait(&self.log, ticket.0).await
    }

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// As [`Engine::wait_durable`].
    pub fn flush(&self) -> Result<()> {
        Ok(self.log.wait_durable(self.log.appended())?)
    }

    /// Whether the engine takes writes.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] when it has stopped taking them, and why.
    pub fn check_writable(&self) -> Result<()> {
        Ok(self.log.check_writable()?)
    }

    /// Reads and checks the records from a place in the log on, see [`SegmentLog::scrub`]; whatever is
    /// found, the engine goes on as it did.
    ///
    /// # Errors
    /// The medium's.
    pub fn scrub(&self, from: LogPosition, bytes: u64) -> Result<ScrubStep> {
        Ok(self.log.scrub(from, bytes)?)
    }

    /// Whether the engine works, and what someone should look at.
    pub fn health(&self) -> HealthStatus {
        if let Err(error) = self.check_writable() {
            return HealthStatus::Critical(error.to_string());
        }
        if let Some(error) = &*self.maintenance_error.lock() {
            return HealthStatus::Warning(format!("maintenance failed: {error}"));
        }
        let corrupt = self.corrupt_reads.load(Ordering::Relaxed);
        if corrupt > 0 {
            return HealthStatus::Warning(format!(
                "{corrupt} reads found bytes that fail their checksum: run `sira log verify`"
            ));
        }
        HealthStatus::Healthy
    }

    /// Figures of the engine.
    pub fn stats(&self) -> StorageStats {
        let segments = self.log.segments();
        let used: u64 = segments.iter().map(|segment| segment.used()).sum();
        let live: u64 = self.usage.load().values().map(|live| live.load(Ordering::Relaxed)).sum();
        StorageStats {
            keys: self.index.len(),
            live_bytes: live.min(used),
            dead_bytes: used.saturating_sub(live),
            used_bytes: used,
            available_bytes: self.log.disk().free_bytes(self.log.root()),
            segments: segments.len() as u64,
            index_bytes: self.index.memory_bytes(),
        }
    }

    /// Checkpoints, syncs and stops: later writes are refused, reads go on. A second call does
    /// nothing.
    ///
    /// # Errors
    /// As [`Engine::wait_durable`].
    pub fn close(&self) -> Result<()> {
        self.stop_worker();
        maintain::close(self)
    }

    fn stop_worker(&self) {
        self.stop.stop();
        if let Some(worker) = self.worker.lock().take()
            && worker.thread().id() != std::thread::current().id()
        {
            // A panic of the worker already showed; there is nothing left to do for it.
            let _ = worker.join();
        }
    }

    pub(super) fn next_version(&self) -> Version {
        self.clock.next(self.env.now_ms())
    }

    /// Counts the bytes of an item as live in its segment.
    pub(super) fn add_live(&self, key_len: usize, location: Location) {
        let bytes = item_bytes(key_len, location);
        if let Some(live) = self.usage.load().get(&location.segment) {
            live.fetch_add(bytes, Ordering::Relaxed);
            return;
        }
        let live = Arc::new(AtomicU64::new(0));
        let before = self.usage.rcu(|usage| {
            let mut usage = BTreeMap::clone(usage);
            usage.entry(location.segment).or_insert_with(|| Arc::clone(&live));
            usage
        });
        // Another writer may have been first.
        before.get(&location.segment).unwrap_or(&live).fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts the bytes of an item as dead.
    pub(super) fn add_dead(&self, key_len: usize, location: Location) {
        if let Some(live) = self.usage.load().get(&location.segment) {
            let bytes = item_bytes(key_len, location);
            let _ = live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| {
                Some(live.saturating_sub(bytes))
            });
        }
    }

    pub(super) fn saw_corruption(&self) {
        self.corrupt_reads.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop_worker();
    }
}

/// Bytes that an item with its frame takes in the log, nearly.
fn item_bytes(key_len: usize, location: Location) -> u64 {
    88 + key_len as u64 + u64::from(location.size)
}

impl From<sira_log::LogError> for StorageError {
    fn from(error: sira_log::LogError) -> Self {
        use sira_log::LogError;
        let message = error.to_string();
        match error {
            LogError::Io { source, .. } => {
                let inner = Self::from(source);
                let retry = inner.retry();
                match inner {
                    Self::OutOfSpace(_) => Self::out_of_space(message),
                    Self::PermissionDenied(_) => Self::permission_denied(message),
                    other => Self::io(message).with_retry(retry).with_source(other),
                }
            }
            LogError::OutOfSpace { .. } => Self::out_of_space(message),
            LogError::Corrupt { .. } | LogError::Format { .. } => Self::corrupt(message),
            LogError::Damaged { .. } => Self::read_only(message),
            LogError::Poisoned { .. } => {
                Self::read_only(message).with_retry(crate::Retry::Ambiguous)
            }
            LogError::Locked { .. } => Self::locked(message),
            LogError::TooLarge { .. } => Self::too_large(message),
            LogError::InvalidInput(_) => Self::invalid_input(message),
            LogError::Closed => Self::unavailable("the engine is closed"),
            _ => Self::io(message),
        }
    }
}

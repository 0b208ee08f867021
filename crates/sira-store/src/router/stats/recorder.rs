//! Records outcomes on many threads at once, and makes snapshots of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::env::{Env, SystemEnv};

use super::super::profile::BackendProfile;
use super::super::request::RouteOutcome;
use super::window::{Batch, Window};
use super::{BackendStats, RoutingStats};

/// Threads record into one of this many batches a backend.
const SHARDS: usize = 8;

/// Where operations are recorded, and the snapshot that strategies decide by.
///
/// Recording takes the lock of one of several batches, which threads seldom share. Once an interval
/// the batches are drained into sums that age, and a new snapshot takes the old one's place.
pub struct StatsRecorder {
    env: Arc<dyn Env>,
    cells: ArcSwap<BTreeMap<String, Arc<Cell>>>,
    snapshot: ArcSwap<RoutingStats>,
    interval_ms: AtomicU64,
    half_life: Duration,
    /// Monotonic milliseconds at which the next snapshot is due.
    due_ms: AtomicU64,
    /// Held while a snapshot is made: the monotonic time of the last one.
    making: Mutex<Duration>,
}

struct Cell {
    profile: Arc<BackendProfile>,
    shards: [Shard; SHARDS],
    window: Mutex<Window>,
    operations: AtomicU64,
    failures: AtomicU64,
}

/// Apart from its neighbours in the cache.
#[repr(align(128))]
struct Shard(Mutex<Batch>);

impl StatsRecorder {
    /// Time between snapshots, unless set otherwise.
    pub const INTERVAL: Duration = Duration::from_millis(250);
    /// Time after which an operation counts half, unless set otherwise.
    pub const HALF_LIFE: Duration = Duration::from_secs(10);

    /// A recorder on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_env(Arc::new(SystemEnv), Self::HALF_LIFE)
    }

    /// A recorder on the clock of `env`, in which operations count half after each `half_life`.
    #[must_use]
    pub fn with_env(env: Arc<dyn Env>, half_life: Duration) -> Self {
        let now = env.monotonic();
        Self {
            env,
            cells: ArcSwap::default(),
            snapshot: ArcSwap::default(),
            interval_ms: AtomicU64::new(Self::INTERVAL.as_millis() as u64),
            half_life,
            due_ms: AtomicU64::new(0),
            making: Mutex::new(now),
        }
    }

    /// Sets the time between snapshots.
    pub fn set_interval(&self, interval: Duration) {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.interval_ms.store(interval_ms, Ordering::Relaxed);
        self.due_ms.store(0, Ordering::Relaxed);
    }

    /// Adds a backend, or gives one that is there a new profile; what was measured stays.
    pub fn register(&self, backend: impl Into<String>, profile: BackendProfile) {
        let (backend, profile) = (backend.into(), Arc::new(profile));
        self.cells.rcu(|cells| {
            let mut cells = BTreeMap::clone(cells);
            let cell = match cells.get(&backend) {
                Some(old) => old.with_profile(profile.clone()),
                None => Cell::new(profile.clone()),
            };
            cells.insert(backend.clone(), Arc::new(cell));
            cells
        });
        self.refresh();
    }

    /// Forgets a backend and what was measured of it.
    pub fn remove(&self, backend: &str) {
        self.cells.rcu(|cells| {
            let mut cells = BTreeMap::clone(cells);
            cells.remove(backend);
            cells
        });
        self.refresh();
    }

    /// Counts an operation. One of a backend that is not registered is passed over.
    pub fn record(&self, outcome: &RouteOutcome<'_>) {
        let cells = self.cells.load();
        let Some(cell) = cells.get(outcome.backend) else { return };
        let abroad = match (outcome.region, cell.profile.region.as_deref()) {
            (Some(caller), Some(backend)) => caller != backend,
            _ => false,
        };
        let cost = cell.profile.prices.operation(outcome.operation, outcome.size, abroad);
        cell.operations.fetch_add(1, Ordering::Relaxed);
        if !outcome.success {
            cell.failures.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(shard) = cell.shards.get(shard_of_thread()) {
            shard.0.lock().add(outcome.latency, outcome.size, outcome.success, cost);
        }
    }

    /// The newest snapshot; makes one first where one is due.
    #[must_use]
    pub fn snapshot(&self) -> RoutingStats {
        let now_ms = millis(self.env.monotonic());
        if now_ms >= self.due_ms.load(Ordering::Relaxed) {
            // Whoever else comes meanwhile goes on with the old one.
            if let Some(last) = self.making.try_lock() {
                self.make(last);
            }
        }
        RoutingStats::clone(&self.snapshot.load())
    }

    /// Makes a snapshot now.
    pub fn refresh(&self) {
        self.make(self.making.lock());
    }

    fn make(&self, mut last: parking_lot::MutexGuard<'_, Duration>) {
        let now = self.env.monotonic();
        let passed = now.saturating_sub(*last);
        let mut backends = BTreeMap::new();
        for (name, cell) in self.cells.load().iter() {
            backends.insert(name.clone(), cell.stats(passed, self.half_life));
        }
        *last = now;
        self.snapshot.store(Arc::new(RoutingStats { backends: Arc::new(backends) }));
        let interval_ms = self.interval_ms.load(Ordering::Relaxed);
        self.due_ms.store(millis(now).saturating_add(interval_ms), Ordering::Relaxed);
    }
}

impl Default for StatsRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StatsRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsRecorder").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Cell {
    fn new(profile: Arc<BackendProfile>) -> Self {
        Self {
            profile,
            shards: std::array::from_fn(|_| Shard(Mutex::new(Batch::new()))),
            window: Mutex::new(Window::new()),
            operations: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    fn with_profile(&self, profile: Arc<BackendProfile>) -> Self {
        let cell = Self::new(profile);
        let mut window = self.window.lock();
        for shard in &self.shards {
            window.take(&mut shard.0.lock());
        }
        *cell.window.lock() = window.clone();
        cell.operations.store(self.operations.load(Ordering::Relaxed), Ordering::Relaxed);
        cell.failures.store(self.failures.load(Ordering::Relaxed), Ordering::Relaxed);
        cell
    }

    fn stats(&self, passed: Duration, half_life: Duration) -> BackendStats {
        let mut window = self.window.lock();
        window.age(passed, half_life);
        for shard in &self.shards {
            window.take(&mut shard.0.lock());
        }
        let mut stats = BackendStats::unmeasured(self.profile.clone());
        stats.operations_total = self.operations.load(Ordering::Relaxed);
        stats.failures_total = self.failures.load(Ordering::Relaxed);
        stats.evidence = window.operations;
        // Below that, what is left of old operations says nothing of now.
        if window.operations < 0.1 {
            return stats;
        }
        let mean = |sum: f64| sum / window.operations;
        stats.avg_response_time = Duration::from_secs_f64(mean(window.latency_us) / 1e6);
        stats.p95_response_time = window.quantile(0.95);
        stats.p99_response_time = window.quantile(0.99);
        stats.cost_per_operation = mean(window.cost);
        stats.success_rate = 1.0 - mean(window.failures);
        if window.seconds > 0.0 {
            stats.operations_per_s = window.operations / window.seconds;
            stats.bytes_per_s = window.bytes / window.seconds;
        }
        stats
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Threads take turns with the shards, each for good.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

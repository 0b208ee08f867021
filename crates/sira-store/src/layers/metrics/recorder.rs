//! What is counted of one backend.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::histogram::{HistogramSnapshot, Rolling};
use super::tally::{NamespaceFigures, NamespaceTally, Tallies};
use crate::backend::StorageStats;
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::layers::around::{Answer, Around, Operation, OperationKind};
use crate::layers::request::request_id;
use crate::layers::stack::LayerHandles;

/// Kinds of errors, each at the index of its code.
const ERRORS: usize = StorageError::CODES.len();

/// Figures of a backend, those of all operations together.
///
/// Times are milliseconds. Latencies and throughput are those of the last minute, counts are since
/// the start. What no layer has told is `None`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct StorageMetrics {
    /// Operations that ended, by an answer or an error.
    pub operations_total: u64,
    /// Those that were answered.
    pub operations_success: u64,
    /// Those that ended with an error, conditions that did not hold included.
    pub operations_failed: u64,
    /// Operations that their callers dropped.
    pub operations_cancelled: u64,
    /// Operations under way.
    pub in_flight: u64,
    /// Mean time of an operation of the last minute, in milliseconds.
    pub avg_response_time: f64,
    /// Time that half of the operations of the last minute did not exceed, in milliseconds.
    pub p50_response_time: f64,
    /// Time that 95% of the operations of the last minute did not exceed, in milliseconds.
    pub p95_response_time: f64,
    /// Time that 99% of the operations of the last minute did not exceed, in milliseconds.
    pub p99_response_time: f64,
    /// Operations a second over the last minute.
    pub throughput: f64,
    /// Bytes of values written.
    pub bytes_in: u64,
    /// Bytes of values read.
    pub bytes_out: u64,
    /// Bytes used on the medium, when figures were asked for last.
    pub used_bytes: Option<u64>,
    /// Bytes that can still be written, when figures were asked for last, where the engine tells.
    pub available_bytes: Option<u64>,
    /// Share of reads that a cache answered, from 0 to 1.
    pub cache_hit_ratio: Option<f64>,
    /// Bytes of values divided by the bytes that were stored for them: 2 is half the space.
    pub compression_ratio: Option<f64>,
}

/// Figures of one operation of a backend, since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationFigures {
    /// Which operation.
    pub kind: OperationKind,
    /// Those that were answered.
    pub success: u64,
    /// Those that failed, by the code of the error; kinds without any are left out.
    pub failed: Vec<(&'static str, u64)>,
    /// Those that their callers dropped.
    pub cancelled: u64,
    /// Bytes of values written.
    pub bytes_in: u64,
    /// Bytes of values read.
    pub bytes_out: u64,
    /// Times of those that ended.
    pub latency: HistogramSnapshot,
    /// Times of those of the last minute.
    pub recent: HistogramSnapshot,
}

/// Everything that is known of a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// All operations together.
    pub metrics: StorageMetrics,
    /// Each operation that was used.
    pub operations: Vec<OperationFigures>,
}

#[derive(Debug, Default)]
struct Counters {
    success: AtomicU64,
    failed: [AtomicU64; ERRORS],
    cancelled: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency: Rolling,
}

/// From which time on operations are slow; shared by the backends of a collector.
#[derive(Debug)]
pub(super) struct SlowOperation(AtomicU64);

impl Default for SlowOperation {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl SlowOperation {
    pub(super) fn set(&self, at_least: Option<Duration>) {
        let nanos = at_least.map_or(u64::MAX, nanos);
        self.0.store(nanos, Ordering::Relaxed);
    }

    fn is(&self, elapsed: Duration) -> bool {
        let bound = self.0.load(Ordering::Relaxed);
        bound != u64::MAX && nanos(elapsed) >= bound
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts the operations of one backend.
#[derive(Debug)]
pub struct BackendMetrics {
    name: String,
    env: Arc<dyn Env>,
    begun: Duration,
    operations: [OnceLock<Box<Counters>>; OperationKind::ALL.len()],
    in_flight: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    stats: Mutex<Option<StorageStats>>,
    layers: RwLock<LayerHandles>,
    slow: Arc<SlowOperation>,
    tallies: Tallies,
}

impl BackendMetrics {
    /// Counters at zero, for a backend of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, env: Arc<dyn Env>) -> Self {
        Self {
            name: name.into(),
            begun: env.monotonic(),
            env,
            operations: Default::default(),
            in_flight: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
            plain_bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
            stats: Mutex::new(None),
            layers: RwLock::new(LayerHandles::default()),
            slow: Arc::default(),
            tallies: Tallies::default(),
        }
    }

    pub(super) fn tell_slow(mut self, slow: Arc<SlowOperation>) -> Self {
        self.slow = slow;
        self
    }

    /// The backend's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a read that a cache answered, or did not.
    pub fn record_cache(&self, hit: bool) {
        let counter = if hit { &self.cache_hits } else { &self.cache_misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a value and what was stored for it, in bytes.
    pub fn record_compression(&self, plain_bytes: u64, stored_bytes: u64) {
        self.plain_bytes.fetch_add(plain_bytes, Ordering::Relaxed);
        self.stored_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
    }

    /// The layers of the backend, whose own counters are told with its figures.
    pub(crate) fn attach(&self, layers: LayerHandles) {
        *self.layers.write() = layers;
    }

    pub(super) fn layers(&self) -> LayerHandles {
        self.layers.read().clone()
    }

    /// All figures as they are now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let now = self.env.monotonic();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut operations = Vec::new();
        let mut metrics =
            StorageMetrics { in_flight: load(&self.in_flight), ..StorageMetrics::default() };
        let mut recent = HistogramSnapshot::default();
        for (kind, counters) in OperationKind::ALL.into_iter().zip(&self.operations) {
            let Some(counters) = counters.get() else { continue };
            let failed: Vec<(&'static str, u64)> = StorageError::CODES
                .iter()
                .zip(&counters.failed)
                .map(|(code, count)| (*code, load(count)))
                .filter(|(_, count)| *count > 0)
                .collect();
            let figures = OperationFigures {
                kind,
                success: load(&counters.success),
                failed,
                cancelled: load(&counters.cancelled),
                bytes_in: load(&counters.bytes_in),
                bytes_out: load(&counters.bytes_out),
                latency: counters.latency.total(),
                recent: counters.latency.recent(now),
            };
            recent.merge(&figures.recent);
            metrics.operations_success += figures.success;
            metrics.operations_failed += figures.failed.iter().map(|(_, count)| count).sum::<u64>();
            metrics.operations_cancelled += figures.cancelled;
            metrics.bytes_in += figures.bytes_in;
            metrics.bytes_out += figures.bytes_out;
            operations.push(figures);
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        metrics.operations_total = metrics.operations_success + metrics.operations_failed;
        metrics.avg_response_time = ms(recent.mean());
        metrics.p50_response_time = ms(recent.quantile(0.5));
        metrics.p95_response_time = ms(recent.quantile(0.95));
        metrics.p99_response_time = ms(recent.quantile(0.99));
        let seconds = Rolling::recent_seconds(now, self.begun);
        metrics.throughput = if seconds > 0.0 { recent.count() as f64 / seconds } else { 0.0 };
        if let Some(stats) = &*self.stats.lock() {
            metrics.used_bytes = Some(stats.used_bytes);
            metrics.available_bytes = stats.available_bytes;
        }
        let (hits, misses) = (load(&self.cache_hits), load(&self.cache_misses));
        metrics.cache_hit_ratio = ratio(hits, hits + misses);
        metrics.compression_ratio = ratio(load(&self.plain_bytes), load(&self.stored_bytes));
        Figures { metrics, operations }
    }

    /// What each namespace has done since the start, and what counts with none of them: transactions.
    #[must_use]
    pub fn namespaces(&self) -> (BTreeMap<String, NamespaceFigures>, NamespaceFigures) {
        self.tallies.figures()
    }

    /// How long is counted.
    #[must_use]
    pub fn counted(&self) -> Duration {
        self.env.monotonic().saturating_sub(self.begun)
    }

    /// Figures of all operations together.
    #[must_use]
    pub fn metrics(&self) -> StorageMetrics {
        self.figures().metrics
    }

    fn counters(&self, kind: OperationKind) -> Option<&Counters> {
        let counters = self.operations.get(kind as usize)?;
        Some(counters.get_or_init(Box::default))
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// An operation under way, counted as cancelled unless it ends.
struct Running<'a> {
    metrics: &'a BackendMetrics,
    cancelled: Option<&'a AtomicU64>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(cancelled) = self.cancelled {
            cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Around for BackendMetrics {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let Some(counters) = self.counters(operation.kind) else { return call.await };
        let begun = self.env.monotonic();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut running = Running { metrics: self, cancelled: Some(&counters.cancelled) };
        let result = call.await;
        running.cancelled = None;
        drop(running);
        let now = self.env.monotonic();
        let elapsed = now.saturating_sub(begun);
        counters.latency.record(now, elapsed);
        if self.slow.is(elapsed) {
            tracing::warn!(
                backend = self.name,
                namespace = operation.namespace,
                operation = operation.kind.name(),
                duration_ms = elapsed.as_secs_f64() * 1e3,
                error = result.as_ref().err().map(StorageError::code),
                request_id = request_id().as_deref(),
                "slow operation",
            );
        }
        let add = |counter: &AtomicU64, bytes: u64| {
            if bytes > 0 {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }
        };
        let read_bytes = result.as_ref().map_or(0, Answer::value_bytes);
        self.tallies.count(operation, read_bytes);
        match &result {
            Ok(answer) => {
                counters.success.fetch_add(1, Ordering::Relaxed);
                add(&counters.bytes_in, operation.bytes_in());
                add(&counters.bytes_out, read_bytes);
                if let Some(stats) = answer.storage_stats() {
                    *self.stats.lock() = Some(stats.clone());
                }
            }
            Err(error) => {
                let at = StorageError::CODES.iter().position(|code| *code == error.code());
                if let Some(count) = at.and_then(|at| counters.failed.get(at)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        result
    }

    fn tally(&self, namespace: &str) -> Option<Arc<NamespaceTally>> {
        self.tallies.of(namespace)
    }
}

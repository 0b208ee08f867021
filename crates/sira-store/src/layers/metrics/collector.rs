//! The figures of all backends, and their Prometheus text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::families::{MetricFamilies, MetricKind as Kind};
use super::recorder::{BackendMetrics, Figures, SlowOperation, StorageMetrics};
use crate::env::{Env, SystemEnv};
use crate::layers::breaker::BreakerState;
use crate::layers::stack::LayerHandles;

/// Bounds of the latency buckets of the Prometheus text, as powers of two of nanoseconds: from 16
/// microseconds to 17 seconds. They are borders of the histogram's buckets, so that counts are
/// exact.
const BOUND_POWERS: std::ops::RangeInclusive<u32> = 14..=34;

/// The figures of all backends by name.
#[derive(Debug)]
pub struct MetricsCollector {
    env: Arc<dyn Env>,
    backends: RwLock<BTreeMap<String, Arc<BackendMetrics>>>,
    slow: Arc<SlowOperation>,
}

impl Default for MetricsCollector {
    fn default() -> Self {
        Self::new()
    }
}

/// A family of the Prometheus text: name, kind, help, and the samples of one backend as labels
/// beside `backend`, and values.
type Family = (&'static str, Kind, &'static str, Samples);
type Samples = fn(&Figures, &LayerHandles) -> Vec<(Vec<(&'static str, &'static str)>, f64)>;

impl MetricsCollector {
    /// A collector without backends.
    #[must_use]
    pub fn new() -> Self {
        Self::with_env(Arc::new(SystemEnv))
    }

    /// As [`MetricsCollector::new`], with the clock of `env`.
    #[must_use]
    pub fn with_env(env: Arc<dyn Env>) -> Self {
        Self { env, backends: RwLock::default(), slow: Arc::default() }
    }

    /// The counters of a backend, which are made if they are not there.
    pub fn backend(&self, name: &str) -> Arc<BackendMetrics> {
        if let Some(backend) = self.backends.read().get(name) {
            return Arc::clone(backend);
        }
        let mut backends = self.backends.write();
        let made = || {
            let metrics = BackendMetrics::new(name, Arc::clone(&self.env));
            Arc::new(metrics.tell_slow(Arc::clone(&self.slow)))
        };
        Arc::clone(backends.entry(name.to_owned()).or_insert_with(made))
    }

    /// Forgets a backend, and says whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        self.backends.write().remove(name).is_some()
    }

    /// Figures of one backend; `None` for one that is not known.
    #[must_use]
    pub fn metrics(&self, name: &str) -> Option<StorageMetrics> {
        self.backends.read().get(name).map(|backend| backend.metrics())
    }

    /// Figures of all backends, by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, StorageMetrics> {
        let backends: Vec<Arc<BackendMetrics>> = self.backends.read().values().cloned().collect();
        backends.iter().map(|backend| (backend.name().to_owned(), backend.metrics())).collect()
    }

    /// Everything that is known of all backends, by name.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, Figures> {
        let backends: Vec<Arc<BackendMetrics>> = self.backends.read().values().cloned().collect();
        backends.iter().map(|backend| (backend.name().to_owned(), backend.figures())).collect()
    }

    /// The counters of every backend, by name.
    #[must_use]
    pub fn backends(&self) -> BTreeMap<String, Arc<BackendMetrics>> {
        self.backends.read().clone()
    }

    /// Writes a log line at WARN for every operation of any backend that takes at least this long,
    /// from now on; `None` for none.
    pub fn set_slow_operation(&self, at_least: Option<Duration>) {
        self.slow.set(at_least);
    }

    /// Writes all figures as metric families `sira_backend_*`, labelled with `backend`.
    pub fn write(&self, out: &mut MetricFamilies) {
        let backends: Vec<Arc<BackendMetrics>> = self.backends.read().values().cloned().collect();
        let figures: Vec<(&str, Figures, LayerHandles)> = backends
            .iter()
            .map(|backend| (backend.name(), backend.figures(), backend.layers()))
            .collect();
        for (name, kind, help, samples) in FAMILIES {
            let mut begun = false;
            for (backend, figures, layers) in &figures {
                for (mut labels, value) in samples(figures, layers) {
                    if !begun {
                        out.family(name, *kind, help);
                        begun = true;
                    }
                    let mut all = vec![("backend", *backend)];
                    all.append(&mut labels);
                    out.sample(&all, value);
                }
            }
        }
        write_latencies(&figures, out);
    }
}

fn write_latencies(figures: &[(&str, Figures, LayerHandles)], out: &mut MetricFamilies) {
    let name = "sira_backend_operation_duration_seconds";
    let bounds: Vec<f64> = BOUND_POWERS.map(|power| (1_u64 << power) as f64 / 1e9).collect();
    let mut begun = false;
    for (backend, figures, _) in figures {
        for operation in &figures.operations {
            if !begun {
                out.family(name, Kind::Histogram, "Time from the call of an operation to its end.");
                begun = true;
            }
            let latency = &operation.latency;
            let mut below = 0;
            let mut counts = Vec::with_capacity(bounds.len() + 1);
            for power in BOUND_POWERS {
                let next = latency.below_power(power);
                counts.push(next.saturating_sub(below));
                below = next;
            }
            counts.push(latency.count().saturating_sub(below));
            let labels = [("backend", *backend), ("operation", operation.kind.name())];
            out.histogram(&labels, &bounds, &counts, latency.sum().as_secs_f64());
        }
    }
}

/// The sample of a backend that has one, without labels of its own.
fn one(value: Option<f64>) -> Vec<(Vec<(&'static str, &'static str)>, f64)> {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

const FAMILIES: &[Family] = &[
    (
        "sira_backend_operations_total",
        Kind::Counter,
        "Operations that ended, by outcome: success, cancelled, or the code of the error.",
        |figures, _| {
            let mut samples = Vec::new();
            for operation in &figures.operations {
                let mut add = |outcome, count: u64| {
                    if count > 0 {
                        let labels = vec![("operation", operation.kind.name()), outcome];
                        samples.push((labels, count as f64));
                    }
                };
                add(("outcome", "success"), operation.success);
                add(("outcome", "cancelled"), operation.cancelled);
                for (code, count) in &operation.failed {
                    add(("outcome", code), *count);
                }
            }
            samples
        },
    ),
    (
        "sira_backend_value_bytes_total",
        Kind::Counter,
        "Bytes of values, by direction.",
        |figures, _| {
            let metrics = &figures.metrics;
            [("in", metrics.bytes_in), ("out", metrics.bytes_out)]
                .map(|(direction, bytes)| (vec![("direction", direction)], bytes as f64))
                .into()
        },
    ),
    ("sira_backend_operations_in_flight", Kind::Gauge, "Operations under way.", |figures, _| {
        one(Some(figures.metrics.in_flight as f64))
    }),
    (
        "sira_backend_throughput_operations_per_second",
        Kind::Gauge,
        "Operations a second over the last minute.",
        |figures, _| one(Some(figures.metrics.throughput)),
    ),
    (
        "sira_backend_recent_duration_seconds",
        Kind::Gauge,
        "Mean and quantiles of the operations of the last minute.",
        |figures, _| {
            let metrics = &figures.metrics;
            [
                ("mean", metrics.avg_response_time),
                ("p50", metrics.p50_response_time),
                ("p95", metrics.p95_response_time),
                ("p99", metrics.p99_response_time),
            ]
            .map(|(statistic, ms)| (vec![("statistic", statistic)], ms / 1e3))
            .into()
        },
    ),
    ("sira_backend_used_bytes", Kind::Gauge, "Bytes used on the medium.", |figures, _| {
        one(figures.metrics.used_bytes.map(|bytes| bytes as f64))
    }),
    (
        "sira_backend_available_bytes",
        Kind::Gauge,
        "Bytes that can still be written.",
        |figures, _| one(figures.metrics.available_bytes.map(|bytes| bytes as f64)),
    ),
    (
        "sira_backend_cache_hit_ratio",
        Kind::Gauge,
        "Share of reads that a cache answered.",
        |figures, _| one(figures.metrics.cache_hit_ratio),
    ),
    (
        "sira_backend_compression_ratio",
        Kind::Gauge,
        "Bytes of values divided by the bytes stored for them.",
        |figures, _| one(figures.metrics.compression_ratio),
    ),
    (
        "sira_backend_breaker_state",
        Kind::Gauge,
        "State of the circuit breaker: 0 closed, 1 half open, 2 open.",
        |_, layers| {
            one(layers.breaker.as_ref().map(|breaker| match breaker.state() {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            }))
        },
    ),
    (
        "sira_backend_breaker_opened_total",
        Kind::Counter,
        "Times that the circuit breaker opened.",
        |_, layers| one(layers.breaker.as_ref().map(|breaker| breaker.times_opened() as f64)),
    ),
    (
        "sira_backend_retries_total",
        Kind::Counter,
        "What retries did: attempts made again, attempts refused by the budget, writes whose effect \
         was found by reading back, and writes whose effect stayed unknown.",
        |_, layers| {
            let Some(retries) = layers.retry.as_ref().map(|retry| retry.counters()) else {
                return Vec::new();
            };
            [
                ("retried", retries.retried),
                ("over_budget", retries.over_budget),
                ("found", retries.found),
                ("unknown", retries.unknown),
            ]
            .map(|(what, count)| (vec![("event", what)], count as f64))
            .into()
        },
    ),
    (
        "sira_backend_hedges_total",
        Kind::Counter,
        "Second requests of reads: sent, answered first, refused by the budget.",
        |_, layers| {
            let Some(hedges) = layers.hedge.as_ref().map(|hedge| hedge.counters()) else {
                return Vec::new();
            };
            [("sent", hedges.sent), ("won", hedges.won), ("over_budget", hedges.over_budget)]
                .map(|(what, count)| (vec![("event", what)], count as f64))
                .into()
        },
    ),
    (
        "sira_backend_shed_total",
        Kind::Counter,
        "Operations that the limits refused.",
        |_, layers| one(layers.limits.as_ref().map(|limits| limits.shed() as f64)),
    ),
    ("sira_backend_waiting", Kind::Gauge, "Operations that wait for their turn.", |_, layers| {
        one(layers.limits.as_ref().map(|limits| limits.waiting() as f64))
    }),
];

#[cfg(test)]
mod tests;

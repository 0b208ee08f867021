//! Live statistics of the backends: recorded on the path of every operation, read as a snapshot.

mod recorder;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::profile::BackendProfile;

pub use recorder::StatsRecorder;

/// What is known of one backend. Times and rates are of late: older operations count less.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendStats {
    /// Mean latency.
    pub avg_response_time: Duration,
    /// Latency that 95 of 100 operations keep within.
    pub p95_response_time: Duration,
    /// Latency that 99 of 100 operations keep within.
    pub p99_response_time: Duration,
    /// Mean price of an operation, from the price table.
    pub cost_per_operation: f64,
    /// Part of the operations that succeeded, from 0 to 1.
    pub success_rate: f64,
    /// Operations a second.
    pub operations_per_s: f64,
    /// Bytes carried a second.
    pub bytes_per_s: f64,
    /// Operations that the figures rest on, each counted less the older it is. Near 0 nothing is
    /// known, and the figures are those of the profile.
    pub evidence: f64,
    /// Operations since the start.
    pub operations_total: u64,
    /// Operations since the start that failed.
    pub failures_total: u64,
    /// What the backend's owner declares.
    pub profile: Arc<BackendProfile>,
}

impl BackendStats {
    /// The statistics of a backend of which nothing is measured yet.
    #[must_use]
    pub fn unmeasured(profile: Arc<BackendProfile>) -> Self {
        let expected =
            Duration::try_from_secs_f64(profile.latency_ms / 1000.0).unwrap_or(Duration::MAX);
        Self {
            avg_response_time: expected,
            p95_response_time: expected,
            p99_response_time: expected,
            cost_per_operation: 0.0,
            success_rate: 1.0,
            operations_per_s: 0.0,
            bytes_per_s: 0.0,
            evidence: 0.0,
            operations_total: 0,
            failures_total: 0,
            profile,
        }
    }
}

impl Default for BackendStats {
    fn default() -> Self {
        Self::unmeasured(Arc::default())
    }
}

/// A snapshot of every backend's statistics, by name. A clone shares the figures.
#[derive(Debug, Clone, Default)]
pub struct RoutingStats {
    backends: Arc<BTreeMap<String, BackendStats>>,
}

impl RoutingStats {
    /// The statistics of a backend.
    #[must_use]
    pub fn get(&self, backend: &str) -> Option<&BackendStats> {
        self.backends.get(backend)
    }

    /// Every backend and its statistics, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BackendStats)> {
        self.backends.iter().map(|(name, stats)| (name.as_str(), stats))
    }

    /// How many backends there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, BackendStats)> for RoutingStats {
    fn from_iter<I: IntoIterator<Item = (N, BackendStats)>>(backends: I) -> Self {
        let backends = backends.into_iter().map(|(name, stats)| (name.into(), stats)).collect();
        Self { backends: Arc::new(backends) }
    }
}

#[cfg(test)]
mod tests;

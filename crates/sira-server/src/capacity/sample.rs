//! One sample of every backend.

use std::sync::Arc;
use std::time::Duration;

use sira_store::capacity::{CapacityError, Outlook, UsageSample, UsageSeries, outlook};
use sira_store::layers::MetricsCollector;
use sira_store::{StorageClient, StorageStats};
use tokio::task::JoinSet;

use super::{Capacity, CapacitySettings};

/// The engine whose figures are those of the whole medium, which others use too.
const SHARES_MEDIUM: &str = "filesystem";

/// Longest wait for a backend's figures.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Capacity {
    /// Asks every backend of the plan what it has in use, keeps that, and forecasts from it.
    pub(super) async fn sample(
        &self,
        settings: &CapacitySettings,
        client: &StorageClient,
        collector: &MetricsCollector,
    ) {
        let plan = client.plan();
        let mut asked = JoinSet::new();
        for (name, backend) in &plan.backends {
            let (name, backend) = (name.clone(), Arc::clone(backend));
            asked.spawn(async move {
                let stats = tokio::time::timeout(ANSWER_MAX, backend.stats()).await;
                (name, stats.ok().and_then(Result::ok))
            });
        }
        let answers = asked.join_all().await;
        let figures = collector.all();
        for (name, stats) in answers {
            self.recall_backend(&name).await;
            let operations = figures.get(&name).map_or(0, |figures| figures.operations_total);
            let counted = self.counted_bytes(&name);
            self.take_in(settings, &name, stats, counted, operations);
        }
        self.backends.lock().retain(|name, _| plan.backends.contains_key(name));
        let found = self.outlooks(settings.horizon).await;
        let mut backends = self.backends.lock();
        for (name, outlook) in found {
            if let Some(tracked) = backends.get_mut(&name) {
                tracked.outlook = Some(outlook);
                let engine = plan.backends.get(&name).map(|backend| backend.capabilities().name);
                tracked.shares_medium = engine == Some(SHARES_MEDIUM);
            }
        }
    }

    /// Adds what a backend told to its series. A backend that does not tell what
    /// it has in use has what was counted on it.
    fn take_in(
        &self,
        settings: &CapacitySettings,
        backend: &str,
        stats: Option<StorageStats>,
        counted: Option<(u64, u64)>,
        operations: u64,
    ) {
        let now_ms = self.now_ms();
        let mut backends = self.backends.lock();
        let (Some(tracked), Some(stats)) = (backends.get_mut(backend), stats) else { return };
        let tells = stats.used_bytes > 0 || stats.keys > 0 || stats.available_bytes.is_some();
        let (used_bytes, objects) = match (tells, counted) {
            (true, _) => {
                // An engine that does not count says 0.
                let objects = Some(stats.keys).filter(|keys| *keys > 0);
                (stats.used_bytes, objects.or(counted.map(|(_, objects)| objects)))
            }
            (false, Some((bytes, objects))) => (bytes, Some(objects)),
            (false, None) => return,
        };
        // A backend that was configured anew is counted from 0.
        let since = operations.checked_sub(tracked.operations).unwrap_or(operations);
        tracked.operations = operations;
        let sample = UsageSample { used_bytes, objects, operations: since };
        tracked.kept.is_changed = true;
        tracked.kept.series.record(millis(settings.sample_interval), now_ms, sample);
        tracked.used_bytes = Some(used_bytes);
        tracked.available_bytes = stats.available_bytes;
        tracked.objects = objects;
        tracked.sampled_ms = Some(now_ms);
    }

    /// Where every backend is heading within a horizon.
    pub(super) async fn outlooks(
        &self,
        horizon: Duration,
    ) -> Vec<(String, Result<Outlook, CapacityError>)> {
        let now_ms = self.now_ms();
        let known: Vec<(String, UsageSeries, Option<u64>)> = {
            let backends = self.backends.lock();
            let known = backends.iter().map(|(name, tracked)| {
                (name.clone(), tracked.kept.series.clone(), tracked.available_bytes)
            });
            known.collect()
        };
        let reckoned = tokio::task::spawn_blocking(move || {
            let reckon = |(name, series, available): (String, UsageSeries, Option<u64>)| {
                let found = outlook(&series, available, horizon, now_ms);
                (name, found)
            };
            known.into_iter().map(reckon).collect()
        });
        // Only a runtime that shuts down does not answer.
        reckoned.await.unwrap_or_default()
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

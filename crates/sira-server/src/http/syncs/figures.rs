//! Syncs that go on, as metrics.

use sira_store::client::DataSyncProgress;
use sira_store::layers::MetricFamilies;

use super::{Job, Place, Syncs};
use crate::metrics::Kind;

/// A place as a label: its backend, if it has one, and its namespace.
fn label(place: &Place) -> String {
    match &place.backend {
        Some(backend) => format!("{backend}/{}", place.namespace),
        None => place.namespace.clone(),
    }
}

/// By how many milliseconds the target is behind, where one place follows another and that is known.
fn lag_ms(job: &Job) -> Option<u64> {
    match job.sync.as_ref()?.progress() {
        DataSyncProgress::Follow(progress) => progress.lag_ms,
        DataSyncProgress::OneWay(_) | DataSyncProgress::TwoWay(_) => None,
    }
}

impl Syncs {
    /// Writes how far the syncs that go on are behind.
    pub fn write(&self, out: &mut MetricFamilies) {
        let known = self.known.lock();
        let follows: Vec<&Job> = known.values().filter(|job| job.asked.follow).collect();
        if follows.is_empty() {
            return;
        }
        let help = "Whether a sync that follows runs: 1, or 0 when it has ended, failed, or waits.";
        out.family("sira_sync_running", Kind::Gauge, help);
        for job in &follows {
            let (from, to) = (label(&job.asked.from), label(&job.asked.to));
            let is_running = job.is_running() && job.sync.is_some();
            out.sample(&[("from", &from), ("to", &to)], f64::from(u8::from(is_running)));
        }
        let help = "By how much the target of a sync that follows is behind its source at most; \
                    absent before its first pass has ended.";
        out.family("sira_sync_lag_seconds", Kind::Gauge, help);
        for job in follows.iter().filter(|job| job.is_running()) {
            if let Some(lag_ms) = lag_ms(job) {
                let (from, to) = (label(&job.asked.from), label(&job.asked.to));
                out.sample(&[("from", &from), ("to", &to)], lag_ms as f64 / 1e3);
            }
        }
    }
}

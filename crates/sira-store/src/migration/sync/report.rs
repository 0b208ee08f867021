//! What a sync did, and how far it has come.

use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Env;
use crate::migration::Side;
use crate::migration::progress::Throttle;

/// What a sync did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct SyncReport {
    /// Keys that one of the sides has, or had when they were last level.
    pub scanned: u64,
    /// Of those, keys that were as they had been.
    pub unchanged: u64,
    /// Objects that were brought to the target, or would have been.
    pub copied_to_target: u64,
    /// Objects that were brought to the source, or would have been.
    pub copied_to_source: u64,
    /// Bytes of their values.
    pub copied_bytes: u64,
    /// Objects that were removed from the target, since the source had removed them.
    pub removed_from_target: u64,
    /// Objects that were removed from the source, since the target had removed them.
    pub removed_from_source: u64,
    /// Objects that both sides had changed.
    pub conflicts: u64,
    /// Objects that were read back, or had one version on both sides and were compared.
    pub verified: u64,
    /// Keys that were written faster than they could be brought over: left for the next time.
    pub deferred: u64,
}

impl SyncReport {
    /// Whether both sides were the same when they were looked at, and still are.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.copied_to_target == 0
            && self.copied_to_source == 0
            && self.removed_from_target == 0
            && self.removed_from_source == 0
            && self.deferred == 0
    }
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct SyncProgress {
    /// What was done so far.
    pub report: SyncReport,
    /// Time since it began, in seconds.
    pub elapsed_s: f64,
    /// Keys a second that were looked at.
    pub keys_per_s: f64,
    /// Bytes a second that were copied.
    pub bytes_per_s: f64,
}

impl SyncProgress {
    /// Time that is left when there are so many keys in all, at the rate so far.
    #[must_use]
    pub fn remaining(&self, keys_total: u64) -> Option<Duration> {
        if self.keys_per_s <= 0.0 {
            return None;
        }
        let left = keys_total.saturating_sub(self.report.scanned);
        Duration::try_from_secs_f64(left as f64 / self.keys_per_s).ok()
    }
}

/// Counts what a sync does.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Mutex<Duration>,
    report: Mutex<SyncReport>,
    pub(super) throttle: Throttle,
}

impl Meter {
    pub(super) fn new(env: &dyn Env) -> Self {
        Self {
            begun: Mutex::new(env.monotonic()),
            report: Mutex::default(),
            throttle: Throttle::default(),
        }
    }

    /// A run begins.
    pub(super) fn begin(&self, env: &dyn Env) {
        *self.begun.lock() = env.monotonic();
        *self.report.lock() = SyncReport::default();
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut SyncReport)) {
        change(&mut self.report.lock());
    }

    pub(super) fn copied(&self, to: Side, bytes: u64, conflict: bool) {
        self.count(|report| {
            match to {
                Side::Source => report.copied_to_source += 1,
                Side::Target => report.copied_to_target += 1,
            }
            report.copied_bytes += bytes;
            report.conflicts += u64::from(conflict);
        });
    }

    pub(super) fn removed(&self, from: Side) {
        self.count(|report| match from {
            Side::Source => report.removed_from_source += 1,
            Side::Target => report.removed_from_target += 1,
        });
    }

    pub(super) fn report(&self) -> SyncReport {
        *self.report.lock()
    }

    pub(super) fn progress(&self, env: &dyn Env) -> SyncProgress {
        let report = self.report();
        let elapsed_s = env.monotonic().saturating_sub(*self.begun.lock()).as_secs_f64();
        let per_s = |count: u64| if elapsed_s > 0.0 { count as f64 / elapsed_s } else { 0.0 };
        SyncProgress {
            report,
            elapsed_s,
            keys_per_s: per_s(report.scanned),
            bytes_per_s: per_s(report.copied_bytes),
        }
    }
}

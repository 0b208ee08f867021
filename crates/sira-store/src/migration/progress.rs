//! How far a migration has come.

use std::time::Duration;

use parking_lot::Mutex;

use super::copy::Copied;
use crate::env::Env;
use crate::version::Version;

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct MigrationReport {
    /// Keys that match the pattern.
    pub scanned: u64,
    /// Objects that were brought to the target, or would have been.
    pub copied: u64,
    /// Bytes of their values.
    pub copied_bytes: u64,
    /// Objects that were left alone: the target had them, or they were not wanted.
    pub skipped: u64,
    /// Objects that the target had in another version, whichever won.
    pub conflicts: u64,
    /// Objects that were read back.
    pub verified: u64,
    /// Objects that were removed from the source.
    pub removed: u64,
    /// Objects of the target that the source does not have, removed if that was asked for.
    pub extraneous: u64,
    /// The greatest version that was seen at the source: what a later migration takes as `since`.
    #[serde(skip)]
    pub watermark: Version,
}

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct MigrationProgress {
    /// What was done so far.
    pub report: MigrationReport,
    /// Time since it began, in seconds.
    pub elapsed_s: f64,
    /// Objects a second that were looked at.
    pub objects_per_s: f64,
    /// Bytes a second that were copied.
    pub bytes_per_s: f64,
}

impl MigrationProgress {
    /// Time that is left when there are so many objects in all, at the rate so far.
    #[must_use]
    pub fn remaining(&self, objects_total: u64) -> Option<Duration> {
        if self.objects_per_s <= 0.0 {
            return None;
        }
        let left = objects_total.saturating_sub(self.report.copied + self.report.skipped);
        Duration::try_from_secs_f64(left as f64 / self.objects_per_s).ok()
    }
}

/// Counts what a migration does.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Duration,
    report: Mutex<MigrationReport>,
    throttle: Throttle,
}

/// Lets bytes through at a rate.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Until when the bytes that were let through take their time.
    paid_until: Mutex<Duration>,
}

impl Throttle {
    /// Waits until so many bytes may go on their way.
    pub(crate) async fn wait(&self, env: &dyn Env, bytes: u64, per_second: Option<u64>) {
        let Some(per_second) = per_second else { return };
        let pause = self.pause(env.monotonic(), bytes, per_second);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self, now: Duration, bytes: u64, per_second: u64) -> Duration {
        let takes = Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
        let mut paid_until = self.paid_until.lock();
        let begins = (*paid_until).max(now);
        *paid_until = begins + takes;
        begins - now
    }
}

impl Meter {
    pub(super) fn new(env: &dyn Env) -> Self {
        Self { begun: env.monotonic(), report: Mutex::default(), throttle: Throttle::default() }
    }

    pub(super) fn found(&self, _bytes: u64) {
        self.report.lock().scanned += 1;
    }

    pub(super) fn unchanged(&self) {
        self.report.lock().skipped += 1;
    }

    pub(super) fn extraneous(&self) {
        self.report.lock().extraneous += 1;
    }

    pub(super) fn done(&self, object: &Copied) {
        let report = &mut *self.report.lock();
        report.copied += u64::from(object.copied);
        report.skipped += u64::from(!object.copied);
        report.copied_bytes += if object.copied { object.bytes } else { 0 };
        report.conflicts += u64::from(object.conflict);
        report.verified += u64::from(object.verified);
        report.removed += u64::from(object.removed);
        report.watermark = report.watermark.max(object.version.unwrap_or_default());
    }

    pub(super) fn report(&self) -> MigrationReport {
        *self.report.lock()
    }

    pub(super) fn progress(&self, env: &dyn Env) -> MigrationProgress {
        let report = self.report();
        let elapsed_s = env.monotonic().saturating_sub(self.begun).as_secs_f64();
        let per_s = |count: u64| if elapsed_s > 0.0 { count as f64 / elapsed_s } else { 0.0 };
        MigrationProgress {
            report,
            elapsed_s,
            objects_per_s: per_s(report.copied + report.skipped),
            bytes_per_s: per_s(report.copied_bytes),
        }
    }

    /// Waits until so many bytes may go on their way.
    pub(super) async fn wait(&self, env: &dyn Env, bytes: u64, per_second: Option<u64>) {
        self.throttle.wait(env, bytes, per_second).await;
    }
}

//! What is told of backups.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use sira_store::health::BackupMarks;
use sira_store::layers::MetricFamilies;

use super::BackupOutcome;
use crate::metrics::Kind;

/// What is counted.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last_success_ms: Option<u64>,
    last_verified_ms: Option<u64>,
    last_drill_ms: Option<u64>,
    archived_until_ms: Option<u64>,
    archived_bytes: u64,
    /// By kind of work and outcome.
    works: BTreeMap<(&'static str, &'static str), u64>,
    duration_s: BTreeMap<&'static str, f64>,
    read_bytes: u64,
    added_bytes: u64,
    failing: BTreeMap<&'static str, bool>,
}

impl Figures {
    /// Counts work that has ended; `outcome` is `None` where it failed.
    pub(super) fn ended(&self, work: &'static str, outcome: Option<&BackupOutcome>, now_ms: u64) {
        let mut counts = self.0.lock();
        let name = match outcome {
            Some(outcome) if outcome.sound => "success",
            Some(_) => "incomplete",
            None => "failed",
        };
        *counts.works.entry((work, name)).or_default() += 1;
        counts.failing.insert(work, name != "success");
        let Some(outcome) = outcome else { return };
        let number = |key: &str| outcome.report.get(key).and_then(serde_json::Value::as_f64);
        counts.duration_s.insert(work, number("elapsed_s").unwrap_or(0.0));
        let bytes = |key: &str| number(key).unwrap_or(0.0) as u64;
        if work == "run" {
            counts.read_bytes += bytes("read_bytes");
            counts.added_bytes += bytes("added_bytes");
        }
        if outcome.sound {
            match work {
                "run" => counts.last_success_ms = Some(now_ms),
                "verify" => counts.last_verified_ms = Some(now_ms),
                "drill" => counts.last_drill_ms = Some(now_ms),
                _ => {}
            }
        }
    }

    /// When the last ones ended well.
    pub(super) fn marks(&self) -> BackupMarks {
        let Counts { last_success_ms, last_verified_ms, .. } = *self.0.lock();
        BackupMarks { last_success_ms, last_verified_ms }
    }

    /// A snapshot of before the server was started.
    pub(super) fn found(&self, snapshot_ms: u64) {
        let mut counts = self.0.lock();
        counts.last_success_ms = counts.last_success_ms.max(Some(snapshot_ms));
    }

    /// The archive has come to here.
    pub(super) fn archived(&self, until_ms: u64, bytes: u64) {
        let mut counts = self.0.lock();
        counts.archived_until_ms = Some(until_ms);
        counts.archived_bytes += bytes;
    }

    /// Writes the metrics.
    pub fn write(&self, now_ms: u64, out: &mut MetricFamilies) {
        let counts = self.0.lock();
        let seconds = |ms: u64| ms as f64 / 1000.0;
        for (name, help, time) in [
            (
                "sira_backup_last_success_timestamp_seconds",
                "When the newest complete backup ended.",
                counts.last_success_ms,
            ),
            (
                "sira_backup_last_verified_timestamp_seconds",
                "When a verification found nothing damaged.",
                counts.last_verified_ms,
            ),
            (
                "sira_backup_last_drill_timestamp_seconds",
                "When a drill restored everything as it was.",
                counts.last_drill_ms,
            ),
        ] {
            if let Some(time) = time {
                out.metric(name, Kind::Gauge, help, seconds(time));
            }
        }
        if !counts.works.is_empty() {
            let help = "Runs, verifications, restores, prunes and drills that have ended.";
            out.family("sira_backup_runs_total", Kind::Counter, help);
            for ((work, outcome), count) in &counts.works {
                out.sample(&[("work", *work), ("outcome", *outcome)], *count as f64);
            }
            let help = "How long the last one took.";
            out.family("sira_backup_duration_seconds", Kind::Gauge, help);
            for (work, duration) in &counts.duration_s {
                out.sample(&[("work", *work)], *duration);
            }
            let help = "Whether the last one failed or was incomplete: 1 or 0.";
            out.family("sira_backup_failing", Kind::Gauge, help);
            for (work, failing) in &counts.failing {
                out.sample(&[("work", *work)], f64::from(u8::from(*failing)));
            }
            for (name, help, bytes) in [
                (
                    "sira_backup_read_bytes_total",
                    "Bytes of values that runs have read.",
                    counts.read_bytes,
                ),
                (
                    "sira_backup_added_bytes_total",
                    "Bytes that runs have added, before compression.",
                    counts.added_bytes,
                ),
            ] {
                out.metric(name, Kind::Counter, help, bytes as f64);
            }
        }
        if let Some(until_ms) = counts.archived_until_ms {
            let help = "Age of the newest moment that can be restored.";
            let lag = seconds(now_ms.saturating_sub(until_ms));
            out.metric("sira_backup_archive_lag_seconds", Kind::Gauge, help, lag);
            let help = "Bytes of values that were archived.";
            let bytes = counts.archived_bytes as f64;
            out.metric("sira_backup_archived_bytes_total", Kind::Counter, help, bytes);
        }
    }
}

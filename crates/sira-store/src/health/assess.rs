//! What the figures of one look say.

use std::time::Duration;

use super::HealthState;
use super::baseline::Deviation;
use super::forecast::Forecast;
use super::watched::IntegrityRecord;
use crate::backend::{HealthStatus, StorageStats};

/// Bounds of the checks.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthOptions {
    /// How often backends are looked at.
    pub interval: Duration,
    /// An answer to a health check that takes longer is a warning.
    pub answer_slow: Duration,
    /// Factor over what is usual from which operations are a warning, where they stand out as well.
    pub slow_factor_warning: f64,
    /// The same, critical.
    pub slow_factor_critical: f64,
    /// Percent in use from which a backend is a warning.
    pub used_percent_warning: f64,
    /// The same, critical.
    pub used_percent_critical: f64,
    /// Days until it is full from which on a backend is a warning.
    pub full_days_warning: f64,
    /// The same, critical.
    pub full_days_critical: f64,
    /// Bytes a second that are read of the embedded engine to check them; 0 checks none.
    pub scrub_bytes_per_s: u64,
    /// The same, of each other backend.
    pub scrub_outside_bytes_per_s: u64,
    /// Age of the last backup from which on it is a warning; twice that is critical.
    pub backup_age_max: Duration,
    /// Age of the last backup that was proven good from which on it is a warning.
    pub verified_age_max: Duration,
}

impl Default for HealthOptions {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            interval: Duration::from_secs(15),
            answer_slow: Duration::from_secs(1),
            slow_factor_warning: 3.0,
            slow_factor_critical: 10.0,
            used_percent_warning: 80.0,
            used_percent_critical: 92.0,
            full_days_warning: 14.0,
            full_days_critical: 3.0,
            scrub_bytes_per_s: 8 << 20,
            scrub_outside_bytes_per_s: 1 << 20,
            backup_age_max: 26 * HOUR,
            verified_age_max: 8 * 24 * HOUR,
        }
    }
}

/// What a check came to in one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How it does.
    pub state: HealthState,
    /// Why, with the figures.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    #[must_use]
    pub fn new(state: HealthState, message: impl Into<String>) -> Self {
        Self { state, message: message.into() }
    }
}

/// Score, in robust standard deviations, below which nothing stands out.
const SCORE_WARNING: f64 = 4.0;

/// When the last backups ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BackupMarks {
    /// The last one that succeeded, in milliseconds since the Unix epoch.
    pub last_success_ms: Option<u64>,
    /// The last one whose content was read back and found whole.
    pub last_verified_ms: Option<u64>,
}

/// Whether a backend answers: what it says of itself and how long that took; `None` for no answer in
/// time.
#[must_use]
pub fn connection(
    options: &HealthOptions,
    answer: Option<&HealthStatus>,
    took: Duration,
) -> Verdict {
    let ms = took.as_secs_f64() * 1e3;
    match answer {
        None => Verdict::new(HealthState::Critical, format!("no answer within {ms:.0} ms")),
        Some(HealthStatus::Critical(reason)) => Verdict::new(HealthState::Critical, reason),
        Some(HealthStatus::Warning(reason)) => Verdict::new(HealthState::Warning, reason),
        Some(HealthStatus::Healthy) if took >= options.answer_slow => {
            Verdict::new(HealthState::Warning, format!("answers, after {ms:.0} ms"))
        }
        Some(HealthStatus::Healthy) => {
            Verdict::new(HealthState::Healthy, format!("answers in {ms:.1} ms"))
        }
    }
}

/// Whether operations take as long as they usually do; the worst of them counts. Each is named, with
/// its time now in milliseconds and how that compares.
#[must_use]
pub fn performance(options: &HealthOptions, windows: &[(&str, f64, Option<Deviation>)]) -> Verdict {
    let mut worst: Option<Verdict> = None;
    for (what, now_ms, deviation) in windows {
        let verdict = match deviation {
            None => Verdict::new(
                HealthState::Healthy,
                format!("{what} take {now_ms:.2} ms; what is usual is still being learned"),
            ),
            Some(Deviation { usual_ms, factor, score }) => {
                let state = if *score < SCORE_WARNING || *factor < options.slow_factor_warning {
                    HealthState::Healthy
                } else if *factor < options.slow_factor_critical {
                    HealthState::Warning
                } else {
                    HealthState::Critical
                };
                Verdict::new(
                    state,
                    format!(
                        "{what} take {now_ms:.2} ms, {factor:.1} times the usual {usual_ms:.2} ms"
                    ),
                )
            }
        };
        if worst.as_ref().is_none_or(|worst| verdict.state > worst.state) {
            worst = Some(verdict);
        }
    }
    worst.unwrap_or_else(|| Verdict::new(HealthState::Healthy, "too few operations to tell"))
}

/// Whether a backend has room. What it does not tell is no worry.
#[must_use]
pub fn capacity(
    options: &HealthOptions,
    stats: Option<&StorageStats>,
    forecast: Option<&Forecast>,
) -> Verdict {
    let Some(stats) = stats else {
        return Verdict::new(HealthState::Healthy, "it did not tell its size");
    };
    let Some(available) = stats.available_bytes else {
        return Verdict::new(HealthState::Healthy, "it does not tell how much room it has");
    };
    let size = stats.used_bytes.saturating_add(available);
    let percent = if size == 0 { 0.0 } else { 100.0 - available as f64 / size as f64 * 100.0 };
    let mut message = format!("{percent:.1}% in use");
    let mut state = by(percent, options.used_percent_warning, options.used_percent_critical);
    if let Some(days) = forecast.and_then(|forecast| forecast.days_until_full) {
        message = format!("{message}, full in {days:.1} days if it goes on so");
        // Of days, fewer are worse.
        state = state.max(by(-days, -options.full_days_warning, -options.full_days_critical));
    }
    Verdict::new(state, message)
}

fn by(value: f64, warning: f64, critical: f64) -> HealthState {
    if value >= critical {
        HealthState::Critical
    } else if value >= warning {
        HealthState::Warning
    } else {
        HealthState::Healthy
    }
}

/// Whether what a backend holds verifies, as far as it was read.
#[must_use]
pub fn integrity(record: &IntegrityRecord) -> Verdict {
    if let Some(first) = record.damaged.first() {
        let count = record.damaged.len();
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        return Verdict::new(
            HealthState::Critical,
            format!("what lies here does not verify: {first}{more}"),
        );
    }
    match (record.pass_ended_ms, record.pass_bytes) {
        (None, 0) => Verdict::new(HealthState::Healthy, "nothing was checked yet"),
        (None, bytes) => Verdict::new(
            HealthState::Healthy,
            format!("the first pass has checked {bytes} bytes, all of them good"),
        ),
        (Some(_), _) => Verdict::new(
            HealthState::Healthy,
            format!("all {} bytes of the last pass verify", record.last_pass_bytes),
        ),
    }
}

/// Whether backups are recent; `None` where none are made.
#[must_use]
pub fn backup(options: &HealthOptions, marks: Option<BackupMarks>, now_ms: u64) -> Verdict {
    let Some(marks) = marks else {
        return Verdict::new(HealthState::Healthy, "no backup is configured");
    };
    let Some(success) = marks.last_success_ms else {
        return Verdict::new(HealthState::Warning, "no backup has succeeded yet");
    };
    let age = age(success, now_ms);
    let hours = age.as_secs_f64() / 3600.0;
    if age >= options.backup_age_max {
        let state = match age >= options.backup_age_max * 2 {
            true => HealthState::Critical,
            false => HealthState::Warning,
        };
        return Verdict::new(state, format!("the last good backup is {hours:.1} hours old"));
    }
    match marks.last_verified_ms.map(|at| self::age(at, now_ms)) {
        None => Verdict::new(HealthState::Warning, "no backup has been verified yet"),
        Some(age) if age >= options.verified_age_max => Verdict::new(
            HealthState::Warning,
            format!("the last verified backup is {:.1} days old", age.as_secs_f64() / 86_400.0),
        ),
        Some(_) => Verdict::new(
            HealthState::Healthy,
            format!("the last good backup is {hours:.1} hours old, and verified"),
        ),
    }
}

fn age(at_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(at_ms))
}

//! All that is known of one backend.

use super::assess::Verdict;
use super::baseline::Baseline;
use super::forecast::UsageHistory;
use super::hysteresis::{Hysteresis, Patience};
use super::{Check, HealthState};

/// Damaged places that are remembered by name.
const DAMAGED_MAX: usize = 100;

/// What reading everything has found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct IntegrityRecord {
    /// Bytes that the pass under way has read.
    pub pass_bytes: u64,
    /// Bytes of the last whole pass.
    pub last_pass_bytes: u64,
    /// When the last whole pass ended, in milliseconds since the Unix epoch.
    pub pass_ended_ms: Option<u64>,
    /// What does not verify, by name; of the pass under way and the one before.
    pub damaged: Vec<String>,
    /// What the pass under way has found of that.
    found: Vec<String>,
}

impl IntegrityRecord {
    /// Adds what a step has read and found.
    pub fn step(&mut self, bytes: u64, damaged: impl IntoIterator<Item = String>) {
        self.pass_bytes += bytes;
        for place in damaged {
            for list in [&mut self.found, &mut self.damaged] {
                if list.len() < DAMAGED_MAX && !list.contains(&place) {
                    list.push(place.clone());
                }
            }
        }
    }

    /// Ends a pass: what it did not find damaged any more is not.
    pub fn end_pass(&mut self, now_ms: u64) {
        self.last_pass_bytes = std::mem::take(&mut self.pass_bytes);
        self.pass_ended_ms = Some(now_ms);
        self.damaged = std::mem::take(&mut self.found);
    }
}

/// What is kept of a backend over restarts.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// How long reads usually take.
    pub reads: Baseline,
    /// How long writes usually take.
    pub writes: Baseline,
    /// How much was in use.
    pub usage: UsageHistory,
    /// What reading everything has found.
    pub integrity: IntegrityRecord,
}

/// A check that came to another state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The check.
    pub check: Check,
    /// The state that it left.
    pub from: HealthState,
    /// The state that it came to.
    pub to: HealthState,
    /// Why.
    pub message: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// How a check stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// The state that stands.
    pub state: HealthState,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What the last look saw, with the figures.
    pub message: String,
}

/// The checks of one backend.
#[derive(Debug, Clone, Default)]
pub struct BackendHealth {
    checks: std::collections::BTreeMap<Check, (Hysteresis, CheckReport)>,
}

impl BackendHealth {
    /// The worst state that stands.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.checks.values().map(|(_, report)| report.state).max().unwrap_or_default()
    }

    /// How each check stands that was looked at.
    #[must_use]
    pub fn checks(&self) -> std::collections::BTreeMap<Check, CheckReport> {
        self.checks.iter().map(|(check, (_, report))| (*check, report.clone())).collect()
    }

    /// Takes in what a look saw, and answers what has changed by it.
    pub fn look(&mut self, check: Check, seen: Verdict, now_ms: u64) -> Option<Transition> {
        let (hysteresis, report) = self.checks.entry(check).or_insert_with(|| {
            let (state, message) = (HealthState::Healthy, String::new());
            (Hysteresis::default(), CheckReport { state, since_ms: now_ms, message })
        });
        let left = hysteresis.look(seen.state, patience(check));
        let to = hysteresis.standing();
        report.message.clone_from(&seen.message);
        let from = left?;
        (report.state, report.since_ms) = (to, now_ms);
        Some(Transition { check, from, to, message: seen.message, at_ms: now_ms })
    }
}

/// Figures of time are noisy; damage and the age of a backup are facts.
fn patience(check: Check) -> Patience {
    match check {
        Check::Connection => Patience { worsen_looks: 2, recover_looks: 2 },
        Check::Performance => Patience { worsen_looks: 4, recover_looks: 8 },
        Check::Capacity => Patience { worsen_looks: 2, recover_looks: 4 },
        Check::Integrity | Check::Backup => Patience { worsen_looks: 1, recover_looks: 1 },
    }
}

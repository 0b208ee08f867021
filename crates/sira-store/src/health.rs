//! How a backend does: five checks, each healthy, a warning or critical.
//!
//! What is here is reckoning without clocks, tasks or requests: a caller that looks now and then
//! tells a [`BackendHealth`] what it saw, and is told what changed. Figures of one look are noisy, so
//! a state is left only after several looks agree ([`Hysteresis`]); what is slow is measured against
//! the backend's own past ([`Baseline`]), and what is full against where its use is heading
//! ([`UsageHistory`]).

mod assess;
mod baseline;
mod forecast;
mod hysteresis;
mod watched;

pub use assess::{
    BackupMarks, HealthOptions, Verdict, backup, capacity, connection, integrity, performance,
};
pub use baseline::{Baseline, Deviation};
pub use forecast::{Forecast, UsageHistory};
pub use hysteresis::{Hysteresis, Patience};
pub use watched::{BackendHealth, CheckReport, IntegrityRecord, Remembered, Transition};

/// What is checked of a backend.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Whether it answers.
    Connection,
    /// Whether it is as quick as it was.
    Performance,
    /// Whether it has room, and for how long.
    Capacity,
    /// Whether what it holds still verifies.
    Integrity,
    /// Whether the last backup, and the last proof of one, are recent.
    Backup,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Connection, Self::Performance, Self::Capacity, Self::Integrity, Self::Backup];

    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Performance => "performance",
            Self::Capacity => "capacity",
            Self::Integrity => "integrity",
            Self::Backup => "backup",
        }
    }
}

/// How something does. Worse is greater.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// All is well.
    #[default]
    Healthy,
    /// It works, and someone should look.
    Warning,
    /// It does not work, or will not for long.
    Critical,
}

impl HealthState {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests;

//! How far a replication has come.

use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Env;
use crate::error::StorageError;
use crate::migration::progress::Throttle;

/// What a replication is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationPhase {
    /// It passes over all keys.
    #[default]
    Passing,
    /// It follows the change log, or waits for the next pass.
    Following,
    /// It waits for a failure to pass.
    Failing,
}

/// How far a replication has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ReplicationProgress {
    /// What it is at.
    pub phase: ReplicationPhase,
    /// Objects that were brought to the target.
    pub copied: u64,
    /// Bytes of their values.
    pub copied_bytes: u64,
    /// Objects that were removed from the target.
    pub removed: u64,
    /// Times that the target had a newer version, which was left alone.
    pub newer_at_target: u64,
    /// Keys that passes have looked at.
    pub scanned: u64,
    /// Passes over all keys that have come to their end.
    pub passes: u64,
    /// Records of the source's log that have not been looked at; `None` before it is followed, and
    /// for a source without one.
    pub lag_records: Option<u64>,
    /// Milliseconds by which the target is behind the source at most: 0 when it has everything;
    /// `None` before the first pass has ended.
    pub lag_ms: Option<u64>,
    /// What failed, while it waits for that to pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Counts what a replication does.
#[derive(Debug)]
pub(super) struct Meter {
    state: Mutex<State>,
    pub(super) throttle: Throttle,
}

#[derive(Debug, Default)]
struct State {
    progress: ReplicationProgress,
    /// When the newest state was taken that the target has, on the monotonic clock.
    pass_begun: Duration,
    level_since: Option<Duration>,
    /// When the last record was written that the target has.
    written_ms: Option<u64>,
}

impl Meter {
    pub(super) fn new(env: &dyn Env) -> Self {
        let state = State { pass_begun: env.monotonic(), ..State::default() };
        Self { state: Mutex::new(state), throttle: Throttle::default() }
    }

    fn change(&self, change: impl FnOnce(&mut ReplicationProgress)) {
        change(&mut self.state.lock().progress);
    }

    pub(super) fn begin_pass(&self, env: &dyn Env) {
        let mut state = self.state.lock();
        state.pass_begun = env.monotonic();
        state.progress.phase = ReplicationPhase::Passing;
    }

    pub(super) fn end_pass(&self) {
        let mut state = self.state.lock();
        state.level_since = Some(state.pass_begun);
        state.progress.passes += 1;
        state.progress.phase = ReplicationPhase::Following;
    }

    pub(super) fn followed(&self, records_left: u64, written_ms: Option<u64>) {
        let mut state = self.state.lock();
        state.written_ms = written_ms.or(state.written_ms);
        state.progress.lag_records = Some(records_left);
        state.progress.phase = ReplicationPhase::Following;
    }

    pub(super) fn works(&self) {
        self.change(|progress| progress.failure = None);
    }

    pub(super) fn fails(&self, error: &StorageError) {
        self.change(|progress| {
            progress.phase = ReplicationPhase::Failing;
            progress.failure = Some(error.to_string());
        });
    }

    pub(super) fn copied(&self, bytes: u64) {
        self.change(|progress| {
            progress.copied += 1;
            progress.copied_bytes += bytes;
        });
    }

    pub(super) fn removed(&self) {
        self.change(|progress| progress.removed += 1);
    }

    pub(super) fn newer(&self) {
        self.change(|progress| progress.newer_at_target += 1);
    }

    pub(super) fn looked_at(&self) {
        self.change(|progress| progress.scanned += 1);
    }

    pub(super) fn progress(&self, env: &dyn Env) -> ReplicationProgress {
        let state = self.state.lock();
        let mut progress = state.progress.clone();
        progress.lag_ms = match (progress.lag_records, state.written_ms, state.level_since) {
            (Some(0), _, _) => Some(0),
            (Some(_), Some(written_ms), _) => Some(env.now_ms().saturating_sub(written_ms)),
            (_, _, since) => since.map(|since| {
                let behind = env.monotonic().saturating_sub(since);
                u64::try_from(behind.as_millis()).unwrap_or(u64::MAX)
            }),
        };
        progress
    }
}

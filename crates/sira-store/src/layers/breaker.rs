//! A circuit breaker: an engine that fails is left alone for a while.

mod window;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::around::{Answer, Around, Layered, Operation};
use super::limit::Shed;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use window::Window;

/// When a breaker opens and how it closes again.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerOptions {
    /// Time over which failures are counted.
    pub window: Duration,
    /// Fewest calls in the window from which it may open.
    pub calls_min: u32,
    /// Share of failed calls from which it opens, from 0 to 1.
    pub failure_ratio: f64,
    /// A call that takes longer counts as failed, whatever it answers.
    pub slow: Duration,
    /// How long it stays open the first time; each time that the engine has not recovered doubles
    /// it.
    pub open: Duration,
    /// Longest time that it stays open.
    pub open_max: Duration,
    /// Calls that are let through at a time while it finds out whether the engine has recovered.
    pub probes: u32,
    /// Probes that must succeed in a row for it to close.
    pub probes_to_close: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            calls_min: 20,
            failure_ratio: 0.5,
            slow: Duration::from_secs(30),
            open: Duration::from_millis(500),
            open_max: Duration::from_secs(30),
            probes: 1,
            probes_to_close: 2,
        }
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All go through.
    Closed,
    /// None goes through.
    Open,
    /// A few go through, to find out whether the engine has recovered.
    HalfOpen,
}

impl BreakerState {
    /// A short name, as logs and metrics carry it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A change of a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerChange {
    /// What it was.
    pub from: BreakerState,
    /// What it is.
    pub to: BreakerState,
    /// How long it stays open, where it opened.
    pub open_for: Option<Duration>,
}

/// The source of the error of a call that a breaker refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open for {} ms more", retry_in.as_millis())]
pub struct BreakerOpen {
    /// Time until calls are let through again.
    pub retry_in: Duration,
}

/// Called with each change, outside of the breaker's lock, by the operation that caused it.
pub type BreakerListener = Arc<dyn Fn(BreakerChange) + Send + Sync>;

/// Counts an engine's failures, and refuses calls while there are too many.
///
/// Only [`StorageError::Unavailable`], [`StorageError::Timeout`], [`StorageError::Io`] and slow calls
/// are failures: the other errors are answers of an engine that works. What [`super::Limiter`] sheds
/// does not count at all, nor does a call that its caller dropped before it was slow. A refused call
/// ends at once with [`StorageError::Unavailable`], temporary, with [`BreakerOpen`] as its source.
pub struct Breaker {
    options: BreakerOptions,
    env: Arc<dyn Env>,
    circuit: Mutex<Circuit>,
    listener: Option<BreakerListener>,
}

/// A backend behind a breaker.
pub type BreakerLayer = Layered<Breaker>;

#[derive(Debug)]
struct Circuit {
    phase: Phase,
    /// Grows with each change of state: what a call of an earlier one finds means nothing.
    generation: u64,
    window: Window,
    /// Times that the engine had not recovered since it worked last.
    reopened: u32,
    /// Times that it opened since it was made.
    opened: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Duration },
    HalfOpen { running: u32, succeeded: u32 },
}

impl Phase {
    fn state(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure,
    /// It tells nothing about the engine.
    None,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("options", &self.options)
            .field("circuit", &self.circuit)
            .finish_non_exhaustive()
    }
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Self {
        Self::with_env(options, Arc::new(SystemEnv))
    }

    /// As [`Breaker::new`], with the clock and the random numbers of `env`.
    #[must_use]
    pub fn with_env(options: BreakerOptions, env: Arc<dyn Env>) -> Self {
        let window = Window::new(options.window);
        let circuit =
            Circuit { phase: Phase::Closed, generation: 0, window, reopened: 0, opened: 0 };
        Self { options, env, circuit: Mutex::new(circuit), listener: None }
    }

    /// Tells each change of state to `listener`.
    #[must_use]
    pub fn with_listener(mut self, listener: BreakerListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// What it does with calls now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.circuit.lock().phase.state()
    }

    /// Times that it opened.
    #[must_use]
    pub fn times_opened(&self) -> u64 {
        self.circuit.lock().opened
    }

    /// Lets a call through, or refuses it.
    fn admit(&self) -> Result<Call<'_>, BreakerOpen> {
        let now = self.env.monotonic();
        let mut circuit = self.circuit.lock();
        let from = circuit.phase.state();
        match circuit.phase {
            Phase::Closed => {}
            Phase::Open { until } if now < until => {
                return Err(BreakerOpen { retry_in: until - now });
            }
            Phase::Open { .. } => {
                circuit.turn(Phase::HalfOpen { running: 1, succeeded: 0 });
            }
            Phase::HalfOpen { running, .. } if running >= self.options.probes.max(1) => {
                return Err(BreakerOpen { retry_in: self.options.open });
            }
            Phase::HalfOpen { ref mut running, .. } => *running += 1,
        }
        let call = Call { breaker: self, generation: circuit.generation, begun: now, ended: false };
        let to = circuit.phase.state();
        drop(circuit);
        self.tell(from, to, None);
        Ok(call)
    }

    /// Takes in how a call ended.
    fn record(&self, call: &Call<'_>, verdict: Verdict) {
        let now = self.env.monotonic();
        let slow = now.saturating_sub(call.begun) > self.options.slow;
        let verdict = if slow { Verdict::Failure } else { verdict };
        // Drawn outside of the lock: the system's random numbers are a call of the kernel.
        let random = if verdict == Verdict::Failure { self.env.random_u64() } else { 0 };
        let mut circuit = self.circuit.lock();
        if circuit.generation != call.generation {
            return;
        }
        let from = circuit.phase.state();
        let mut open_for = None;
        match (&mut circuit.phase, verdict) {
            (Phase::Closed, Verdict::None) | (Phase::Open { .. }, _) => {}
            (Phase::Closed, _) => {
                circuit.window.record(now, verdict == Verdict::Failure);
                let (calls, failures) = circuit.window.totals(now);
                let too_many = f64::from(failures) >= self.options.failure_ratio * f64::from(calls);
                if verdict == Verdict::Failure && calls >= self.options.calls_min && too_many {
                    open_for = Some(self.open(&mut circuit, now, random));
                }
            }
            (Phase::HalfOpen { running, .. }, Verdict::None) => {
                *running = running.saturating_sub(1);
            }
            (Phase::HalfOpen { running, succeeded }, Verdict::Success) => {
                *running = running.saturating_sub(1);
                *succeeded += 1;
                if *succeeded >= self.options.probes_to_close {
                    circuit.turn(Phase::Closed);
                    circuit.reopened = 0;
                    circuit.window.clear();
                }
            }
            (Phase::HalfOpen { .. }, Verdict::Failure) => {
                circuit.reopened = circuit.reopened.saturating_add(1);
                open_for = Some(self.open(&mut circuit, now, random));
            }
        }
        let to = circuit.phase.state();
        drop(circuit);
        self.tell(from, to, open_for);
    }

    /// Opens, for a time from half of what is due to all of it, so that clients of one engine do not
    /// come back together.
    fn open(&self, circuit: &mut Circuit, now: Duration, random: u64) -> Duration {
        let doubled = self.options.open.saturating_mul(1 << circuit.reopened.min(20));
        let due = doubled.min(self.options.open_max);
        let open_for = due / 2 + (due / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        circuit.turn(Phase::Open { until: now + open_for });
        circuit.opened += 1;
        open_for
    }

    fn tell(&self, from: BreakerState, to: BreakerState, open_for: Option<Duration>) {
        if from == to {
            return;
        }
        if to == BreakerState::Closed {
            tracing::info!(from = from.name(), "circuit breaker closed");
        } else {
            let open_ms = open_for.map(|time| time.as_millis() as u64);
            tracing::warn!(from = from.name(), to = to.name(), open_ms, "circuit breaker changed");
        }
        if let Some(listener) = &self.listener {
            listener(BreakerChange { from, to, open_for });
        }
    }
}

impl Circuit {
    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// A call that was let through.
struct Call<'a> {
    breaker: &'a Breaker,
    generation: u64,
    begun: Duration,
    ended: bool,
}

impl Call<'_> {
    fn end(mut self, verdict: Verdict) {
        self.ended = true;
        self.breaker.record(&self, verdict);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.breaker.record(self, Verdict::None);
        }
    }
}

/// Whether an error says that the engine does not work.
fn judge(error: &StorageError) -> Verdict {
    let failure = matches!(
        error,
        StorageError::Unavailable(_) | StorageError::Timeout(_) | StorageError::Io(_)
    );
    let source = error.detail().source.as_deref();
    if source.is_some_and(|source| source.is::<Shed>()) {
        Verdict::None
    } else if failure {
        Verdict::Failure
    } else {
        Verdict::Success
    }
}

impl Around for Breaker {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let admitted = self.admit().map_err(|open| {
            StorageError::unavailable(format!(
                "{} failed too often and is left alone; it is tried again in {} ms",
                operation.backend.capabilities().name,
                open.retry_in.as_millis()
            ))
            .with_source(open)
        })?;
        let result = call.await;
        admitted.end(match &result {
            Ok(answer) => answer.failure().map_or(Verdict::Success, judge),
            Err(error) => judge(error),
        });
        result
    }
}

#[cfg(test)]
mod tests;

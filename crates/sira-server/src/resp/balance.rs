//! Whether a second loop helps.
//!
//! A second loop helps when clients have processor time left to use it; where it only takes that
//! from them, it slows both. No count tells the two apart, so it is tried: a saturated loop shares
//! its clients, looks at what both get done together, and takes them back if that is not more.

use std::time::Duration;

/// How long a loop is watched before it is judged.
const WINDOW: Duration = Duration::from_millis(100);
/// Windows in a row that must say the same.
const WINDOWS: u32 = 3;
/// Share of the time that a loop may wait and still count as saturated: 1 in this many.
const WAIT_SHARE: u32 = 10;
/// Share of the clients that must have requests ready each time: 1 in this many.
const READY_SHARE: u64 = 3;
/// Fewest clients worth dividing.
const CLIENTS_MIN: usize = 4;
/// Commands per second that two loops must get done for each ten of one loop.
const GAIN_TENTHS: f64 = 11.0;
/// How long a loop keeps its clients after sharing did not help; doubled each time.
const REST_MIN: Duration = Duration::from_secs(2);
/// The longest such time.
const REST_MAX: Duration = Duration::from_secs(60);

/// What a loop should do with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Keep them.
    Keep,
    /// Hand half of them to the next loop.
    Share,
    /// Take those back that were handed on.
    TakeBack,
}

/// What a loop has counted so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Clients that it has now.
    pub clients: usize,
    /// Connections accepted since it started.
    pub accepted: u64,
    /// Commands that it and the next loop have run.
    pub commands: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// So many windows in a row were saturated, with so many commands a second on average.
    Watching { windows: u32, rate: f64 },
    /// Clients were shared; `before` is the rate of the loop alone. The first window does not count.
    Trying { windows: u32, rate: f64, before: f64 },
    /// Sharing did not help, when this many connections had been accepted.
    Resting { until: Duration, accepted: u64 },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Watching { windows: 0, rate: 0.0 }
    }
}

/// Watches a loop. A loop is saturated when it hardly ever waits and many of its clients have
/// requests ready every time it looks: then clients wait for the loop, not the loop for clients.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    start: Duration,
    waited: Duration,
    ticks: u64,
    events: u64,
    commands: u64,
    phase: Phase,
    rest: Duration,
}

impl Balance {
    /// The loop has waited for events for this long.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The loop has dealt with these events; says what to do.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        events: usize,
        count: impl FnOnce() -> Counted,
    ) -> Advice {
        self.ticks += 1;
        self.events += events as u64;
        let window = now.saturating_sub(self.start);
        if window < WINDOW {
            return Advice::Keep;
        }
        let counted = count();
        let rate = counted.commands.saturating_sub(self.commands) as f64 / window.as_secs_f64();
        let busy = self.waited < window / WAIT_SHARE;
        let crowded = self.events * READY_SHARE >= self.ticks * counted.clients as u64;
        let saturated = busy && crowded && counted.clients >= CLIENTS_MIN;
        (self.start, self.commands) = (now, counted.commands);
        (self.waited, self.ticks, self.events) = (Duration::ZERO, 0, 0);
        self.judge(now, rate, saturated, counted)
    }

    fn judge(&mut self, now: Duration, rate: f64, saturated: bool, counted: Counted) -> Advice {
        match self.phase {
            Phase::Watching { .. } if !saturated => self.phase = Phase::default(),
            Phase::Watching { windows, rate: mean } => {
                let (windows, rate) = averaged(windows, mean, rate);
                self.phase = Phase::Watching { windows, rate };
                if windows == WINDOWS {
                    self.phase = Phase::Trying { windows: 0, rate: 0.0, before: rate };
                    return Advice::Share;
                }
            }
            Phase::Trying { windows: 0, rate, before } => {
                self.phase = Phase::Trying { windows: 1, rate, before };
            }
            Phase::Trying { windows, rate: mean, before } => {
                let (counting, rate) = averaged(windows - 1, mean, rate);
                self.phase = Phase::Trying { windows: windows + 1, rate, before };
                if counting == WINDOWS {
                    if rate * 10.0 >= before * GAIN_TENTHS {
                        self.rest = Duration::ZERO;
                        self.phase = Phase::default();
                        return Advice::Keep;
                    }
                    self.rest = (self.rest * 2).clamp(REST_MIN, REST_MAX);
                    let until = now + self.rest;
                    self.phase = Phase::Resting { until, accepted: counted.accepted };
                    return Advice::TakeBack;
                }
            }
            Phase::Resting { until, accepted } => {
                // Other clients may be of another kind.
                let new = counted.accepted.saturating_sub(accepted);
                if now >= until || new * 2 >= counted.clients.max(1) as u64 {
                    self.phase = Phase::default();
                }
            }
        }
        Advice::Keep
    }
}

/// One more value to a mean of `count`.
fn averaged(count: u32, mean: f64, value: f64) -> (u32, f64) {
    let count = count + 1;
    (count, mean + (value - mean) / f64::from(count))
}

#[cfg(test)]
mod tests;

//! Whether a second loop would help.

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

/// Watches a loop. A loop is saturated when it hardly ever waits and many of its clients have
/// requests ready every time it looks: then clients wait for the loop, not the loop for clients.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    start: Duration,
    waited: Duration,
    ticks: u64,
    events: u64,
    saturated: u32,
}

impl Balance {
    /// The loop has waited for events for this long.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The loop has dealt with these events of so many clients; says whether some should go.
    pub(crate) fn tick(&mut self, now: Duration, events: usize, clients: usize) -> bool {
        self.ticks += 1;
        self.events += events as u64;
        let window = now.saturating_sub(self.start);
        if window < WINDOW {
            return false;
        }
        let busy = self.waited < window / WAIT_SHARE;
        let crowded = self.events * READY_SHARE >= self.ticks * clients as u64;
        let saturated = busy && crowded && clients >= CLIENTS_MIN;
        let count = if saturated { self.saturated + 1 } else { 0 };
        *self = Self { start: now, saturated: count, ..Self::default() };
        count >= WINDOWS && {
            self.saturated = 0;
            true
        }
    }
}

//! Calls and failures over a rolling window of time.

use std::time::Duration;

/// Parts of the window; the oldest is dropped as a whole.
const PARTS: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    calls: u32,
    failures: u32,
}

/// Calls and failures of the last while.
#[derive(Debug)]
pub(super) struct Window {
    parts: [Part; PARTS],
    part_ns: u128,
    /// Number of the newest part, counted from the clock's origin.
    newest: u128,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let part_ns = (length.as_nanos() / PARTS as u128).max(1);
        Self { parts: [Part::default(); PARTS], part_ns, newest: 0 }
    }

    pub(super) fn record(&mut self, now: Duration, failed: bool) {
        self.advance(now);
        let at = (self.newest % PARTS as u128) as usize;
        if let Some(part) = self.parts.get_mut(at) {
            part.calls = part.calls.saturating_add(1);
            part.failures = part.failures.saturating_add(u32::from(failed));
        }
    }

    /// Calls and failures in the window.
    pub(super) fn totals(&mut self, now: Duration) -> (u32, u32) {
        self.advance(now);
        self.parts.iter().fold((0, 0), |(calls, failures), part| {
            (part.calls.saturating_add(calls), part.failures.saturating_add(failures))
        })
    }

    pub(super) fn clear(&mut self) {
        self.parts = [Part::default(); PARTS];
    }

    fn advance(&mut self, now: Duration) {
        let number = now.as_nanos() / self.part_ns;
        let passed = number.saturating_sub(self.newest).min(PARTS as u128);
        for step in 1..=passed {
            let at = ((number - passed + step) % PARTS as u128) as usize;
            if let Some(part) = self.parts.get_mut(at) {
                *part = Part::default();
            }
        }
        self.newest = self.newest.max(number);
    }
}

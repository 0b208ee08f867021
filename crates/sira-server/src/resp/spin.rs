//! How long to poll before sleeping.

use std::time::Duration;

/// Shortest time that is worth polling.
const SPAN_MIN: Duration = Duration::from_micros(50);
/// Longest time that is polled.
const SPAN_MAX: Duration = Duration::from_micros(200);

/// Polling saves the wake-up, most of a small request's time, and burns a core: it is done only
/// while requests keep arriving within its span.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    span: Duration,
}

impl Spin {
    /// How long to poll now; zero for not at all.
    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    /// Polling found something.
    pub(crate) fn found(&mut self) {
        if !self.span.is_zero() {
            self.span = (self.span * 2).min(SPAN_MAX);
        }
    }

    /// It took sleeping, for this long, to find something.
    pub(crate) fn slept(&mut self, time: Duration) {
        self.span = if time < SPAN_MAX { SPAN_MIN } else { Duration::ZERO };
    }
}

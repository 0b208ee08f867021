//! The attempts of one operation, and the pauses between them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Retries;

/// Counts the attempts of one operation.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    retries: &'a Retries,
    made: u32,
}

impl<'a> Attempts<'a> {
    /// The first attempt of an operation of a caller.
    pub(super) fn begin(retries: &'a Retries) -> Self {
        retries.budget.deposit();
        Self { retries, made: 1 }
    }

    /// Pauses before another attempt, and says whether there may be one.
    pub(super) async fn again(&mut self) -> bool {
        // Without a runtime there is no timer to pause with.
        if self.made >= self.retries.options.attempts || Handle::try_current().is_err() {
            return false;
        }
        if !self.retries.budget.withdraw() {
            self.retries.over_budget.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let pause = pause(self.retries, self.made);
        self.made += 1;
        self.retries.retried.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
        true
    }
}

/// A pause from zero to twice as long as the last one could be.
pub(super) fn pause(retries: &Retries, made: u32) -> Duration {
    let options = &retries.options;
    let doubled = options.pause.saturating_mul(1 << made.saturating_sub(1).min(20));
    let longest = doubled.min(options.pause_max);
    longest.mul_f64((retries.env.random_u64() >> 11) as f64 / (1_u64 << 53) as f64)
}

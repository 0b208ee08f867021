//! Waiting for the next turn of something.

use std::sync::{Condvar, Mutex, PoisonError};

/// A counter that threads wait on. All that wait for a turn are woken at once: a condition variable
/// on the lock that they just held would hand it from one to the next, each a wake-up after the
/// other.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    turn: Mutex<u64>,
    advanced: Condvar,
}

impl Turnstile {
    /// The number of this turn.
    pub(super) fn turn(&self) -> u64 {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until `turn` is over.
    pub(super) fn wait(&self, turn: u64) {
        let now = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // A poisoned lock still has a whole number in it.
        drop(self.advanced.wait_while(now, |now| *now == turn));
    }

    /// Ends this turn.
    pub(super) fn advance(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.advanced.notify_all();
    }
}

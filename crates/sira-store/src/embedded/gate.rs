//! Lets readers see the changes of a batch together.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

/// Holds up readers while the index takes the changes of a batch.
///
/// A reader passes after it has looked a key up and before it answers. One that came upon a batch
/// halfway waits until the rest is there, so whoever has seen one change of a batch sees the others
/// from then on. Innermost of all locks: nothing is locked while it is held.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Gate {
    /// Set before the first change of a batch and cleared after its last. A reader that finds a
    /// change in the index finds this set as well, unless the whole batch is in.
    closed: AtomicBool,
    lock: RwLock<()>,
}

impl Gate {
    /// Runs `change` while readers wait.
    pub(super) fn close_while<R>(&self, change: impl FnOnce() -> R) -> R {
        let _held = self.lock.write();
        self.closed.store(true, Ordering::Release);
        let result = change();
        self.closed.store(false, Ordering::Release);
        result
    }

    /// Waits for the batch that is being taken in, if there is one.
    pub(super) fn pass(&self) {
        if self.closed.load(Ordering::Acquire) {
            drop(self.lock.read());
        }
    }
}

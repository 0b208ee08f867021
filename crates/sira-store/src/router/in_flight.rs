//! Operations under way, as far as a strategy that sent them on their way sees them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::FixedState;
use parking_lot::Mutex;

/// Time after which an operation without an outcome no longer counts: it was never begun, or on
/// another backend.
const FORGET_MS: u64 = 5_000;

/// Operations remembered for each backend.
const OPEN_MAX: usize = 4096;

/// Backends remembered; past that the others are not counted.
const BACKENDS_MAX: usize = 64;

/// The operations under way on each backend.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<BTreeMap<String, Open>>);

#[derive(Debug, Default)]
struct Open {
    /// How many others were under way when an operation on a key, by its hash, was sent; and its
    /// number.
    keys: HashMap<u64, (usize, u64), FixedState>,
    /// When each was sent, the oldest first.
    sent: VecDeque<(u64, u64, u64)>,
    next: u64,
}

impl Open {
    fn forget(&mut self, now_ms: u64) {
        while let Some((at_ms, key, number)) = self.sent.front().copied() {
            let is_open = self.keys.get(&key).is_some_and(|(_, open)| *open == number);
            if is_open && at_ms.saturating_add(FORGET_MS) > now_ms && self.sent.len() <= OPEN_MAX {
                return;
            }
            self.sent.pop_front();
            if is_open {
                self.keys.remove(&key);
            }
        }
    }
}

impl Open {
    fn end(&mut self, key: u64) -> Option<usize> {
        self.keys.remove(&key).map(|(others, _)| others)
    }
}

impl InFlight {
    /// How many are under way on a backend.
    pub(super) fn count(&self, backend: &str, now_ms: u64) -> usize {
        let mut backends = self.0.lock();
        let Some(open) = backends.get_mut(backend) else { return 0 };
        open.forget(now_ms);
        open.keys.len()
    }

    /// An operation on a key, by its hash, is sent to a backend.
    pub(super) fn begin(&self, backend: &str, key: u64, now_ms: u64) {
        let mut backends = self.0.lock();
        if !backends.contains_key(backend) {
            if backends.len() >= BACKENDS_MAX {
                return;
            }
            backends.insert(backend.to_owned(), Open::default());
        }
        let Some(open) = backends.get_mut(backend) else { return };
        open.forget(now_ms);
        let (others, number) = (open.keys.len(), open.next);
        open.next += 1;
        open.keys.insert(key, (others, number));
        open.sent.push_back((now_ms, key, number));
    }

    /// An operation has ended: how many others were under way when it was sent, or are now where
    /// that is not known.
    pub(super) fn end(&self, backend: &str, key: u64) -> usize {
        let mut backends = self.0.lock();
        let Some(open) = backends.get_mut(backend) else { return 0 };
        open.end(key).unwrap_or(open.keys.len())
    }

    /// As [`InFlight::end`]; `None` where it is not known how many there were.
    pub(super) fn end_known(&self, backend: &str, key: u64) -> Option<usize> {
        self.0.lock().get_mut(backend)?.end(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_count_until_they_end_or_are_forgotten() {
        let open = InFlight::default();
        assert_eq!((open.count("a", 0), open.end("a", 7)), (0, 0));
        for key in 0..3 {
            open.begin("a", key, 100);
        }
        open.begin("b", 9, 100);
        assert_eq!((open.count("a", 100), open.count("b", 100)), (3, 1));
        assert_eq!((open.end("a", 2), open.end("a", 0), open.count("a", 100)), (2, 0, 1));
        // Of one that nobody sent, what goes on now is told.
        assert_eq!((open.end("a", 77), open.count("a", 100)), (1, 1));
        open.begin("a", 1, 100 + FORGET_MS);
        assert_eq!(open.count("a", 100 + FORGET_MS), 1);
        assert_eq!(open.count("a", 100 + 2 * FORGET_MS), 0);
        for key in 0..2 * OPEN_MAX as u64 {
            open.begin("a", key, 200_000);
        }
        assert!(open.count("a", 200_000) <= OPEN_MAX);
    }
}

//! Reading ahead: what usually follows a key is read before it is asked for, as long as that pays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::CacheBackend;
use super::memory::Place;

/// Most keys and patterns of which the successor is known; the least lately seen half goes.
const ROWS_MAX: usize = 16 * 1024;

/// A successor that was seen this often more than others is read ahead.
const CONFIDENCE_MIN: u8 = 2;
const CONFIDENCE_MAX: u8 = 8;

/// Keys that are read ahead at a time.
const READS_MAX: usize = 4;

/// Keys read ahead between two looks at how many of them were read.
const WINDOW: u64 = 128;

/// Least share of them, one in this many, for reading ahead to go on.
const PRECISION_SHARE: u64 = 3;

/// How long reading ahead pauses where it did not pay.
const PAUSE_MS: u64 = 60_000;

/// What follows what, and whether guessing pays.
#[derive(Debug)]
pub(super) struct Prefetch {
    table: Mutex<Table>,
    permits: Arc<Semaphore>,
    per_second: u64,
    budget: Mutex<Budget>,
    paused_until_ms: AtomicU64,
}

/// Keys that may still be read ahead in this second, and what the window brought so far.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    spent: u64,
    issued: u64,
    read_before: u64,
}

impl Prefetch {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            table: Mutex::default(),
            permits: Arc::new(Semaphore::new(READS_MAX)),
            per_second: per_second.into(),
            budget: Mutex::default(),
            paused_until_ms: AtomicU64::new(0),
        }
    }

    /// Notes a read, and tells the keys that are likely to follow. A read that comes while another is
    /// noted is left out.
    fn note(&self, place: Place<'_>) -> Vec<String> {
        self.table.try_lock().map(|mut table| table.note(place)).unwrap_or_default()
    }

    /// Whether one more key may be read ahead, of which `read` were asked for later by now.
    fn admit(&self, now_ms: u64, read: u64) -> bool {
        if now_ms < self.paused_until_ms.load(Ordering::Relaxed) {
            return false;
        }
        let mut budget = self.budget.lock();
        if budget.second != now_ms / 1000 {
            (budget.second, budget.spent) = (now_ms / 1000, 0);
        }
        if budget.spent >= self.per_second {
            return false;
        }
        if budget.issued >= WINDOW {
            let useful = read.saturating_sub(budget.read_before);
            if useful * PRECISION_SHARE < budget.issued {
                self.paused_until_ms.store(now_ms.saturating_add(PAUSE_MS), Ordering::Relaxed);
            }
            (budget.issued, budget.read_before) = (0, read);
        }
        budget.spent += 1;
        budget.issued += 1;
        true
    }
}

impl CacheBackend {
    /// Learns from a read, and reads ahead what is likely to follow.
    pub(super) fn learn(&self, place: Place<'_>) {
        if !self.space.policy.prefetch {
            return;
        }
        for next in self.core.prefetch.note(place) {
            self.read_ahead(next);
        }
    }

    fn read_ahead(&self, key: String) {
        let core = &self.core;
        if self.space.pool.contains(core.place(self.space.id, &key)) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Ok(permit) = Arc::clone(&core.prefetch.permits).try_acquire_owned() else { return };
        if !core.prefetch.admit(core.clock.monotonic_ms(), core.counters.prefetched_read.get()) {
            return;
        }
        let cache = self.clone();
        runtime.spawn(async move {
            if cache.warm(&key, true).await {
                cache.core.counters.prefetched.add();
            }
            drop(permit);
        });
    }

    /// Loads a key that nobody waits for, if it is small enough to be kept; says whether it was.
    pub(super) async fn warm(&self, key: &str, ahead: bool) -> bool {
        let place = self.core.place(self.space.id, key);
        let lease = self.core.leases.lease(self.core.hash_key(key));
        match self.space.primary.head(key).await {
            Ok(Some(head)) if self.space.pool.fits(head.size) => {
                self.bring(place, lease, ahead).await.is_ok()
            }
            _ => false,
        }
    }
}

/// The usual successor of each key, and the usual step of each pattern with a number in it.
#[derive(Debug, Default)]
struct Table {
    young: HashMap<u64, Row, foldhash::fast::FixedState>,
    old: HashMap<u64, Row, foldhash::fast::FixedState>,
    /// The last key that was read in each space.
    last: HashMap<u32, u64, foldhash::fast::FixedState>,
}

#[derive(Debug, Clone)]
enum Row {
    /// What follows one key.
    Next { key: Arc<str>, confidence: u8 },
    /// How the number of a pattern goes on.
    Step { number: u64, step: u64, confidence: u8 },
}

impl Table {
    fn take(&mut self, hash: u64) -> Option<Row> {
        self.young.remove(&hash).or_else(|| self.old.remove(&hash))
    }

    fn put(&mut self, hash: u64, row: Row) {
        if self.young.len() >= ROWS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, row);
    }

    fn note(&mut self, place: Place<'_>) -> Vec<String> {
        let mut likely = Vec::new();
        if let Some(before) = self.last.insert(place.space, place.hash)
            && before != place.hash
        {
            let row = match self.take(before) {
                Some(Row::Next { key, confidence }) if *key == *place.key => {
                    Row::Next { key, confidence: (confidence + 1).min(CONFIDENCE_MAX) }
                }
                Some(Row::Next { key, confidence }) if confidence > 0 => {
                    Row::Next { key, confidence: confidence - 1 }
                }
                _ => Row::Next { key: place.key.into(), confidence: 1 },
            };
            self.put(before, row);
        }
        if let Some(Row::Next { key, confidence }) = self.take(place.hash) {
            if confidence >= CONFIDENCE_MIN {
                likely.push(key.to_string());
            }
            self.put(place.hash, Row::Next { key, confidence });
        }
        if let Some(next) = self.step(place)
            && !likely.contains(&next)
        {
            likely.push(next);
        }
        likely
    }

    /// Follows the last number of a key, and tells the key with the next one.
    fn step(&mut self, place: Place<'_>) -> Option<String> {
        let (head, digits, tail) = split_number(place.key)?;
        let number: u64 = digits.parse().ok()?;
        // Apart from the hashes of whole keys, of which it is no hash.
        let pattern = hash_pattern(place.space, head, tail);
        let (step, confidence) = match self.take(pattern) {
            Some(Row::Step { number: before, step, confidence }) => {
                match number.wrapping_sub(before) {
                    0 => (step, confidence),
                    seen if seen == step => (step, (confidence + 1).min(CONFIDENCE_MAX)),
                    _ if confidence > 1 => (step, confidence - 1),
                    seen => (seen, 1),
                }
            }
            _ => (1, 0),
        };
        self.put(pattern, Row::Step { number, step, confidence });
        let next = number.checked_add(step).filter(|_| confidence >= CONFIDENCE_MIN)?;
        Some(format!("{head}{next:0width$}{tail}", width = digits.len()))
    }
}

fn hash_pattern(space: u32, head: &str, tail: &str) -> u64 {
    use std::hash::BuildHasher;
    foldhash::quality::FixedState::default().hash_one((space, head, tail))
}

/// The last number of a key, with what stands before and after it.
fn split_number(key: &str) -> Option<(&str, &str, &str)> {
    let end = key.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (front, tail) = key.split_at_checked(end)?;
    let start = front
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + front[at..].chars().next().map_or(1, char::len_utf8));
    let (head, digits) = front.split_at_checked(start)?;
    Some((head, digits, tail))
}

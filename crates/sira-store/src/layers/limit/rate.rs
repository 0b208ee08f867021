//! A rate that is kept without a queue of its own.

use std::time::Duration;

use parking_lot::Mutex;

/// A token bucket that holds up to a second of its rate, and may be in debt.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl Rate {
    /// A full bucket.
    pub(super) fn new(per_second: f64, now: Duration) -> Self {
        let per_second = per_second.max(f64::MIN_POSITIVE);
        Self { per_second, bucket: Mutex::new(Bucket { tokens: per_second, filled: now }) }
    }

    /// Takes tokens and says how long to wait before they are used; takes none and answers `None`
    /// where that is longer than `wait_max`. More than the bucket holds are taken when it is full.
    pub(super) fn take(&self, tokens: f64, now: Duration, wait_max: Duration) -> Option<Duration> {
        let mut bucket = self.fill(now);
        let missing = tokens.min(self.per_second) - bucket.tokens;
        let wait = Duration::try_from_secs_f64((missing / self.per_second).max(0.0))
            .unwrap_or(Duration::MAX);
        if wait > wait_max {
            return None;
        }
        bucket.tokens -= tokens;
        Some(wait)
    }

    /// Puts back tokens that were taken and not used.
    pub(super) fn give_back(&self, tokens: f64) {
        let mut bucket = self.bucket.lock();
        bucket.tokens = (bucket.tokens + tokens).min(self.per_second);
    }

    /// Takes tokens that were used already.
    pub(super) fn owe(&self, tokens: f64, now: Duration) {
        if tokens > 0.0 {
            self.fill(now).tokens -= tokens;
        }
    }

    fn fill(&self, now: Duration) -> parking_lot::MutexGuard<'_, Bucket> {
        let mut bucket = self.bucket.lock();
        let passed = now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.per_second);
        bucket.filled = bucket.filled.max(now);
        bucket
    }
}

//! Latency histograms: log-linear buckets, recorded without locks, mergeable.
//!
//! Every power of two is cut into `PARTS` buckets of equal width, so that a quantile is at most
//! half a bucket, about 3%, from the truth, over nanoseconds to half an hour.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Buckets of one power of two.
const PARTS: u64 = 16;

/// Binary digits of [`PARTS`].
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Longest time that is told apart, as a power of two of nanoseconds: 37 minutes.
const EXPONENT_MAX: u32 = 41;

/// Buckets in all: those below [`PARTS`] nanoseconds are of one nanosecond each.
const BUCKETS: usize = (EXPONENT_MAX - PART_BITS + 1) as usize * PARTS as usize;

/// Length of one slot of a [`Rolling`] histogram.
pub const SLOT: Duration = Duration::from_secs(10);

/// Slots that are kept apart: the one that is filled, and as many as make a minute with it.
const SLOTS: u64 = 6;

fn bucket_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let exponent = nanos.ilog2();
    if exponent >= EXPONENT_MAX {
        return BUCKETS - 1;
    }
    let shift = exponent - PART_BITS;
    let part = (nanos >> shift) - PARTS;
    ((u64::from(shift) + 1) * PARTS + part) as usize
}

/// The first nanosecond of a bucket.
fn start_of(bucket: usize) -> u64 {
    let (row, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if row == 0 { part } else { (PARTS + part) << (row - 1) }
}

/// Counts in buckets, and the sum of what was counted.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect();
        Self { buckets, sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a time.
    pub fn record(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// The counts as they are now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        self.add_to(&mut snapshot);
        snapshot
    }

    fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        for (sum, bucket) in snapshot.counts.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        snapshot.sum_ns = snapshot.sum_ns.wrapping_add(self.sum_ns.load(Ordering::Relaxed));
    }

    /// Moves all counts to another histogram; none is lost, whoever records meanwhile.
    fn drain_into(&self, other: &Self) {
        for (from, to) in self.buckets.iter().zip(&other.buckets) {
            if from.load(Ordering::Relaxed) > 0 {
                to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        other.sum_ns.fetch_add(self.sum_ns.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The counts of a histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Box<[u64]>,
    sum_ns: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), sum_ns: 0 }
    }
}

impl HistogramSnapshot {
    /// Adds the counts of another one, as of another thread, backend or machine.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// Times that were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Mean of the times, zero where there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.checked_div(self.count()).unwrap_or(0))
    }

    /// The time that a part `quantile` of all, from 0 to 1, did not exceed: the middle of its bucket.
    /// Zero where there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let start = start_of(bucket);
                return Duration::from_nanos(start + (start_of(bucket + 1) - start) / 2);
            }
        }
        Duration::ZERO
    }

    /// Times below 2 to the power of `exponent` nanoseconds: exact, since powers of two are borders
    /// of buckets.
    #[must_use]
    pub fn below_power(&self, exponent: u32) -> u64 {
        let end = bucket_of(1_u64.checked_shl(exponent).unwrap_or(u64::MAX));
        self.counts.iter().take(end).sum()
    }
}

/// A histogram of all times, that knows those of the last minute as well.
#[derive(Debug, Default)]
pub struct Rolling {
    /// What has left the last minute.
    older: Histogram,
    slots: [Histogram; SLOTS as usize],
    /// Number of the slot that is filled, counted from the clock's origin.
    newest: AtomicU64,
    rotation: Mutex<()>,
}

impl Rolling {
    /// Counts a time, at `now` of a monotonic clock. Takes a lock for the first of every ten
    /// seconds only.
    pub fn record(&self, now: Duration, elapsed: Duration) {
        let number = now.as_secs() / SLOT.as_secs();
        if number > self.newest.load(Ordering::Acquire) {
            drop(self.rotate(number));
        }
        if let Some(slot) = self.slots.get((number % SLOTS) as usize) {
            slot.record(elapsed);
        }
    }

    /// All times.
    #[must_use]
    pub fn total(&self) -> HistogramSnapshot {
        let _rotation = self.rotation.lock();
        let mut total = self.older.snapshot();
        for slot in &self.slots {
            slot.add_to(&mut total);
        }
        total
    }

    /// The times of the last minute: of the slot that is filled and the five before.
    #[must_use]
    pub fn recent(&self, now: Duration) -> HistogramSnapshot {
        let _rotation = self.rotate(now.as_secs() / SLOT.as_secs());
        let mut recent = HistogramSnapshot::default();
        for slot in &self.slots {
            slot.add_to(&mut recent);
        }
        recent
    }

    /// Seconds that [`Rolling::recent`] covers, for a clock that began at `begun`.
    #[must_use]
    pub fn recent_seconds(now: Duration, begun: Duration) -> f64 {
        let slot = SLOT.as_secs_f64();
        let covered = now.as_secs_f64() % slot + slot * (SLOTS - 1) as f64;
        covered.min(now.saturating_sub(begun).as_secs_f64())
    }

    fn rotate(&self, number: u64) -> parking_lot::MutexGuard<'_, ()> {
        let guard = self.rotation.lock();
        let newest = self.newest.load(Ordering::Relaxed);
        for left in 0..number.saturating_sub(newest).min(SLOTS) {
            if let Some(slot) = self.slots.get(((number - left) % SLOTS) as usize) {
                slot.drain_into(&self.older);
            }
        }
        self.newest.store(newest.max(number), Ordering::Release);
        guard
    }
}

#[cfg(test)]
mod tests;

//! A histogram of latencies in which older operations count less.

use std::time::Duration;

/// Buckets for each doubling of the latency: a quantile is right within 1/8 of its value.
const STEPS: usize = 8;
/// Old operations count together as much as that many at most, so that new ones soon tell.
const REMEMBERED_MAX: f64 = 300.0;
/// From 1 us to 2^28 us, about four minutes and a half.
const DOUBLINGS: usize = 28;
const BUCKETS: usize = STEPS * DOUBLINGS;

/// Operations since the last snapshot.
#[derive(Debug)]
pub(super) struct Batch {
    buckets: [u32; BUCKETS],
    pub(super) operations: u64,
    pub(super) failures: u64,
    pub(super) bytes: u64,
    pub(super) latency_us: u64,
    pub(super) cost: f64,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [0; BUCKETS],
            operations: 0,
            failures: 0,
            bytes: 0,
            latency_us: 0,
            cost: 0.0,
        }
    }

    pub(super) fn add(&mut self, latency: Duration, size: u64, success: bool, cost: f64) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(latency_us)) {
            *bucket = bucket.saturating_add(1);
        }
        self.operations += 1;
        self.failures += u64::from(!success);
        self.bytes = self.bytes.saturating_add(size);
        self.latency_us = self.latency_us.saturating_add(latency_us);
        self.cost += cost;
    }
}

/// What is remembered of a backend: every figure is a sum in which older operations count less.
#[derive(Debug, Clone)]
pub(super) struct Window {
    buckets: Vec<f64>,
    pub(super) operations: f64,
    pub(super) failures: f64,
    pub(super) bytes: f64,
    pub(super) latency_us: f64,
    pub(super) cost: f64,
    /// Seconds that the sums stand for.
    pub(super) seconds: f64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0.0; BUCKETS],
            operations: 0.0,
            failures: 0.0,
            bytes: 0.0,
            latency_us: 0.0,
            cost: 0.0,
            seconds: 0.0,
        }
    }

    /// Lets time pass: what was so far counts half as much after each half-life.
    pub(super) fn age(&mut self, passed: Duration, half_life: Duration) {
        let aged = (-passed.as_secs_f64() / half_life.as_secs_f64().max(1e-3)).exp2();
        // Means and rates stay what they are: all sums shrink alike.
        let keep = aged.min(REMEMBERED_MAX / self.operations.max(1.0));
        let sums = [
            &mut self.operations,
            &mut self.failures,
            &mut self.bytes,
            &mut self.latency_us,
            &mut self.cost,
            &mut self.seconds,
        ];
        for sum in self.buckets.iter_mut().chain(sums) {
            *sum *= keep;
        }
        self.seconds += passed.as_secs_f64();
    }

    /// Takes what a batch holds and leaves the batch empty.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        if batch.operations == 0 {
            return;
        }
        for (sum, count) in self.buckets.iter_mut().zip(&batch.buckets) {
            *sum += f64::from(*count);
        }
        self.operations += batch.operations as f64;
        self.failures += batch.failures as f64;
        self.bytes += batch.bytes as f64;
        self.latency_us += batch.latency_us as f64;
        self.cost += batch.cost;
        *batch = Batch::new();
    }

    /// The latency that `part` of the operations keep within.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        let total: f64 = self.buckets.iter().sum();
        let mut below = 0.0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if *count > 0.0 && below >= total * part {
                return Duration::from_micros(top_of(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(latency_us: u64) -> usize {
    let latency = latency_us.max(1);
    let doubling = latency.ilog2() as usize;
    // The three bits after the leading one.
    let step = if doubling >= 3 { latency >> (doubling - 3) } else { latency << (3 - doubling) };
    (doubling * STEPS + (step as usize & (STEPS - 1))).min(BUCKETS - 1)
}

/// The largest latency of a bucket, in microseconds.
fn top_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    ((STEPS + step + 1) << doubling).div_ceil(STEPS) as u64
}

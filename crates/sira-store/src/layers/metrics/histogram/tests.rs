use std::sync::Arc;

use super::*;
use crate::env::SeededRandom;

#[test]
fn buckets_are_contiguous_and_narrow() {
    for bucket in 0..BUCKETS {
        let (start, next) = (start_of(bucket), start_of(bucket + 1));
        assert_eq!((bucket_of(start), bucket_of(next - 1)), (bucket, bucket), "{bucket}");
        assert!(next - start <= (start / PARTS).max(1), "{bucket}");
    }
    assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
}

#[test]
fn quantiles_are_within_three_percent_of_the_truth() {
    let mut random = SeededRandom::new(7);
    let histogram = Histogram::default();
    let mut times: Vec<u64> = (0..50_000)
        .map(|_| 1000 + (1 << random.within(8, 30)) * random.within(100, 199) / 100)
        .collect();
    times.iter().for_each(|time| histogram.record(Duration::from_nanos(*time)));
    times.sort_unstable();
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot.count(), 50_000);
    assert_eq!(snapshot.sum(), Duration::from_nanos(times.iter().sum()));
    for quantile in [0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
        let rank = ((quantile * times.len() as f64).ceil() as usize).max(1) - 1;
        let (truth, seen) = (times[rank] as f64, snapshot.quantile(quantile).as_nanos() as f64);
        assert!((seen / truth - 1.0).abs() < 0.032, "{quantile}: {seen} for {truth}");
    }
}

#[test]
fn nothing_recorded_is_zero() {
    let empty = HistogramSnapshot::default();
    assert_eq!((empty.count(), empty.mean(), empty.quantile(0.99)), Default::default());
}

#[test]
fn parts_merge_to_the_whole() {
    let (whole, left, right) = (Histogram::default(), Histogram::default(), Histogram::default());
    for nanos in 0..1000_u64 {
        let time = Duration::from_nanos(nanos * nanos);
        whole.record(time);
        if nanos % 3 == 0 { left.record(time) } else { right.record(time) }
    }
    let mut merged = left.snapshot();
    merged.merge(&right.snapshot());
    assert_eq!(merged, whole.snapshot());
}

#[test]
fn counts_below_a_power_of_two_are_exact() {
    let histogram = Histogram::default();
    for nanos in [0, 1, 1023, 1024, 1025, 4095, 4096, u64::MAX] {
        histogram.record(Duration::from_nanos(nanos));
    }
    let snapshot = histogram.snapshot();
    assert_eq!([10, 11, 12].map(|power| snapshot.below_power(power)), [3, 5, 6]);
}

#[test]
fn the_last_minute_forgets_and_the_total_does_not() {
    let rolling = Rolling::default();
    let (early, late) = (Duration::from_millis(1), Duration::from_millis(100));
    for second in 0..100 {
        rolling.record(Duration::from_secs(second), early);
    }
    assert_eq!(rolling.recent(Duration::from_secs(99)).count(), 60);
    rolling.record(Duration::from_secs(150), late);
    let recent = rolling.recent(Duration::from_secs(150));
    assert_eq!(recent.count(), 1, "what is left of the last minute is the newest");
    assert!(recent.quantile(0.5) > Duration::from_millis(90));
    assert_eq!(rolling.recent(Duration::from_secs(10_000)).count(), 0);
    assert_eq!(rolling.total().count(), 101);
}

#[test]
fn no_record_is_lost_while_threads_cross_the_borders_of_slots() {
    let rolling = Arc::new(Rolling::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let rolling = Arc::clone(&rolling);
            scope.spawn(move || {
                for step in 0..20_000_u64 {
                    // Every 50 records a new slot, and some come late.
                    let now = Duration::from_secs(step / 50 * 10 - thread.min(step / 50 * 10));
                    rolling.record(now, Duration::from_micros(step));
                }
            });
        }
        for step in 0..400_u64 {
            drop(rolling.recent(Duration::from_secs(step * 10)));
            drop(rolling.total());
        }
    });
    assert_eq!(rolling.total().count(), 80_000);
}

#[test]
fn rates_are_over_the_time_that_is_covered() {
    let seconds =
        |now, begun| Rolling::recent_seconds(Duration::from_secs(now), Duration::from_secs(begun));
    assert_eq!(seconds(3, 0), 3.0);
    assert_eq!(seconds(1003, 1000), 3.0);
    assert_eq!(seconds(1003, 0), 53.0);
}

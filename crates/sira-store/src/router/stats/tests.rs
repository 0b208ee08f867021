use std::sync::Arc;
use std::time::Duration;

use crate::env::SimEnv;
use crate::router::{BackendProfile, Operation, PriceTable, RouteOutcome, StatsRecorder};

fn outcome(backend: &str, latency_ms: u64, success: bool) -> RouteOutcome<'_> {
    RouteOutcome {
        backend,
        namespace: "default",
        key: "k",
        operation: Operation::Read,
        size: 1000,
        region: None,
        latency: Duration::from_millis(latency_ms),
        success,
        now_ms: 0,
    }
}

fn recorder() -> (Arc<SimEnv>, StatsRecorder) {
    let env = Arc::new(SimEnv::new(1, 0));
    let recorder = StatsRecorder::with_env(env.clone(), Duration::from_secs(10));
    let prices = PriceTable { read_per_1000: 2.0, ..PriceTable::default() };
    recorder.register("a", BackendProfile { prices, latency_ms: 7.0, ..BackendProfile::default() });
    (env, recorder)
}

#[test]
fn before_anything_is_measured_the_profile_stands_in() {
    let (_, recorder) = recorder();
    let stats = recorder.snapshot();
    let a = stats.get("a").unwrap();
    assert_eq!(a.avg_response_time, Duration::from_millis(7));
    assert_eq!((a.evidence, a.success_rate), (0.0, 1.0));
    assert!(stats.get("b").is_none());
}

#[test]
fn mean_quantiles_success_rate_and_price_are_those_of_the_operations() {
    let (env, recorder) = recorder();
    for i in 0..1000 {
        recorder.record(&outcome("a", if i < 980 { 10 } else { 400 }, i % 4 != 0));
    }
    recorder.record(&outcome("unknown", 1, true));
    env.advance_ms(1000);
    let stats = recorder.snapshot();
    assert_eq!(stats.len(), 1);
    let a = stats.get("a").unwrap();
    let near = |time: Duration, ms: f64| (time.as_secs_f64() * 1000.0 / ms - 1.0).abs() < 0.13;
    assert!(near(a.avg_response_time, 17.8), "{a:?}");
    assert!(near(a.p95_response_time, 10.0), "{a:?}");
    assert!(near(a.p99_response_time, 400.0), "{a:?}");
    assert!((a.success_rate - 0.75).abs() < 1e-9);
    assert!((a.cost_per_operation - 0.002).abs() < 1e-9);
    assert!((a.operations_per_s - 1000.0).abs() < 1.0, "{a:?}");
    assert_eq!((a.operations_total, a.failures_total), (1000, 250));
}

#[test]
fn old_operations_count_less_and_are_forgotten() {
    let (env, recorder) = recorder();
    for _ in 0..100 {
        recorder.record(&outcome("a", 100, true));
    }
    recorder.refresh();
    env.advance_ms(10_000);
    for _ in 0..150 {
        recorder.record(&outcome("a", 10, true));
    }
    let stats = recorder.snapshot();
    let a = stats.get("a").unwrap();
    assert!((a.evidence - 200.0).abs() < 1e-6, "{a:?}");
    assert!((a.avg_response_time.as_secs_f64() - 0.0325).abs() < 1e-6, "{a:?}");
    env.advance_ms(600_000);
    let stats = recorder.snapshot();
    assert_eq!(stats.get("a").unwrap().avg_response_time, Duration::from_millis(7));
}

#[test]
fn a_snapshot_stays_for_the_interval() {
    let (env, recorder) = recorder();
    recorder.set_interval(Duration::from_secs(5));
    assert_eq!(recorder.snapshot().get("a").unwrap().operations_total, 0);
    recorder.record(&outcome("a", 1, true));
    env.advance_ms(4999);
    assert_eq!(recorder.snapshot().get("a").unwrap().operations_total, 0);
    env.advance_ms(1);
    assert_eq!(recorder.snapshot().get("a").unwrap().operations_total, 1);
}

#[test]
fn many_threads_lose_no_operation_and_a_new_profile_keeps_them() {
    let (_, recorder) = recorder();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5000).for_each(|_| recorder.record(&outcome("a", 1, true))));
        }
    });
    recorder.register("a", BackendProfile { latency_ms: 1.0, ..BackendProfile::default() });
    let stats = recorder.snapshot();
    assert_eq!(stats.get("a").unwrap().operations_total, 20_000);
    assert!(stats.get("a").unwrap().evidence >= 300.0);
    recorder.remove("a");
    assert!(recorder.snapshot().is_empty());
}

//! The conformance suite through every layer, and through all of them.

use std::sync::Arc;
use std::time::Duration;

use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::DriverBackend;
use sira_store::env::SystemEnv;
use sira_store::layers::{
    Breaker, BreakerLayer, BreakerOptions, HedgeLayer, HedgeOptions, Layered, Layers, LimitLayer,
    LimitOptions, Limiter, MetricsCollector, RetryLayer, RetryOptions, TimeoutLayer,
    TimeoutOptions, Timeouts, Tracer,
};
use sira_store::{MemoryBackend, StorageBackend};

use crate::driver::memory::{Kind, MemoryDriver};

/// Runs the whole suite through `wrap`, over an engine that answers at once and over one that runs
/// its writes as tasks and stores exact versions.
async fn conforms(wrap: impl Fn(Arc<dyn StorageBackend>) -> Arc<dyn StorageBackend>) {
    let memory = Arc::new(MemoryBackend::new(1 << 30));
    let driver = Arc::new(DriverBackend::new(MemoryDriver::new(Kind::default())));
    for engine in [memory as Arc<dyn StorageBackend>, driver] {
        let name = engine.capabilities().name;
        let report = conformance::run(wrap(engine), ConformanceOptions::default()).await;
        let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
        let transactions = report.skipped.iter().all(|case| case.missing == "transaction_engine");
        assert!(report.skipped.is_empty() || (name != "memory" && transactions), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn timeout() {
    conforms(|engine| {
        Arc::new(TimeoutLayer::new(engine, Arc::new(Timeouts::new(TimeoutOptions::default()))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retry() {
    conforms(|engine| Arc::new(RetryLayer::new(engine, RetryOptions::default()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retry_that_identifies_all_writes() {
    let options = RetryOptions { identify_all: true, ..RetryOptions::default() };
    conforms(move |engine| Arc::new(RetryLayer::new(engine, options.clone()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn breaker() {
    conforms(|engine| {
        Arc::new(BreakerLayer::new(engine, Arc::new(Breaker::new(BreakerOptions::default()))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limit() {
    // Few enough to make the suite's racing writers wait.
    let options = LimitOptions {
        concurrent: 2,
        wait_max: Duration::from_secs(60),
        operations_per_second: Some(1e6),
        bytes_per_second: Some(1e12),
        ..LimitOptions::default()
    };
    conforms(move |engine| {
        Arc::new(LimitLayer::new(engine, Arc::new(Limiter::new(options.clone()))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hedge() {
    // Every read that does not end at once is sent twice.
    let mut options = HedgeOptions { delay_max: Duration::ZERO, ..HedgeOptions::default() };
    options.delay_min = Duration::ZERO;
    options.delay_initial = Duration::ZERO;
    options.budget.ratio = 1.0;
    conforms(move |engine| {
        let other = Arc::clone(&engine);
        Arc::new(HedgeLayer::with_env(engine, other, options.clone(), Arc::new(SystemEnv)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn metrics() {
    let collector = MetricsCollector::new();
    conforms(|engine| Arc::new(Layered::new(engine, collector.backend("engine")))).await;
    let metrics = collector.metrics("engine").unwrap();
    assert!(metrics.operations_success > 1000 && metrics.operations_failed > 0, "{metrics:?}");
    assert!(metrics.operations_cancelled > 0, "the suite drops operations: {metrics:?}");
    assert_eq!(metrics.in_flight, 0);
    assert!(metrics.bytes_in > 1 << 20 && metrics.bytes_out > 1 << 20, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tracing() {
    conforms(|engine| Arc::new(Layered::new(engine, Arc::new(Tracer::new("engine"))))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_of_them() {
    let collector = MetricsCollector::new();
    conforms(|engine| Layers::standard(engine, "engine", &collector).build()).await;
}

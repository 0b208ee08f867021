use super::*;
use crate::backend::{BatchOperation, StorageBackend};
use crate::env::SimEnv;
use crate::layers::{BreakerOptions, Layers, RetryOptions};
use crate::memory::MemoryBackend;
use crate::options::{Condition, StorageOptions};

fn stack() -> (Arc<SimEnv>, MetricsCollector, Arc<dyn StorageBackend>) {
    let env = Arc::new(SimEnv::new(1, 0));
    let collector = MetricsCollector::with_env(env.clone());
    let stack = Layers::new(Arc::new(MemoryBackend::new(1 << 20)))
        .name("hot")
        .env(env.clone())
        .metrics(&collector)
        .breaker(BreakerOptions::default())
        .retry(RetryOptions::default());
    (env, collector, stack.build())
}

#[tokio::test]
async fn figures_follow_what_happens() {
    let (env, collector, store) = stack();
    let absent = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    store.put("a", "1234".into(), absent.clone()).await.unwrap();
    store.put("a", "1234".into(), absent).await.unwrap_err();
    assert_eq!(store.get("a").await.unwrap().unwrap().len(), 4);
    let space = store.namespace("other").await.unwrap();
    space.put("b", "12".into(), StorageOptions::default()).await.unwrap();
    store.batch(vec![BatchOperation::Get { key: "a".into() }]).await.unwrap();
    store.stats().await.unwrap();
    env.advance_ms(10_000);
    let metrics = collector.metrics("hot").unwrap();
    assert_eq!((metrics.operations_total, metrics.operations_failed), (7, 1));
    assert_eq!((metrics.bytes_in, metrics.bytes_out), (6, 8));
    assert_eq!(metrics.throughput, 0.7);
    assert_eq!(metrics.used_bytes, Some(8));
    assert_eq!(metrics.available_bytes, Some((1 << 20) - 8));
    assert_eq!((metrics.cache_hit_ratio, metrics.compression_ratio), (None, None));
    let backend = collector.backend("hot");
    backend.record_cache(true);
    backend.record_cache(false);
    backend.record_compression(300, 100);
    let metrics = &collector.all()["hot"];
    assert_eq!((metrics.cache_hit_ratio, metrics.compression_ratio), (Some(0.5), Some(3.0)));
    assert!(collector.remove("hot") && collector.metrics("hot").is_none());
}

/// An engine that takes its time.
#[derive(Debug)]
struct Slow(Arc<SimEnv>);

#[async_trait::async_trait]
impl StorageBackend for Slow {
    fn capabilities(&self) -> crate::Capabilities {
        MemoryBackend::new(0).capabilities()
    }

    async fn put(
        &self,
        _: &str,
        _: bytes::Bytes,
        _: StorageOptions,
    ) -> crate::Result<crate::Version> {
        self.0.advance_ms(100);
        Err(crate::StorageError::unavailable("down"))
    }

    async fn read(&self, _: &str, _: crate::ReadOptions) -> crate::Result<Option<crate::Object>> {
        self.0.advance_ms(4);
        Ok(None)
    }

    async fn remove(&self, _: &str, _: Condition) -> crate::Result<bool> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn times_are_milliseconds_and_those_of_the_last_minute() {
    let env = Arc::new(SimEnv::new(1, 0));
    let collector = MetricsCollector::with_env(env.clone());
    let store = Layers::new(Arc::new(Slow(env.clone()))).name("slow").metrics(&collector).build();
    for _ in 0..98 {
        store.get("key").await.unwrap();
    }
    for _ in 0..2 {
        store.put("key", "".into(), StorageOptions::default()).await.unwrap_err();
    }
    let near = |seen: f64, truth: f64| assert!((seen / truth - 1.0).abs() < 0.032, "{seen}");
    let metrics = collector.metrics("slow").unwrap();
    near(metrics.p50_response_time, 4.0);
    near(metrics.p95_response_time, 4.0);
    near(metrics.p99_response_time, 100.0);
    near(metrics.avg_response_time, 5.92);
    // An operation under way, and then dropped.
    let mut removal = store.remove("key", Condition::Always);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(removal.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    assert_eq!(collector.metrics("slow").unwrap().in_flight, 1);
    drop(removal);
    let metrics = collector.metrics("slow").unwrap();
    assert_eq!((metrics.in_flight, metrics.operations_cancelled), (0, 1));
    env.advance_ms(70_000);
    let metrics = collector.metrics("slow").unwrap();
    assert_eq!((metrics.operations_total, metrics.avg_response_time), (100, 0.0));
    assert_eq!(metrics.throughput, 0.0);
}

#[tokio::test]
async fn the_text_names_backends_operations_outcomes_and_buckets() {
    let (_, collector, store) = stack();
    collector.backend("unused");
    store.put("a", "1234".into(), StorageOptions::default()).await.unwrap();
    store.get("a").await.unwrap();
    let mut out = MetricFamilies::default();
    collector.write(&mut out);
    let text = out.text();
    for line in [
        "# TYPE sira_backend_operations_total counter",
        r#"sira_backend_operations_total{backend="hot",operation="put",outcome="success"} 1"#,
        r#"sira_backend_value_bytes_total{backend="hot",direction="in"} 4"#,
        r#"sira_backend_breaker_state{backend="hot"} 0"#,
        r#"sira_backend_retries_total{backend="hot",event="retried"} 0"#,
        "# TYPE sira_backend_operation_duration_seconds histogram",
        r#"sira_backend_operation_duration_seconds_bucket{backend="hot",operation="read",le="0.000016384"} 1"#,
        r#"sira_backend_operation_duration_seconds_bucket{backend="hot",operation="read",le="+Inf"} 1"#,
        r#"sira_backend_operation_duration_seconds_count{backend="hot",operation="put"} 1"#,
        r#"sira_backend_operations_in_flight{backend="unused"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"sira_backend_breaker_state{backend="unused"}"#));
    let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    let distinct: std::collections::BTreeSet<&str> =
        text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(families, distinct.len());
}

//! The names and shapes that callers were promised, used as they would use them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_store::router::{
    BackendProfile, BackendStats, DataPattern, PriceTable, RoutingStats, RoutingStrategy,
    StorageRouter,
};
use sira_store::{
    BatchOperation, BatchResult, CompressionType, ConsistencyLevel, EncryptionType, HealthStatus,
    MemoryBackend, StorageBackend, StorageClient, StorageError, StorageOptions, StorageStats,
};

#[tokio::test]
async fn memory_backend() -> Result<(), StorageError> {
    let backend = MemoryBackend::new(1024 * 1024);
    backend.put("test_key", Bytes::from("test_value"), StorageOptions::default()).await?;
    assert_eq!(backend.get("test_key").await?, Some(Bytes::from("test_value")));
    assert!(backend.exists("test_key").await?);
    assert_eq!(backend.list_keys("test_", 10).await?, vec!["test_key".to_string()]);
    assert!(backend.delete("test_key").await?);
    assert!(!backend.delete("test_key").await?);
    assert_eq!(backend.get("test_key").await?, None);

    let stats: StorageStats = backend.stats().await?;
    assert_eq!((stats.keys, stats.used_bytes), (0, 0));
    assert_eq!(backend.health_check().await, HealthStatus::Healthy);
    Ok(())
}

#[tokio::test]
async fn memory_backend_is_bounded() {
    let backend = MemoryBackend::new(10);
    let result = backend.put("k", vec![0_u8; 100].into(), StorageOptions::default()).await;
    assert!(matches!(result, Err(StorageError::OutOfSpace(_))));
}

#[tokio::test]
async fn batch() -> Result<(), StorageError> {
    let backend = MemoryBackend::new(1024 * 1024);
    let operations = (0..3)
        .map(|i| BatchOperation::Put {
            key: format!("key{i}"),
            value: format!("value{i}").into(),
            options: StorageOptions::default(),
        })
        .collect();
    let results = backend.batch(operations).await?;
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| matches!(result, BatchResult::Success { .. })));
    Ok(())
}

#[tokio::test]
async fn client() -> Result<(), StorageError> {
    let client = StorageClient::new();
    client.register_backend("memory", Arc::new(MemoryBackend::new(1024 * 1024)))?;
    let shared = client.clone();
    client.store("user:1", "Ada", StorageOptions::default()).await?;
    assert_eq!(shared.retrieve("user:1").await?, Some(Bytes::from("Ada")));
    assert_eq!(shared.retrieve("user:2").await?, None);
    Ok(())
}

#[tokio::test]
async fn options() {
    let options = StorageOptions::default();
    assert_eq!(options.ttl, None);
    assert_eq!(options.compression, CompressionType::None);
    assert_eq!(options.encryption, EncryptionType::None);
    assert_eq!(options.consistency, ConsistencyLevel::Strong);
    let _ = StorageOptions {
        ttl: Some(Duration::from_secs(3600)),
        compression: CompressionType::Zstd,
        encryption: EncryptionType::Aes256Gcm { key_id: "k1".to_string() },
        consistency: ConsistencyLevel::Eventual,
        ..Default::default()
    };
    let _ = [CompressionType::Gzip, CompressionType::Lz4];
    let _ = EncryptionType::ChaCha20Poly1305 { key_id: "k1".to_string() };
    let _ = ConsistencyLevel::Weak;
}

#[derive(Debug)]
struct CheapWrites;

impl RoutingStrategy for CheapWrites {
    fn name(&self) -> &str {
        "cheap-writes"
    }

    fn select_backend(
        &self,
        key: &str,
        options: &StorageOptions,
        stats: &RoutingStats,
    ) -> Option<String> {
        let ttl = options.ttl?;
        let quick = |stats: &BackendStats| stats.avg_response_time < Duration::from_millis(5);
        let brief = ttl < Duration::from_secs(60) && key.starts_with("data:");
        (brief && quick(stats.get("redis")?)).then(|| "redis".to_string())
    }
}

#[test]
fn router() -> Result<(), StorageError> {
    let mut router = StorageRouter::new();
    let cheap = PriceTable { storage_gb_month: 0.02, ..Default::default() };
    let dear = PriceTable { storage_gb_month: 2.0, ..Default::default() };
    let backend = |latency_ms, prices| BackendProfile { latency_ms, prices, ..Default::default() };
    router.register_backend("redis", backend(0.5, dear));
    router.register_backend("postgres", backend(3.0, cheap));
    router.add_strategy(Box::new(CheapWrites));
    let cache = DataPattern { preferred_backend: "redis".to_string(), ..Default::default() };
    router.add_data_pattern("cache:*", cache)?;
    router.add_data_pattern("data:*", DataPattern::to("postgres"))?;
    router.set_default_backend("postgres");

    let options = StorageOptions::default();
    assert_eq!(router.select_backend("cache:1", &options), "redis");
    assert_eq!(router.select_backend("data:1", &options), "postgres");
    assert_eq!(router.select_backend("other", &options), "postgres");
    let brief = StorageOptions { ttl: Some(Duration::from_secs(5)), ..Default::default() };
    assert_eq!(router.select_backend("data:1", &brief), "redis");

    assert_eq!(router.performance_based_routing("k", &options).as_deref(), Some("redis"));
    assert_eq!(router.cost_based_routing("k", &options).as_deref(), Some("postgres"));
    assert_eq!(router.data_type_based_routing("cache:1", &options).as_deref(), Some("redis"));
    let stats = router.stats();
    let BackendStats { avg_response_time, cost_per_operation, .. } = stats.get("redis").unwrap();
    assert_eq!((*avg_response_time, *cost_per_operation), (Duration::from_micros(500), 0.0));
    Ok(())
}

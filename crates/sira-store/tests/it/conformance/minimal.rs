//! A backend that gives what the trait demands and nothing more conforms to what it declares.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::conformance::ConformanceOptions;
use sira_store::{
    Capabilities, Condition, MemoryBackend, Object, ReadOptions, Result, StorageBackend,
    StorageOptions, Version,
};

use super::conforms;

#[derive(Debug)]
struct Minimal(MemoryBackend);

#[async_trait]
impl StorageBackend for Minimal {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "minimal",
            persistent: false,
            ttl: false,
            conditional: false,
            list: false,
            list_sizes: false,
            exact_versions: false,
            range: false,
            atomic_batch: false,
            namespaces: false,
            metadata: false,
            value_bytes_max: 1 << 20,
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.0.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.0.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.0.remove(key, condition).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_trait_provides_conforms() {
    let backend = Arc::new(Minimal(MemoryBackend::new(1 << 30)));
    let report = conforms(backend, ConformanceOptions::default()).await;
    let missing: Vec<_> = report.skipped.iter().map(|skipped| skipped.missing).collect();
    for capability in ["ttl", "conditional", "list", "atomic_batch", "namespaces", "metadata"] {
        assert!(missing.contains(&capability), "{capability} in {missing:?}");
    }
    for case in ["batches/others_go_on", "values/failed_stream", "ranges/cut", "keys/refused"] {
        assert!(report.passed.contains(&case), "{case}");
    }
}

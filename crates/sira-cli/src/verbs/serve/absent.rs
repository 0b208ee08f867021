//! What stands in for a backend that does not answer when it is to be opened.

use std::sync::Arc;

use async_trait::async_trait;
use sira_store::limits::VALUE_BYTES_MAX;
use sira_store::{
    Bytes, Capabilities, Condition, HealthStatus, Object, ReadOptions, Result, StorageBackend,
    StorageError, StorageOptions, StorageStats, Version,
};

/// A backend that answers every operation with why the real one could not be opened, until that
/// takes its place. It declares what engines behind a catalog can do, so that the objects of its
/// namespaces that lie elsewhere are served meanwhile.
#[derive(Debug, Clone)]
pub struct AbsentBackend {
    kind: &'static str,
    cause: Arc<StorageError>,
}

impl AbsentBackend {
    pub fn new(kind: &'static str, cause: StorageError) -> Self {
        Self { kind, cause: Arc::new(cause) }
    }

    fn refuse<T>(&self) -> Result<T> {
        let message = format!("the backend could not be opened and is tried again: {}", self.cause);
        Err(StorageError::unavailable(message))
    }
}

#[async_trait]
impl StorageBackend for AbsentBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: self.kind,
            persistent: true,
            ttl: true,
            conditional: true,
            list: true,
            list_sizes: true,
            exact_versions: true,
            range: true,
            atomic_batch: false,
            namespaces: true,
            metadata: true,
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }

    async fn put(&self, _: &str, _: Bytes, _: StorageOptions) -> Result<Version> {
        self.refuse()
    }

    async fn read(&self, _: &str, _: ReadOptions) -> Result<Option<Object>> {
        self.refuse()
    }

    async fn remove(&self, _: &str, _: Condition) -> Result<bool> {
        self.refuse()
    }

    async fn list(&self, _: sira_store::ListOptions) -> Result<sira_store::ListPage> {
        self.refuse()
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.refuse()
    }

    async fn health_check(&self) -> HealthStatus {
        HealthStatus::Critical(format!("it could not be opened: {}", self.cause))
    }

    async fn namespace(&self, _: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(self.clone()))
    }

    async fn plain(&self, _: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(self.clone()))
    }
}

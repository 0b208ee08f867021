//! A backend that can be taken away for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::{
    Capabilities, Condition, HealthStatus, ListOptions, ListPage, Object, ObjectHead, ReadOptions,
    Result, StorageBackend, StorageError, StorageOptions, Version,
};

/// Whether a backend is away. Clones are of one mind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outage {
    away: Arc<AtomicBool>,
    after_write: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Outage {
    pub(crate) fn set(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Begins when the next write has taken effect, before it is answered.
    pub(crate) fn set_after_write(&self) {
        self.after_write.store(true, Ordering::Relaxed);
    }

    /// Whether what it stores in is not there any more, such as a folder.
    pub(crate) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    /// Whether writes wait.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    fn here(&self) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(StorageError::not_found("no such folder"));
        }
        match self.away.load(Ordering::Relaxed) {
            true => Err(StorageError::unavailable("the backend is away")),
            false => Ok(()),
        }
    }

    /// The answer, unless the backend has gone away before it came.
    fn answer<T>(&self, result: Result<T>) -> Result<T> {
        self.here().map_err(|_| StorageError::timeout("no answer came"))?;
        result
    }
}

/// A backend behind an outage.
#[derive(Debug)]
pub(crate) struct Flaky {
    pub(crate) inner: Arc<dyn StorageBackend>,
    pub(crate) outage: Outage,
}

#[async_trait]
impl StorageBackend for Flaky {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        while self.outage.held.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.outage.here()?;
        let result = self.inner.put(key, value, options).await;
        if self.outage.after_write.swap(false, Ordering::Relaxed) {
            self.outage.set(true);
        }
        self.outage.answer(result)
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.outage.here()?;
        self.outage.answer(self.inner.read(key, options).await)
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.outage.here()?;
        self.outage.answer(self.inner.head(key).await)
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.outage.here()?;
        self.outage.answer(self.inner.remove(key, condition).await)
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.outage.here()?;
        self.outage.answer(self.inner.list(options).await)
    }

    async fn health_check(&self) -> HealthStatus {
        match self.outage.here() {
            Ok(()) => self.inner.health_check().await,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.namespace(name).await?;
        Ok(Arc::new(Self { inner, outage: self.outage.clone() }))
    }
}

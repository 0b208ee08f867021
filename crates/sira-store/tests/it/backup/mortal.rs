//! A backend whose process dies after some writes: from then on nothing reaches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use sira_store::{
    Bytes, Capabilities, Condition, ListOptions, ListPage, Object, ObjectHead, ReadOptions, Result,
    StorageBackend, StorageError, StorageOptions, Version,
};

#[derive(Debug)]
pub(crate) struct Mortal {
    inner: Arc<dyn StorageBackend>,
    /// Writes that are left.
    left: AtomicI64,
}

impl Mortal {
    pub(crate) fn new(inner: Arc<dyn StorageBackend>, writes: i64) -> Self {
        Self { inner, left: AtomicI64::new(writes) }
    }

    fn write(&self) -> Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(StorageError::unavailable("it has died")),
        }
    }

    fn read(&self) -> Result<()> {
        match self.left.load(Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(StorageError::unavailable("it has died")),
        }
    }
}

#[async_trait]
impl StorageBackend for Mortal {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.write()?;
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        Self::read(self)?;
        self.inner.read(key, options).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        Self::read(self)?;
        self.inner.head(key).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.write()?;
        self.inner.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        Self::read(self)?;
        self.inner.list(options).await
    }
}

//! The storage trait over the cache.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::space::Space;
use super::tier::Tier;
use super::{CacheBackend, FILLS_MAX};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::error::{Result, StorageError};
use crate::key::{check_key, check_range};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

impl CacheBackend {
    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        if error.detail().key.is_some() { error } else { error.with_key(key) }
    }

    /// The same cache, seen through a namespace of this name, which the primary makes if it is not
    /// there. What was kept of it stays.
    ///
    /// # Errors
    /// As [`StorageBackend::namespace`] of the primary.
    pub async fn namespace(&self, name: &str) -> Result<Self> {
        let primary = self.core.primary.namespace(name).await?;
        let mut spaces = self.core.spaces.lock();
        let space = spaces
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Space::named(&self.core, name, primary)));
        Ok(Self { core: Arc::clone(&self.core), space: Arc::clone(space) })
    }
}

#[async_trait]
impl StorageBackend for CacheBackend {
    /// Those of the primary.
    fn capabilities(&self) -> Capabilities {
        self.space.primary.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let put = async {
            check_key(key)?;
            self.write(key, value, options).await
        };
        put.await.map_err(|error| self.locate(error, key))
    }

    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let put = async {
            check_key(key)?;
            self.write_stream(key, body, options).await
        };
        put.await.map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let read = async {
            check_key(key)?;
            if let Some(range) = &options.range {
                check_range(range)?;
            }
            self.load(key, options).await
        };
        read.await.map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let remove = async {
            check_key(key)?;
            self.erase(key, condition).await
        };
        remove.await.map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head = async {
            check_key(key)?;
            self.load_head(key).await
        };
        head.await.map_err(|error| self.locate(error, key))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.settle_all().await?;
        self.space.primary.list(options).await
    }

    async fn list_keys(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        self.settle_all().await?;
        self.space.primary.list_keys(prefix, limit).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.run_batch(operations).await
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.space.primary.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.prepare_part(part).await
    }

    /// Figures of the primary; [`CacheBackend::cache_stats`] has those of the cache.
    async fn stats(&self) -> Result<StorageStats> {
        self.space.primary.stats().await
    }

    /// How the primary does, with a warning while a tier is off.
    async fn health_check(&self) -> HealthStatus {
        let health = self.space.primary.health_check().await;
        let lost = self.core.write_back.lost.get();
        if health == HealthStatus::Healthy && lost > 0 {
            return HealthStatus::Warning(format!(
                "{lost} queued writes were refused by the primary and are lost: the log names them"
            ));
        }
        if health == HealthStatus::Healthy && self.core.tiers().any(Tier::is_off) {
            return HealthStatus::Warning(
                "a cache tier is off after errors; reads go past it to the next".to_owned(),
            );
        }
        health
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Self::namespace(self, name).await?))
    }

    /// Brings queued writes to the primary, waits for what is on its way into the tiers, saves the log
    /// of hot keys, and makes the primary durable.
    async fn flush(&self) -> Result<()> {
        self.core.drain().await?;
        // Fails only when the semaphore is closed, which it never is.
        let _all = self.core.fills.acquire_many(FILLS_MAX).await;
        self.core.save_hot_keys().await?;
        self.space.primary.flush().await
    }
}

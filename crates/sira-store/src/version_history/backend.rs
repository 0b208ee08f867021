//! The storage trait of a namespace that keeps versions.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::copy::{Held, KeptCopy};
use super::{VersionedBackend, check_key_length, kept_namespace};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::changes::ChangeLog;
use crate::client::draw_apart;
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{self, ATTEMPTS, PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

impl VersionedBackend {
    /// Makes one write with the copy that goes before it, and answers it.
    async fn write_with(
        &self,
        copy: Option<KeptCopy>,
        write: BatchOperation,
    ) -> Result<BatchResult> {
        let Some(copy) = copy.map(KeptCopy::into_operation) else { return self.apply(write).await };
        if !self.one_step {
            let BatchOperation::Put { key, value, options } = copy else { return Ok(NOTHING) };
            self.kept.put(&key, value, options).await?;
            return self.apply(write).await;
        }
        let part = |namespace: &str, operation| TransactionPart {
            namespace: namespace.to_owned(),
            operations: vec![operation],
            listed: Vec::new(),
        };
        let written = part(&self.namespace, write);
        let kept = part(&kept_namespace(&self.namespace)?, copy);
        let parts = vec![(Arc::clone(&self.inner), written), (Arc::clone(&self.kept), kept)];
        let mut results = transaction::commit(parts).await?;
        Ok(results.swap_remove(0).pop().unwrap_or(NOTHING))
    }

    async fn apply(&self, write: BatchOperation) -> Result<BatchResult> {
        match write {
            BatchOperation::Put { key, value, options } => {
                let version = Some(self.inner.put(&key, value, options).await?);
                Ok(BatchResult::Success { version })
            }
            other => {
                self.inner.remove(other.key(), other.condition()).await?;
                Ok(NOTHING)
            }
        }
    }

    /// Makes a write, again while others are faster, and answers it with whether there was an object.
    async fn write(&self, write: BatchOperation) -> Result<(BatchResult, bool)> {
        let key = write.key().to_owned();
        let durability = match &write {
            BatchOperation::Put { options, .. } => options.durability,
            _ => None,
        };
        let mut attempts = 1;
        loop {
            let Held { version, unchanged, copy } = self.held(&key, durability).await?;
            write.condition().require(version)?;
            let mut pinned = write.clone();
            pin(&mut pinned, unchanged);
            match self.write_with(copy, pinned).await {
                Err(StorageError::PreconditionFailed(_)) if attempts < ATTEMPTS => {}
                Err(error @ StorageError::PreconditionFailed(_)) => {
                    return Err(StorageError::conflict(
                        "other writers are faster each time; nothing was written, try again",
                    )
                    .with_source(error));
                }
                done => {
                    let done = done?;
                    self.prune_now_and_then(&key).await;
                    return Ok((done, version.is_some()));
                }
            }
            draw_apart(attempts).await;
            attempts += 1;
        }
    }
}

/// A removal that was made.
const NOTHING: BatchResult = BatchResult::Success { version: None };

/// Makes a write hold only as long as `unchanged` does.
pub(super) fn pin(write: &mut BatchOperation, unchanged: Condition) {
    match write {
        BatchOperation::Put { options, .. } => options.condition = unchanged,
        BatchOperation::Delete { condition, .. } => *condition = unchanged,
        BatchOperation::Get { .. } | BatchOperation::Check { .. } => {}
    }
}

#[async_trait]
impl StorageBackend for VersionedBackend {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        check_key_length(key).map_err(|error| self.locate(error, key))?;
        if options.condition == Condition::IfAbsent {
            return self.inner.put(key, value, options).await;
        }
        let write = BatchOperation::Put { key: key.to_owned(), value, options };
        let written = self.write(write).await.map_err(|error| self.locate(error, key))?;
        match written.0 {
            BatchResult::Success { version: Some(version) } => Ok(version),
            _ => Err(self.locate(StorageError::conflict("the write was not answered"), key)),
        }
    }

    /// A stream is read once: a writer that comes between is an error of kind
    /// [`StorageError::Conflict`].
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        mut options: StorageOptions,
    ) -> Result<Version> {
        check_key_length(key).map_err(|error| self.locate(error, key))?;
        let asked = options.condition;
        if asked != Condition::IfAbsent {
            let held = self.held(key, options.durability).await;
            let held = held.map_err(|error| self.locate(error, key))?;
            asked.require(held.version).map_err(|error| self.locate(error, key))?;
            if let Some(copy) = held.copy {
                self.kept.put(&copy.key, copy.value, copy.options).await?;
            }
            options.condition = held.unchanged;
        }
        let written = self.inner.put_stream(key, body, options).await;
        match written {
            Err(error @ StorageError::PreconditionFailed(_)) if asked == Condition::Always => {
                let error = StorageError::conflict(
                    "another writer was faster while the value was sent; nothing was written, send it \
                     again",
                )
                .with_source(error);
                Err(self.locate(error, key))
            }
            written => {
                let version = written?;
                self.prune_now_and_then(key).await;
                Ok(version)
            }
        }
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let key = key.to_owned();
        let removed = self.write(BatchOperation::Delete { key: key.clone(), condition }).await;
        removed.map(|(_, held)| held).map_err(|error| self.locate(error, &key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.inner.head(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.inner.exists(key).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.run_batch(operations).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.namespace(name).await?;
        let kept = self.kept.namespace(&kept_namespace(name)?).await?;
        Ok(Arc::new(Self::new(name, inner, kept, self.keep, Arc::clone(&self.env))?))
    }

    fn change_log(&self) -> Option<Arc<dyn ChangeLog>> {
        self.inner.change_log()
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.inner.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.prepare_part(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn flush(&self) -> Result<()> {
        self.kept.flush().await?;
        self.inner.flush().await
    }

    async fn maintain(&self) -> Result<u64> {
        self.inner.maintain().await
    }
}

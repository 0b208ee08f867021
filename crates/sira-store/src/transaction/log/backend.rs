//! A namespace with what committed transactions make of it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;

use super::gates::Passage;
use super::record::Write;
use super::{TransactionLog, commit, listing};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::changes::ChangeLog;
use crate::error::{Result, StorageError};
use crate::key::{check_range, check_range_start};
use crate::options::{Condition, StorageOptions};
use crate::transaction::engine::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// A namespace that takes part in transactions over several backends.
#[derive(Debug)]
pub(super) struct LoggedBackend {
    log: TransactionLog,
    namespace: Arc<str>,
    inner: Arc<dyn StorageBackend>,
}

impl LoggedBackend {
    pub(super) fn new(
        log: TransactionLog,
        namespace: Arc<str>,
        inner: Arc<dyn StorageBackend>,
    ) -> Self {
        Self { log, namespace, inner }
    }

    /// Waits until a write to a key is neither amid a commit nor before one that is to be written
    /// through.
    async fn pass(&self, key: &str) -> Result<Passage> {
        let shared = &self.log.shared;
        loop {
            let passage = shared.gates.pass(&self.namespace, key).await;
            if shared.table.are_free([(&*self.namespace, key)]) {
                return Ok(passage);
            }
            drop(passage);
            shared.table.freed([(&*self.namespace, key)]).await?;
        }
    }

    async fn pass_all(&self, operations: &[BatchOperation]) -> Result<Vec<Passage>> {
        let shared = &self.log.shared;
        let keys = || operations.iter().map(|operation| (&*self.namespace, operation.key()));
        loop {
            let passage = shared.gates.pass_all(keys()).await;
            if shared.table.are_free(keys()) {
                return Ok(passage);
            }
            drop(passage);
            shared.table.freed(keys()).await?;
        }
    }

    /// What a committed transaction has made of a key, where its backend may not hold it yet.
    async fn written(&self, key: &str) -> Result<Option<Arc<Write>>> {
        match self.log.shared.table.is_empty() {
            true => Ok(None),
            false => self.log.shared.table.written(&self.namespace, key).await,
        }
    }

    fn object(&self, write: &Write, options: &ReadOptions) -> Result<Option<Object>> {
        let head = write.head(self.log.shared.env.now_ms());
        options.condition.require(head.as_ref().map(|head| head.version))?;
        let (Some(head), Some(put)) = (head, &write.put) else { return Ok(None) };
        let Some(range) = &options.range else {
            let range = 0..head.size;
            return Ok(Some(Object { head, value: put.value.clone(), range }));
        };
        check_range(range)?;
        check_range_start(range.start, head.size)?;
        let range = range.start..range.end.min(head.size);
        // Both are at most the length of a value in memory.
        let value = put.value.slice(range.start as usize..range.end as usize);
        Ok(Some(Object { head, value, range }))
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.namespace).with_key(key)
    }
}

#[async_trait]
impl StorageBackend for LoggedBackend {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let _passage = self.pass(key).await?;
        self.inner.put(key, value, options).await
    }

    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let entry = Arc::new(Entry {
            backend: Self::new(
                self.log.clone(),
                Arc::clone(&self.namespace),
                Arc::clone(&self.inner),
            ),
            key: key.to_owned(),
            passed: Mutex::new(None),
        });
        let body = Gated { body, entry: Arc::clone(&entry), entering: None, ended: false };
        let stored = self.inner.put_stream(key, Box::pin(body), options).await;
        let passed = entry.passed.lock().take();
        match passed {
            Some(Err(error)) if stored.is_err() => Err(error),
            // It was held until here.
            Some(_) | None => stored,
        }
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        match self.written(key).await? {
            None => self.inner.read(key, options).await,
            Some(write) => self.object(&write, &options).map_err(|error| self.locate(error, key)),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        match self.written(key).await? {
            None => self.inner.head(key).await,
            Some(write) => Ok(write.head(self.log.shared.env.now_ms())),
        }
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        match self.written(key).await? {
            None => self.inner.exists(key).await,
            Some(write) => Ok(write.head(self.log.shared.env.now_ms()).is_some()),
        }
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let _passage = self.pass(key).await?;
        self.inner.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        match self.log.shared.table.is_empty() {
            // What is written through meanwhile was committed meanwhile.
            true => self.inner.list(options).await,
            false => listing::page(&self.log.shared, &self.namespace, &*self.inner, &options).await,
        }
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let _passage = self.pass_all(&operations).await?;
        self.inner.batch(operations).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    fn change_log(&self) -> Option<Arc<dyn ChangeLog>> {
        self.inner.change_log()
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(self.log.clone()))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        Ok(PreparedPart::new(part.named(&commit::apart(&self.namespace))))
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn maintain(&self) -> Result<u64> {
        self.inner.maintain().await
    }
}

/// The way in of a write whose bytes are still arriving.
struct Entry {
    backend: LoggedBackend,
    key: String,
    passed: Mutex<Option<Result<Passage>>>,
}

impl Entry {
    /// Goes in, and says whether that was possible.
    async fn pass(self: Arc<Self>) -> bool {
        let passed = self.backend.pass(&self.key).await;
        let can = passed.is_ok();
        *self.passed.lock() = Some(passed);
        can
    }
}

/// Bytes whose end comes only once the write may take effect, so that a slow sender keeps nobody
/// away from the key.
struct Gated {
    body: ByteStream,
    entry: Arc<Entry>,
    entering: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    ended: bool,
}

impl Stream for Gated {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.entering.is_none() {
            match ready!(self.body.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let entry = Arc::clone(&self.entry);
                    self.entering = Some(Box::pin(entry.pass()));
                }
            }
        }
        let Some(entering) = &mut self.entering else { return Poll::Ready(None) };
        let entered = ready!(entering.as_mut().poll(cx));
        self.ended = true;
        Poll::Ready(
            (!entered).then(|| Err(std::io::Error::other("the write cannot take effect now"))),
        )
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").field("key", &self.entry.key).finish_non_exhaustive()
    }
}

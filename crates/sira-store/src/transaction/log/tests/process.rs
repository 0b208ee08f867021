//! A process that dies at one of its calls, over stores that outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::{
    BatchOperation, BatchResult, Capabilities, ListOptions, ListPage, Object, ObjectHead,
    ReadOptions, StorageBackend, run_each,
};
use crate::env::SeededRandom;
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// A process. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Calls until it dies.
    calls_left: Arc<AtomicI64>,
    dead: Arc<AtomicBool>,
    random: Arc<Mutex<SeededRandom>>,
}

impl Process {
    pub(super) fn new(seed: u64, calls: i64) -> Self {
        Self {
            calls_left: Arc::new(AtomicI64::new(calls)),
            dead: Arc::default(),
            random: Arc::new(Mutex::new(SeededRandom::new(seed))),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Makes a call, of which the process may die before or after it has taken effect.
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let random = self.random.lock().next_u64();
        for _ in 0..random % 4 {
            tokio::task::yield_now().await;
        }
        let dies = self.calls_left.fetch_sub(1, Ordering::SeqCst) == 1;
        if self.is_dead() || (dies && random & 16 == 0) {
            self.dead.store(true, Ordering::SeqCst);
            return Err(StorageError::timeout("the process is dead"));
        }
        let answer = call.await;
        if dies {
            self.dead.store(true, Ordering::SeqCst);
            return Err(StorageError::timeout("the process is dead"));
        }
        for _ in 0..random / 4 % 4 {
            tokio::task::yield_now().await;
        }
        answer
    }

    /// A store as the process uses it.
    pub(super) fn uses(
        &self,
        inner: Arc<dyn StorageBackend>,
        whole_batches: bool,
    ) -> Arc<dyn StorageBackend> {
        Arc::new(Used { process: self.clone(), inner, whole_batches })
    }
}

#[derive(Debug)]
struct Used {
    process: Process,
    inner: Arc<dyn StorageBackend>,
    /// Whether it shows what it has of transactions.
    whole_batches: bool,
}

#[async_trait]
impl StorageBackend for Used {
    fn capabilities(&self) -> Capabilities {
        let atomic_batch = self.whole_batches;
        Capabilities { atomic_batch, ..self.inner.capabilities() }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.process.call(self.inner.put(key, value, options)).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.process.call(self.inner.read(key, options)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.process.call(self.inner.head(key)).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.process.call(self.inner.remove(key, condition)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.process.call(self.inner.list(options)).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        match self.whole_batches {
            true => self.process.call(self.inner.batch(operations)).await,
            false => Ok(run_each(self, operations).await),
        }
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(self.process.uses(self.inner.namespace(name).await?, self.whole_batches))
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        let engine = self.inner.transaction_engine().filter(|_| self.whole_batches)?;
        Some(Arc::new(UsedEngine { process: self.process.clone(), engine }))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.inner.prepare(part).await
    }
}

#[derive(Debug)]
struct UsedEngine {
    process: Process,
    engine: Arc<dyn TransactionEngine>,
}

#[async_trait]
impl TransactionEngine for UsedEngine {
    fn identity(&self) -> usize {
        self.engine.identity()
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        self.process.call(self.engine.commit(parts)).await
    }
}

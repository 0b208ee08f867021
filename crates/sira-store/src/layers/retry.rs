//! Retries, within a budget, that find out what a failed write did before they repeat it.

mod attempts;
mod remove;
mod stream;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::budget::{Budget, BudgetOptions};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, Retry, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::{HybridClock, Version};
use attempts::Attempts;

/// How often and how soon operations are tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryOptions {
    /// Most attempts of one operation, the first included.
    pub attempts: u32,
    /// Longest pause before the second attempt. Each later one may be twice as long; every pause is
    /// drawn at random from zero up, so that clients do not come back together.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// How many retries there may be in all.
    pub budget: BudgetOptions,
    /// Unconditional writes carry a version of their own as well, so that one whose answer was lost
    /// is found instead of repeated: it never overwrites what another writer wrote since. Costs
    /// engines that write blindly a look at what the key holds.
    pub identify_all: bool,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
            budget: BudgetOptions { ratio: 0.1, per_second: 1.0, burst: 100 },
            identify_all: false,
        }
    }
}

/// What a [`RetryLayer`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryCounters {
    /// Attempts after a first one.
    pub retried: u64,
    /// Retries that the budget refused.
    pub over_budget: u64,
    /// Writes without an answer that were found to have taken effect.
    pub found: u64,
    /// Writes without an answer whose effect stayed unknown.
    pub unknown: u64,
}

/// What all namespaces of a [`RetryLayer`] share.
#[derive(Debug)]
pub struct Retries {
    options: RetryOptions,
    env: Arc<dyn Env>,
    clock: HybridClock,
    budget: Budget,
    retried: AtomicU64,
    over_budget: AtomicU64,
    found: AtomicU64,
    unknown: AtomicU64,
}

impl Retries {
    fn new(options: RetryOptions, env: Arc<dyn Env>) -> Self {
        Self {
            budget: Budget::new(options.budget, Arc::clone(&env)),
            options,
            env,
            clock: HybridClock::default(),
            retried: AtomicU64::new(0),
            over_budget: AtomicU64::new(0),
            found: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> RetryCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RetryCounters {
            retried: load(&self.retried),
            over_budget: load(&self.over_budget),
            found: load(&self.found),
            unknown: load(&self.unknown),
        }
    }

    /// A version for a write over what the key holds, as far as that is known.
    fn draw_version(&self, held: Option<Version>) -> Version {
        let (now_ms, random) = (self.env.now_ms(), self.env.random_u64());
        match held {
            Some(held) => self.clock.next_after(held, now_ms, random),
            None => self.clock.next_spread(now_ms, random),
        }
    }

    /// The error of a write whose effect stays unknown.
    fn unknown(&self, cause: StorageError) -> StorageError {
        self.unknown.fetch_add(1, Ordering::Relaxed);
        cause.with_retry(Retry::Ambiguous)
    }
}

/// A backend whose operations are tried again.
///
/// Tried again is what failed with [`Retry::Temporary`], but for [`StorageError::OutOfSpace`], which
/// no pause of this length mends; and reads also after [`Retry::Ambiguous`]. The budget bounds all
/// retries together: without it, clients of an engine that is down multiply its load.
///
/// **Writes whose answer was lost** are resolved, not hoped for. Where the backend stores exact
/// versions, the layer draws the version of a conditional write itself. After an ambiguous error it
/// reads what the key holds. Versions of a key only grow, so:
/// - Our version is there, with our bytes: the write took effect, and that is the answer. With other
///   bytes, another process drew the same version and came first; the write is made with a new one.
///   Streams that were too long to be held are told by their version alone.
/// - An older one: the write did not take effect. It is tried again with the same version, or refused
///   with [`StorageError::PreconditionFailed`] where its condition does not hold.
/// - A newer one: another writer came after us, or instead of us. The error stays, ambiguous.
/// - Nothing: the write is tried again if its condition allows an empty key; else the error stays.
///
/// Where the backend has no exact versions, ambiguous errors of conditional writes stay.
/// Unconditional writes are repeated, see [`RetryOptions::identify_all`].
///
/// **Removals** read back too. An object from before the call is removed again under the condition
/// that it is still that object; a newer one leaves the error. Nothing there after an unconditional
/// removal answers `true`: it is most likely our doing, but another remover may have been told the
/// same; where that matters, remove with [`Condition::IfMatch`], which leaves the error instead.
///
/// **Batches** are repeated only when nothing of them can have happened, or when all their writes are
/// unconditional puts.
///
/// What no client can rule out without the engine's help: an attempt that was given up and is still
/// on its way may arrive after its object was removed by another writer, and create it anew.
#[derive(Debug)]
pub struct RetryLayer {
    inner: Arc<dyn StorageBackend>,
    retries: Arc<Retries>,
}

impl RetryLayer {
    /// `inner` with retries.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>, options: RetryOptions) -> Self {
        Self::with_env(inner, options, Arc::new(SystemEnv))
    }

    /// As [`RetryLayer::new`], with the clock and the random numbers of `env`.
    #[must_use]
    pub fn with_env(
        inner: Arc<dyn StorageBackend>,
        options: RetryOptions,
        env: Arc<dyn Env>,
    ) -> Self {
        Self { inner, retries: Arc::new(Retries::new(options, env)) }
    }

    /// What its namespaces share.
    #[must_use]
    pub fn retries(&self) -> &Arc<Retries> {
        &self.retries
    }

    /// Repeats what changes nothing.
    async fn repeat<T, F>(&self, mut attempt: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut attempts = Attempts::begin(&self.retries);
        loop {
            match attempt().await {
                Err(error) if helps_a_read(&error) && attempts.again().await => {}
                result => return result,
            }
        }
    }

    /// What a key holds, in the course of another operation.
    async fn look(&self, key: &str, attempts: &mut Attempts<'_>) -> Result<Option<ObjectHead>> {
        loop {
            match self.inner.head(key).await {
                Ok(head) => {
                    if let Some(head) = &head {
                        self.retries.clock.observe(head.version);
                    }
                    return Ok(head);
                }
                Err(error) if helps_a_read(&error) && attempts.again().await => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether an operation that had no effect may be tried again soon.
fn helps(error: &StorageError) -> bool {
    error.retry() == Retry::Temporary && !matches!(error, StorageError::OutOfSpace(_))
}

fn helps_a_read(error: &StorageError) -> bool {
    helps(error) || error.retry() == Retry::Ambiguous
}

/// Whether a batch may be sent again after it failed as a whole or in each of its writes.
fn repeats(operations: &[BatchOperation], result: &Result<Vec<BatchResult>>) -> bool {
    // What a check was told may be undone by the writes beside it, if they were made.
    let writes = operations.iter().any(BatchOperation::is_write);
    let harmless = operations.iter().all(|operation| match operation {
        BatchOperation::Put { options, .. } => {
            options.condition == Condition::Always && options.version.is_none()
        }
        BatchOperation::Get { .. } => true,
        BatchOperation::Check { .. } => !writes,
        BatchOperation::Delete { .. } => false,
    });
    let may =
        |error: &StorageError| helps(error) || (harmless && error.retry() == Retry::Ambiguous);
    match result {
        Err(error) => may(error),
        Ok(results) => {
            let mut changes = operations.iter().zip(results);
            let failed = |result: &BatchResult| match result {
                BatchResult::Error(error) => may(error),
                _ => false,
            };
            operations.iter().any(BatchOperation::decides)
                && changes.all(|(operation, result)| !operation.decides() || failed(result))
        }
    }
}

#[async_trait]
impl StorageBackend for RetryLayer {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.write(key, value, options).await
    }

    /// Streams that end within [`crate::limits::STREAM_MEMORY_BYTES`] are collected and written as a
    /// value that is there, with its retries. Larger ones cannot be sent again: they are repeated
    /// only while nothing of the rest was taken, and resolved like other writes.
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        self.write_stream(key, body, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let object = self.repeat(|| self.inner.read(key, options.clone())).await?;
        if let Some(object) = &object {
            self.retries.clock.observe(object.head.version);
        }
        Ok(object)
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.erase(key, condition).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.repeat(|| self.inner.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head = self.repeat(|| self.inner.head(key)).await?;
        if let Some(head) = &head {
            self.retries.clock.observe(head.version);
        }
        Ok(head)
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.repeat(|| self.inner.exists(key)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.repeat(|| self.inner.list(options.clone())).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let mut attempts = Attempts::begin(&self.retries);
        let mut may_have_happened = false;
        loop {
            let result = self.inner.batch(operations.clone()).await;
            if repeats(&operations, &result) {
                may_have_happened |=
                    result.as_ref().is_err_and(|error| error.retry() == Retry::Ambiguous);
                if attempts.again().await {
                    continue;
                }
            }
            return match result {
                Err(error) if may_have_happened => Err(self.retries.unknown(error)),
                result => result,
            };
        }
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.inner.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.inner.prepare(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.repeat(|| self.inner.stats()).await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.repeat(|| self.inner.namespace(name)).await?;
        Ok(Arc::new(Self { inner, retries: Arc::clone(&self.retries) }))
    }

    async fn plain(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.repeat(|| self.inner.plain(name)).await?;
        Ok(Arc::new(Self { inner, retries: Arc::clone(&self.retries) }))
    }

    async fn flush(&self) -> Result<()> {
        self.repeat(|| self.inner.flush()).await
    }

    async fn maintain(&self) -> Result<u64> {
        self.inner.maintain().await
    }
}

#[cfg(test)]
mod tests;

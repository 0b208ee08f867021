//! A second request for reads that take long.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::budget::{Budget, BudgetOptions};
use super::metrics::histogram::Rolling;
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// Reads that must have been seen before the delay follows them.
const SAMPLES_MIN: u64 = 50;

/// Time for which a delay that was worked out holds.
const DELAY_HOLDS: Duration = Duration::from_secs(1);

/// When a second request is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeOptions {
    /// The delay follows this quantile of the reads of the last minute, from 0 to 1.
    pub quantile: f64,
    /// Delay until enough reads have been seen.
    pub delay_initial: Duration,
    /// Shortest delay.
    pub delay_min: Duration,
    /// Longest delay.
    pub delay_max: Duration,
    /// How many second requests there may be in all.
    pub budget: BudgetOptions,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self {
            quantile: 0.95,
            delay_initial: Duration::from_millis(50),
            delay_min: Duration::from_millis(2),
            delay_max: Duration::from_secs(1),
            budget: BudgetOptions { ratio: 0.05, per_second: 0.0, burst: 10 },
        }
    }
}

/// What a [`HedgeLayer`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HedgeCounters {
    /// Second requests sent.
    pub sent: u64,
    /// Those that answered first.
    pub won: u64,
    /// Second requests that the budget refused.
    pub over_budget: u64,
}

/// What all namespaces of a [`HedgeLayer`] share.
#[derive(Debug)]
pub struct Hedges {
    options: HedgeOptions,
    env: Arc<dyn Env>,
    budget: Budget,
    reads: Pace,
    heads: Pace,
    sent: AtomicU64,
    won: AtomicU64,
    over_budget: AtomicU64,
}

/// How long requests of one kind take.
#[derive(Debug, Default)]
struct Pace {
    latency: Rolling,
    /// Delay in nanoseconds; 0 before it was worked out.
    delay_ns: AtomicU64,
    /// Monotonic nanoseconds from which it is to be worked out again.
    until_ns: AtomicU64,
}

impl Hedges {
    fn new(options: HedgeOptions, env: Arc<dyn Env>) -> Self {
        Self {
            budget: Budget::new(options.budget, Arc::clone(&env)),
            options,
            env,
            reads: Pace::default(),
            heads: Pace::default(),
            sent: AtomicU64::new(0),
            won: AtomicU64::new(0),
            over_budget: AtomicU64::new(0),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> HedgeCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HedgeCounters {
            sent: load(&self.sent),
            won: load(&self.won),
            over_budget: load(&self.over_budget),
        }
    }

    /// How long to wait for the first request before the second is sent.
    fn delay(&self, pace: &Pace, now: Duration) -> Duration {
        let now_ns = nanos(now);
        let until_ns = pace.until_ns.load(Ordering::Relaxed);
        let next_ns = now_ns.saturating_add(nanos(DELAY_HOLDS));
        // One of those who come at that time works it out.
        let is_ours = now_ns >= until_ns
            && pace
                .until_ns
                .compare_exchange(until_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            let recent = pace.latency.recent(now);
            let delay = match recent.count() {
                0..SAMPLES_MIN => self.options.delay_initial,
                _ => recent.quantile(self.options.quantile),
            };
            let bounded = delay.min(self.options.delay_max).max(self.options.delay_min);
            pace.delay_ns.store(nanos(bounded), Ordering::Relaxed);
        }
        match pace.delay_ns.load(Ordering::Relaxed) {
            0 => self.options.delay_initial,
            delay => Duration::from_nanos(delay),
        }
    }

    /// Sends a request, and a second one if the first takes long.
    async fn run<T, A, B>(&self, pace: &Pace, first: A, second: impl FnOnce() -> B) -> Result<T>
    where
        A: Future<Output = Result<T>> + Send,
        B: Future<Output = Result<T>> + Send,
    {
        self.budget.deposit();
        let begun = self.env.monotonic();
        let mut first = pin!(first);
        let at_once = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
        let result = match at_once {
            Poll::Ready(result) => result,
            Poll::Pending if Handle::try_current().is_err() => first.await,
            Poll::Pending => self.wait(self.delay(pace, begun), first, second).await,
        };
        let now = self.env.monotonic();
        if result.is_ok() {
            pace.latency.record(now, now.saturating_sub(begun));
        }
        result
    }

    async fn wait<T, A, B>(
        &self,
        delay: Duration,
        mut first: Pin<&mut A>,
        second: impl FnOnce() -> B,
    ) -> Result<T>
    where
        A: Future<Output = Result<T>> + Send,
        B: Future<Output = Result<T>> + Send,
    {
        tokio::select! {
            biased;
            result = first.as_mut() => return result,
            () = sleep(delay) => {}
        }
        if !self.budget.withdraw() {
            self.over_budget.fetch_add(1, Ordering::Relaxed);
            return first.await;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut second = pin!(second());
        tokio::select! {
            biased;
            result = first.as_mut() => match result {
                Err(error) if !is_answer(&error) => match second.await {
                    Ok(answer) => {
                        self.won.fetch_add(1, Ordering::Relaxed);
                        Ok(answer)
                    }
                    Err(_) => Err(error),
                },
                result => result,
            },
            result = second.as_mut() => match result {
                Ok(answer) => {
                    self.won.fetch_add(1, Ordering::Relaxed);
                    Ok(answer)
                }
                Err(_) => first.await,
            },
        }
    }
}

/// Whether an error is what an engine that works says of the request.
fn is_answer(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::PreconditionFailed(_)
            | StorageError::InvalidInput(_)
            | StorageError::TooLarge(_)
            | StorageError::Unsupported(_)
            | StorageError::PermissionDenied(_)
    )
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A backend whose reads get a second request when the first takes longer than most do.
///
/// The first success is the answer, and the other request is dropped. An error of one does not end
/// the other, but for errors of the first that are answers, such as a condition that does not hold.
/// The budget bounds second requests to a share of all reads: an engine that is slow as a whole is
/// not asked twice for everything.
#[derive(Debug)]
pub struct HedgeLayer {
    inner: Arc<dyn StorageBackend>,
    other: Arc<dyn StorageBackend>,
    hedges: Arc<Hedges>,
}

impl HedgeLayer {
    /// `inner`, which gets both requests.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>, options: HedgeOptions) -> Self {
        let other = Arc::clone(&inner);
        Self::with_env(inner, other, options, Arc::new(SystemEnv))
    }

    /// `inner` for first requests and `other` for second ones, with the clock of `env`. What `other`
    /// answers is believed: it must hold what `inner` holds, as late as readers can bear.
    #[must_use]
    pub fn with_env(
        inner: Arc<dyn StorageBackend>,
        other: Arc<dyn StorageBackend>,
        options: HedgeOptions,
        env: Arc<dyn Env>,
    ) -> Self {
        Self { inner, other, hedges: Arc::new(Hedges::new(options, env)) }
    }

    /// What its namespaces share.
    #[must_use]
    pub fn hedges(&self) -> &Arc<Hedges> {
        &self.hedges
    }
}

#[async_trait]
impl StorageBackend for HedgeLayer {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.inner.put(key, value, options).await
    }

    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        self.inner.put_stream(key, body, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let first = self.inner.read(key, options.clone());
        self.hedges.run(&self.hedges.reads, first, || self.other.read(key, options)).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.hedges.run(&self.hedges.reads, self.inner.get(key), || self.other.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.hedges.run(&self.hedges.heads, self.inner.head(key), || self.other.head(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.hedges.run(&self.hedges.heads, self.inner.exists(key), || self.other.exists(key)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.inner.batch(operations).await
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.inner.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.inner.prepare(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.namespace(name).await?;
        let other = if Arc::ptr_eq(&self.inner, &self.other) {
            Arc::clone(&inner)
        } else {
            self.other.namespace(name).await?
        };
        Ok(Arc::new(Self { inner, other, hedges: Arc::clone(&self.hedges) }))
    }

    async fn plain(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.plain(name).await?;
        let other = if Arc::ptr_eq(&self.inner, &self.other) {
            Arc::clone(&inner)
        } else {
            self.other.plain(name).await?
        };
        Ok(Arc::new(Self { inner, other, hedges: Arc::clone(&self.hedges) }))
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn maintain(&self) -> Result<u64> {
        self.inner.maintain().await
    }
}

#[cfg(test)]
mod tests;

//! Limits of how much is asked of an engine at a time and in a time.

mod rate;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::around::{Answer, Around, Layered, Operation};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use rate::Rate;

/// How much may be asked of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitOptions {
    /// Most operations under way at a time.
    pub concurrent: usize,
    /// Most operations that wait for their turn; those that come on top are refused at once.
    pub queue: usize,
    /// Longest time that an operation waits, for its turn and for the rates together.
    pub wait_max: Duration,
    /// Operations a second; as many of one second may come at once.
    pub operations_per_second: Option<f64>,
    /// Bytes of values a second, written and read. What a read brings is known only afterwards:
    /// whoever comes next waits for it.
    pub bytes_per_second: Option<f64>,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            concurrent: 256,
            queue: 4096,
            wait_max: Duration::from_secs(1),
            operations_per_second: None,
            bytes_per_second: None,
        }
    }
}

/// Why an operation was shed: the source of its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shed {
    /// Too many operations wait already.
    #[error("the queue is full")]
    QueueFull,
    /// The operation waited for its turn as long as it may.
    #[error("too many operations are under way")]
    Concurrency,
    /// The rate allows no more for longer than the operation may wait.
    #[error("the rate is exceeded")]
    Rate,
}

/// Holds operations back. Those that wait come first in, first out; those that would wait for too
/// long, or in too long a queue, end with [`StorageError::Unavailable`], temporary, with [`Shed`] as
/// its source: nothing of them was sent.
pub struct Limiter {
    options: LimitOptions,
    permits: Semaphore,
    waiting: AtomicUsize,
    operations: Option<Rate>,
    bytes: Option<Rate>,
    env: Arc<dyn Env>,
    shed: AtomicU64,
}

/// A backend with limits.
pub type LimitLayer = Layered<Limiter>;

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("options", &self.options)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Limiter {
    /// These limits.
    #[must_use]
    pub fn new(options: LimitOptions) -> Self {
        Self::with_env(options, Arc::new(SystemEnv))
    }

    /// As [`Limiter::new`], with the clock of `env`.
    #[must_use]
    pub fn with_env(options: LimitOptions, env: Arc<dyn Env>) -> Self {
        let now = env.monotonic();
        Self {
            permits: Semaphore::new(options.concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            operations: options.operations_per_second.map(|rate| Rate::new(rate, now)),
            bytes: options.bytes_per_second.map(|rate| Rate::new(rate, now)),
            shed: AtomicU64::new(0),
            options,
            env,
        }
    }

    /// Operations that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Operations that were shed.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    async fn turn(&self, operation: &Operation<'_>) -> Result<SemaphorePermit<'_>, Shed> {
        let begun = self.env.monotonic();
        let permit = self.permit().await?;
        // What is waited for the rates keeps the turn: those behind have to wait as well.
        let left = self.options.wait_max.saturating_sub(self.env.monotonic().saturating_sub(begun));
        let now = self.env.monotonic();
        let mut wait = Duration::ZERO;
        if let Some(rate) = &self.operations {
            wait = rate.take(1.0, now, left).ok_or(Shed::Rate)?;
        }
        if let Some(rate) = &self.bytes {
            let bytes = operation.value_bytes as f64;
            match rate.take(bytes, now, left) {
                Some(more) => wait = wait.max(more),
                None => {
                    if let Some(rate) = &self.operations {
                        rate.give_back(1.0);
                    }
                    return Err(Shed::Rate);
                }
            }
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(permit)
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Shed> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= self.options.queue {
            return Err(Shed::QueueFull);
        }
        let mut acquired = pin!(self.permits.acquire());
        let first = poll_fn(|cx| Poll::Ready(acquired.as_mut().poll(cx))).await;
        let acquired = match first {
            Poll::Ready(acquired) => acquired,
            Poll::Pending if Handle::try_current().is_err() => acquired.await,
            Poll::Pending => {
                timeout(self.options.wait_max, acquired).await.map_err(|_| Shed::Concurrency)?
            }
        };
        // The semaphore is never closed.
        acquired.map_err(|_| Shed::Concurrency)
    }
}

/// An operation in the queue.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self { before: count.fetch_add(1, Ordering::Relaxed), count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Around for Limiter {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let permit = self.turn(operation).await.map_err(|shed| {
            self.shed.fetch_add(1, Ordering::Relaxed);
            StorageError::unavailable(format!(
                "{} is asked for more than its limits allow ({shed}); try again later",
                operation.backend.capabilities().name
            ))
            .with_source(shed)
        })?;
        let result = call.await;
        drop(permit);
        if let Some(rate) = &self.bytes {
            let brought = result.as_ref().map_or(0, Answer::value_bytes);
            let streamed = operation.body.map_or(0, super::BodyProgress::bytes);
            rate.owe((brought + streamed) as f64, self.env.monotonic());
        }
        result
    }
}

#[cfg(test)]
mod tests;

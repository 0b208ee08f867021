//! Locks by key, and operations that go on after their caller has left.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::error::{Result, StorageError};

/// Locks; keys share them.
const STRIPES: usize = 1024;

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const ABANDONED: u8 = 2;

/// Locks by key. Writers of a key take turns within this process, and whoever comes to a key after
/// the future of a write to it was dropped waits until that write has ended: it never takes effect
/// behind an operation that began later.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    stripes: Vec<Stripe>,
    hasher: std::hash::BuildHasherDefault<StableHasher>,
}

#[derive(Debug, Default)]
struct Stripe {
    lock: Mutex<()>,
    /// Writes whose callers have left and that have not ended.
    abandoned: AtomicUsize,
    /// Told when none is left of those.
    settled: Notify,
}

impl KeyLocks {
    pub(crate) fn new() -> Self {
        let stripes = std::iter::repeat_with(Stripe::default).take(STRIPES).collect();
        Self { stripes, hasher: std::hash::BuildHasherDefault::default() }
    }

    fn stripe(&self, namespace: &str, key: &str) -> usize {
        (self.hasher.hash_one((namespace, key)) % STRIPES as u64) as usize
    }

    /// Takes the lock of a key, which other keys share.
    pub(crate) async fn lock(&self, namespace: &str, key: &str) -> Option<MutexGuard<'_, ()>> {
        let stripe = self.stripes.get(self.stripe(namespace, key))?;
        Some(stripe.lock.lock().await)
    }

    /// Waits for the writes to a key whose callers have left.
    pub(super) async fn settle(&self, namespace: &str, key: &str) {
        self.settle_stripe(self.stripe(namespace, key)).await;
    }

    async fn settle_stripe(&self, stripe: usize) {
        let Some(stripe) = self.stripes.get(stripe) else { return };
        while stripe.abandoned.load(Ordering::Acquire) > 0 {
            let mut settled = pin!(stripe.settled.notified());
            // What ends from here on is heard of.
            settled.as_mut().enable();
            if stripe.abandoned.load(Ordering::Acquire) > 0 {
                settled.await;
            }
        }
    }
}

/// Runs a write to some keys as a task of its own, under their locks, so that it ends whole when the
/// caller leaves.
///
/// # Errors
/// [`StorageError::Unavailable`] outside of a tokio runtime and when the runtime shuts down, and
/// those of the write.
pub(super) async fn run_locked<T, F>(
    locks: &Arc<KeyLocks>,
    namespace: &str,
    keys: impl IntoIterator<Item = &str>,
    write: F,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = runtime()?;
    // In ascending order, so that writers of several keys do not stop each other.
    let stripes: BTreeSet<usize> =
        keys.into_iter().map(|key| locks.stripe(namespace, key)).collect();
    let stripes: Arc<[usize]> = stripes.into_iter().collect();
    for stripe in stripes.iter() {
        locks.settle_stripe(*stripe).await;
    }
    let state = Arc::new(AtomicU8::new(RUNNING));
    let presence = Presence {
        locks: Arc::clone(locks),
        stripes: Arc::clone(&stripes),
        state: Arc::clone(&state),
    };
    let task_locks = Arc::clone(locks);
    let task = runtime.spawn(async move {
        let _end = End { locks: Arc::clone(&task_locks), stripes: Arc::clone(&stripes), state };
        let mut held = Vec::with_capacity(stripes.len());
        for stripe in stripes.iter().filter_map(|stripe| task_locks.stripes.get(*stripe)) {
            held.push(stripe.lock.lock().await);
        }
        write.await
    });
    let result = task.await;
    drop(presence);
    result.unwrap_or_else(|error| {
        Err(StorageError::unavailable("the write was stopped before it ended")
            .with_retry(crate::error::Retry::Ambiguous)
            .with_source(error))
    })
}

/// Runs a write to a key, beside others to the same key, so that it ends whole when the caller
/// leaves: it runs where it is called, and becomes a task of its own only then. Nothing that others
/// wait for is held meanwhile, since a caller may be slow to poll.
///
/// # Errors
/// [`StorageError::Unavailable`] outside of a tokio runtime, and those of the write.
pub(super) async fn run_beside<T, F>(
    locks: &Arc<KeyLocks>,
    namespace: &str,
    key: &str,
    write: F,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = runtime()?;
    let stripe = locks.stripe(namespace, key);
    locks.settle_stripe(stripe).await;
    let mut write = Attended { write: Some(Box::pin(write)), locks, stripe, runtime };
    poll_fn(|cx| write.poll(cx)).await
}

fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        StorageError::unavailable("outside engines are used from a tokio runtime")
            .with_source(error)
    })
}

/// A write that runs where its caller is.
struct Attended<'a, T: Send + 'static> {
    /// Until it has ended.
    write: Option<Pin<Box<dyn Future<Output = Result<T>> + Send>>>,
    locks: &'a Arc<KeyLocks>,
    stripe: usize,
    runtime: Handle,
}

impl<T: Send + 'static> Attended<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(write) = &mut self.write else { return Poll::Pending };
        let result = write.as_mut().poll(cx);
        if result.is_ready() {
            self.write = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for Attended<'_, T> {
    fn drop(&mut self) {
        let Some(write) = self.write.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let stripes: Arc<[usize]> = [self.stripe].into();
        count(self.locks, &stripes, 1);
        let state = Arc::new(AtomicU8::new(ABANDONED));
        let end = End { locks: Arc::clone(self.locks), stripes, state };
        drop(self.runtime.spawn(async move {
            let _end = end;
            drop(write.await);
        }));
    }
}

/// The caller of a write, while it is there.
struct Presence {
    locks: Arc<KeyLocks>,
    stripes: Arc<[usize]>,
    state: Arc<AtomicU8>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == DONE {
            return;
        }
        // Counted before it is said, so that the end of the write never takes away what is not
        // there yet.
        count(&self.locks, &self.stripes, 1);
        let said =
            self.state.compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
        if said.is_err() {
            count(&self.locks, &self.stripes, -1);
        }
    }
}

/// The end of a write, also by a panic or a runtime that shuts down.
struct End {
    locks: Arc<KeyLocks>,
    stripes: Arc<[usize]>,
    state: Arc<AtomicU8>,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.state.swap(DONE, Ordering::AcqRel) == ABANDONED {
            count(&self.locks, &self.stripes, -1);
        }
    }
}

fn count(locks: &KeyLocks, stripes: &[usize], by: isize) {
    for stripe in stripes.iter().filter_map(|stripe| locks.stripes.get(*stripe)) {
        let before = stripe.abandoned.fetch_add(by as usize, Ordering::AcqRel);
        if before.wrapping_add_signed(by) == 0 {
            stripe.settled.notify_waiters();
        }
    }
}

/// FNV-1a: the same in every process, and quick on short keys.
#[derive(Debug)]
struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        // The low bits of FNV mix worst.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests;

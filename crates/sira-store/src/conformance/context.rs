//! What cases work with: a backend, keys of their own, and checks that say what was seen.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;

use super::ConformanceOptions;
use super::suite::Verdict;
use crate::backend::{
    BatchOperation, BatchResult, Object, ObjectHead, ReadOptions, StorageBackend,
};
use crate::error::{Result as StorageResult, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// A value, or the text of why the case failed.
pub(super) type Outcome<T> = Result<T, String>;

/// Fails the case unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// What one case works with.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) backend: Arc<dyn StorageBackend>,
    pub(super) options: Arc<ConformanceOptions>,
    /// In every key of the case.
    pub(super) tag: String,
    touched: Arc<Mutex<BTreeSet<String>>>,
}

impl Context {
    pub(super) fn new(
        backend: Arc<dyn StorageBackend>,
        options: Arc<ConformanceOptions>,
        run: &str,
        case: &str,
    ) -> Self {
        Self { backend, options, tag: format!("{run}/{case}/"), touched: Arc::default() }
    }

    /// The same case on another view of the store.
    pub(super) fn on(&self, backend: Arc<dyn StorageBackend>) -> Self {
        Self { backend, touched: Arc::default(), ..self.clone() }
    }

    /// The same case through the store's handle for a racer of this number.
    pub(super) fn racer(&self, number: usize) -> Self {
        let peers = &self.options.peers;
        match number.checked_rem(peers.len() + 1).and_then(|at| peers.get(at)) {
            Some(peer) => Self { backend: Arc::clone(peer), ..self.clone() },
            None => self.clone(),
        }
    }

    /// A key of this case alone.
    pub(super) fn key(&self, name: impl Display) -> String {
        self.own(format!("{}{name}", self.tag))
    }

    /// A key to remove at the end.
    pub(super) fn own(&self, key: String) -> String {
        self.touched.lock().insert(key.clone());
        key
    }

    /// Removes the case's keys.
    pub(super) async fn clean(self) -> Verdict {
        let touched = std::mem::take(&mut *self.touched.lock());
        for key in touched {
            let _ = self.backend.delete(&key).await;
        }
        Ok(())
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.options.env.now_ms()
    }

    /// Waits until this process' clock has passed `at_ms`, the allowed skew included.
    pub(super) async fn wait_until(&self, at_ms: u64) {
        while self.now_ms() <= at_ms.saturating_add(self.skew_ms()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn skew_ms(&self) -> u64 {
        u64::try_from(self.options.clock_skew.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) async fn put(&self, key: &str, value: impl Into<Bytes>) -> Outcome<Version> {
        self.put_with(key, value, StorageOptions::default()).await
    }

    pub(super) async fn put_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        options: StorageOptions,
    ) -> Outcome<Version> {
        works("put", key, self.backend.put(key, value.into(), options).await)
    }

    pub(super) async fn put_if(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        condition: Condition,
    ) -> StorageResult<Version> {
        let options = StorageOptions { condition, ..StorageOptions::default() };
        self.backend.put(key, value.into(), options).await
    }

    pub(super) async fn read(&self, key: &str) -> Outcome<Option<Object>> {
        works("read", key, self.backend.read(key, ReadOptions::default()).await)
    }

    /// The object under a key that must hold one.
    pub(super) async fn object(&self, key: &str) -> Outcome<Object> {
        self.read(key).await?.ok_or_else(|| format!("{key:?}: expected an object, saw none"))
    }

    pub(super) async fn head(&self, key: &str) -> Outcome<Option<ObjectHead>> {
        works("head", key, self.backend.head(key).await)
    }

    pub(super) async fn delete(&self, key: &str) -> Outcome<bool> {
        works("delete", key, self.backend.delete(key).await)
    }

    pub(super) async fn batch(&self, operations: Vec<BatchOperation>) -> Outcome<Vec<BatchResult>> {
        let count = operations.len();
        let results = works("batch", "", self.backend.batch(operations).await)?;
        same("answers of a batch", &results.len(), &count)?;
        Ok(results)
    }

    /// Checks by every way of reading that the key holds `value`, and answers what it holds.
    pub(super) async fn holds(&self, key: &str, value: &[u8]) -> Outcome<Object> {
        let object = self.object(key).await?;
        same_bytes(key, &object.value, value)?;
        let size = value.len() as u64;
        same("size of the object", &object.head.size, &size)?;
        same("range of a whole read", &object.range, &(0..size))?;
        same("head against read", &self.head(key).await?.as_ref(), &Some(&object.head))?;
        let exists = works("exists", key, self.backend.exists(key).await)?;
        same(&format!("exists of {key:?}"), &exists, &true)?;
        match works("get", key, self.backend.get(key).await)? {
            Some(bytes) => same_bytes(key, &bytes, value)?,
            None => return Err(format!("get of {key:?}: expected bytes, saw none")),
        }
        Ok(object)
    }

    /// Checks by every way of reading that the key holds nothing.
    pub(super) async fn absent(&self, key: &str) -> Verdict {
        let read = self.read(key).await?.map(|object| object.head);
        same(&format!("read of {key:?}"), &read, &None)?;
        same(&format!("head of {key:?}"), &self.head(key).await?, &None)?;
        let exists = works("exists", key, self.backend.exists(key).await)?;
        same(&format!("exists of {key:?}"), &exists, &false)?;
        let get = works("get", key, self.backend.get(key).await)?;
        same(&format!("get of {key:?}"), &get.map(|bytes| bytes.len()), &None)
    }
}

/// The result of an operation that must work.
pub(super) fn works<T>(what: &str, key: &str, result: StorageResult<T>) -> Outcome<T> {
    result.map_err(|error| {
        format!("{what} of {key:?}: expected success, saw {}: {error}", error.code())
    })
}

/// Checks that an operation is refused with one of the kinds, named by their codes.
pub(super) fn fails<T: Debug>(what: &str, result: StorageResult<T>, codes: &[&str]) -> Verdict {
    let expected = codes.join(" or ");
    match result {
        Err(error) if codes.contains(&error.code()) => Ok(()),
        Err(error) => Err(format!("{what}: expected {expected}, saw {}: {error}", error.code())),
        Ok(value) => {
            let seen: String = format!("{value:?}").chars().take(200).collect();
            Err(format!("{what}: expected {expected}, saw success: {seen}"))
        }
    }
}

/// Checks that two things are the same.
pub(super) fn same<T: PartialEq + Debug>(what: &str, seen: &T, expected: &T) -> Verdict {
    if seen == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, saw {seen:?}"))
}

/// Checks that two values are the same, without printing them.
pub(super) fn same_bytes(what: &str, seen: &[u8], expected: &[u8]) -> Verdict {
    if seen == expected {
        return Ok(());
    }
    let at = seen.iter().zip(expected).take_while(|(a, b)| a == b).count();
    Err(format!(
        "{what:?}: expected {} bytes, saw {} that differ from byte {at} on",
        expected.len(),
        seen.len()
    ))
}

/// Whether an error says that a condition did not hold.
pub(super) fn lost<T>(result: &StorageResult<T>) -> bool {
    matches!(result, Err(StorageError::PreconditionFailed(_)))
}

/// `len` bytes that follow from `seed`.
pub(super) fn fill(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for (to, from) in chunk.iter_mut().zip(state.to_le_bytes()) {
            *to = from;
        }
    }
    bytes.into()
}

pub(super) fn put_operation(key: &str, value: impl Into<Bytes>) -> BatchOperation {
    put_operation_with(key, value, StorageOptions::default())
}

pub(super) fn put_operation_with(
    key: &str,
    value: impl Into<Bytes>,
    options: StorageOptions,
) -> BatchOperation {
    BatchOperation::Put { key: key.to_owned(), value: value.into(), options }
}

pub(super) fn get_operation(key: &str) -> BatchOperation {
    BatchOperation::Get { key: key.to_owned() }
}

pub(super) fn delete_operation(key: &str) -> BatchOperation {
    BatchOperation::delete(key)
}

/// Runs one task for each number below `count`, all at once, and gathers what they found.
pub(super) async fn race<T, F>(count: usize, task: impl Fn(usize) -> F) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Barrier::new(count));
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (start, task) = (Arc::clone(&start), task(number));
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut found = Vec::with_capacity(count);
    for task in tasks {
        found.push(task.await.map_err(|error| format!("a racing task failed: {error}"))?);
    }
    Ok(found)
}

/// Polls a future up to `polls` times and drops it; its output if it was ready by then.
pub(super) async fn cancel_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|task| Poll::Ready(future.as_mut().poll(task))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A body that comes in parts, with a pause before each.
pub(super) struct Parts {
    parts: VecDeque<io::Result<Bytes>>,
    paused: bool,
    ended: Arc<AtomicBool>,
}

impl Parts {
    pub(super) fn new(parts: impl IntoIterator<Item = io::Result<Bytes>>) -> Self {
        Self { parts: parts.into_iter().collect(), paused: false, ended: Arc::default() }
    }

    /// Turns true once the body has told that it is over.
    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }
}

impl Stream for Parts {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.paused = !self.paused;
        if self.paused {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let part = self.parts.pop_front();
        if part.is_none() {
            self.ended.store(true, Ordering::Release);
        }
        Poll::Ready(part)
    }
}

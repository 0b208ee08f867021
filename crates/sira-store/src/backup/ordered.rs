//! Work that is done some at a time and comes back in order.

use std::collections::VecDeque;

use tokio::task::JoinHandle;

use crate::error::{Result, StorageError};

/// How much is under way at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Pieces of work.
    pub(super) count: usize,
    /// Bytes of values; one larger piece goes alone.
    pub(super) bytes: u64,
}

/// Work under way. Dropped, it is given up.
pub(super) struct Ordered<T> {
    bounds: Bounds,
    tasks: VecDeque<(u64, JoinHandle<T>)>,
    bytes: u64,
}

impl<T: Send + 'static> Ordered<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, tasks: VecDeque::new(), bytes: 0 }
    }

    /// Whether work of so many bytes has to wait for some that is under way.
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        self.tasks.len() >= self.bounds.count.max(1)
            || (!self.tasks.is_empty() && self.bytes + bytes > self.bounds.bytes)
    }

    pub(super) fn begin(&mut self, bytes: u64, work: impl Future<Output = T> + Send + 'static) {
        self.bytes += bytes;
        self.tasks.push_back((bytes, tokio::spawn(work)));
    }

    /// What began first, once it has ended; `None` when nothing is under way.
    pub(super) async fn next(&mut self) -> Result<Option<T>> {
        let Some((bytes, task)) = self.tasks.front_mut() else { return Ok(None) };
        let done = task.await.map_err(|error| {
            StorageError::unavailable("an object was given up half way").with_source(error)
        });
        self.bytes = self.bytes.saturating_sub(*bytes);
        self.tasks.pop_front();
        done.map(Some)
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

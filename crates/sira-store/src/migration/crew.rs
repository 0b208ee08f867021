//! Work on many objects, some of it at once.

use tokio::task::JoinSet;

use crate::error::{Result, StorageError};

/// How much is under way at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Objects.
    pub(crate) concurrency: usize,
    /// Bytes of values; one larger value goes alone.
    pub(crate) bytes_in_flight_max: u64,
}

/// Tasks that are under way. Dropped, they are given up.
pub(crate) struct Crew<T> {
    bounds: Bounds,
    tasks: JoinSet<(usize, u64, Result<T>)>,
    bytes: u64,
    done: Vec<(usize, T)>,
    failed: Option<StorageError>,
}

impl<T: Send + 'static> Crew<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, tasks: JoinSet::new(), bytes: 0, done: Vec::new(), failed: None }
    }

    /// Begins work on an object once there is room for it; nothing more after a failure.
    pub(crate) async fn begin(
        &mut self,
        number: usize,
        bytes: u64,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) {
        while self.tasks.len() >= self.bounds.concurrency.max(1)
            || (self.bytes > 0 && self.bytes + bytes > self.bounds.bytes_in_flight_max)
        {
            self.join().await;
        }
        if self.failed.is_none() {
            self.bytes += bytes;
            self.tasks.spawn(async move { (number, bytes, work.await) });
        }
    }

    async fn join(&mut self) {
        let Some(joined) = self.tasks.join_next().await else { return };
        let failed = match joined {
            Ok((number, bytes, result)) => {
                self.bytes = self.bytes.saturating_sub(bytes);
                match result {
                    Ok(done) => return self.done.push((number, done)),
                    Err(error) => error,
                }
            }
            Err(error) => {
                StorageError::unavailable("an object was given up half way").with_source(error)
            }
        };
        self.failed.get_or_insert(failed);
    }

    /// Waits for all of it, and gives the results by number.
    ///
    /// # Errors
    /// The first failure, once everything has ended.
    pub(crate) async fn finish(mut self) -> Result<Vec<(usize, T)>> {
        while !self.tasks.is_empty() {
            self.join().await;
        }
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.done),
        }
    }
}

//! Deadlines of operations.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::around::{Answer, Around, Layered, Operation, OperationKind};
use crate::backend::HealthStatus;
use crate::error::{Result, Retry, StorageError};

/// How long operations may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutOptions {
    /// Reads of an object or of what describes it, figures, health checks and opening a namespace.
    pub read: Duration,
    /// Writes, removals and flushes.
    pub write: Duration,
    /// One page of a listing.
    pub list: Duration,
    /// A batch.
    pub batch: Duration,
    /// Bytes of values that the slowest acceptable way moves in a second: an operation gets as much
    /// time more as its values need at this speed.
    pub bytes_per_second_min: u64,
}

impl Default for TimeoutOptions {
    /// For a whole operation, retries included.
    fn default() -> Self {
        Self {
            read: Duration::from_secs(10),
            write: Duration::from_secs(20),
            list: Duration::from_secs(30),
            batch: Duration::from_secs(60),
            bytes_per_second_min: 1 << 20,
        }
    }
}

impl TimeoutOptions {
    /// A quarter of these times: for one attempt of an operation that has all of them.
    #[must_use]
    pub fn quarter(&self) -> Self {
        Self {
            read: self.read / 4,
            write: self.write / 4,
            list: self.list / 4,
            batch: self.batch / 4,
            bytes_per_second_min: self.bytes_per_second_min,
        }
    }

    /// Time for an operation of this kind, without its values.
    #[must_use]
    pub fn of(&self, kind: OperationKind) -> Duration {
        match kind {
            OperationKind::Put
            | OperationKind::PutStream
            | OperationKind::Remove
            | OperationKind::Flush => self.write,
            OperationKind::Read
            | OperationKind::Head
            | OperationKind::Stats
            | OperationKind::Namespace => self.read,
            OperationKind::List => self.list,
            OperationKind::Batch => self.batch,
        }
    }

    fn for_bytes(&self, kind: OperationKind, bytes: u64) -> Duration {
        self.of(kind).saturating_add(self.of_bytes(bytes))
    }

    fn of_bytes(&self, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second_min.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// The deadlines that a [`TimeoutLayer`] holds operations to.
///
/// An operation without an answer in time ends with [`StorageError::Timeout`]: [`Retry::Temporary`]
/// where it changes nothing, [`Retry::Ambiguous`] where the write may have been sent. A stream's
/// deadline stands still while the engine waits for more of the value; one that runs out before the
/// value ended is temporary, since nothing of it was stored. A read of a whole value is asked for
/// its size when half of its time is over, so that a large value gets the time that it needs.
#[derive(Debug)]
pub struct Timeouts {
    options: TimeoutOptions,
}

/// A backend whose operations have deadlines. Without a tokio runtime there are none.
pub type TimeoutLayer = Layered<Timeouts>;

impl Timeouts {
    /// These deadlines.
    #[must_use]
    pub fn new(options: TimeoutOptions) -> Self {
        Self { options }
    }

    fn error(&self, operation: &Operation<'_>, waited: Duration) -> StorageError {
        let whole_body = operation.body.is_none_or(super::BodyProgress::has_ended);
        let (retry, advice) = match (operation.writes, whole_body) {
            (true, true) => (Retry::Ambiguous, "it may have taken effect: read back first"),
            (true, false) => (Retry::Temporary, "nothing of it was stored: try again later"),
            (false, _) => (Retry::Temporary, "try again later"),
        };
        let error = StorageError::timeout(format!(
            "{} gave no answer to a {} within {} ms; {advice}",
            operation.backend.capabilities().name,
            operation.kind.name(),
            waited.as_millis(),
        ))
        .with_retry(retry);
        match operation.key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }

    /// Waits for a call that needs time for as many bytes as it carries and asks for.
    async fn fixed<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
        bytes: u64,
    ) -> Result<T> {
        let limit = self.options.for_bytes(operation.kind, bytes);
        match timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => Err(self.error(operation, limit)),
        }
    }

    /// Waits for a read of a value whose size is not known.
    async fn of_unknown_size<T: Answer>(
        &self,
        operation: &Operation<'_>,
        key: &str,
        mut call: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        let half = self.options.of(operation.kind) / 2;
        if let Ok(result) = timeout(half, call.as_mut()).await {
            return result;
        }
        let size = async {
            match timeout(half, operation.backend.head(key)).await {
                Ok(Ok(Some(head))) => head.size,
                _ => 0,
            }
        };
        let (mut size, mut rest) = (pin!(size), pin!(sleep(half)));
        let mut known = None;
        loop {
            tokio::select! {
                biased;
                result = call.as_mut() => return result,
                bytes = size.as_mut(), if known.is_none() => known = Some(bytes),
                () = rest.as_mut() => break,
            }
        }
        let more = self.options.of_bytes(known.unwrap_or(0));
        match timeout(more, call).await {
            Ok(result) => result,
            Err(_) => Err(self.error(operation, (2 * half).saturating_add(more))),
        }
    }

    /// Waits for a stream: it ends when the engine has taken nothing for as long as it may take for
    /// what it holds.
    async fn streamed<T: Answer>(
        &self,
        operation: &Operation<'_>,
        body: &super::BodyProgress,
        mut call: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        loop {
            let before = body.polls();
            let limit = self.options.for_bytes(operation.kind, body.bytes());
            if let Ok(result) = timeout(limit, call.as_mut()).await {
                return result;
            }
            if !body.is_waiting() && body.polls() == before {
                return Err(self.error(operation, limit));
            }
        }
    }
}

impl Around for Timeouts {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut call = pin!(call);
        // An engine in process answers at once, and needs no timer.
        let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        if Handle::try_current().is_err() {
            return call.await;
        }
        match (operation.body, operation.key, operation.wanted_bytes) {
            (Some(body), _, _) => self.streamed(operation, body, call).await,
            (None, Some(key), wanted)
                if wanted.is_none_or(|wanted| {
                    wanted > operation.backend.capabilities().value_bytes_max
                }) =>
            {
                self.of_unknown_size(operation, key, call).await
            }
            (None, _, wanted) => {
                self.fixed(operation, call, operation.value_bytes + wanted.unwrap_or(0)).await
            }
        }
    }

    async fn health(&self, call: impl Future<Output = HealthStatus> + Send) -> HealthStatus {
        if Handle::try_current().is_err() {
            return call.await;
        }
        match timeout(self.options.read, call).await {
            Ok(status) => status,
            Err(_) => HealthStatus::Critical(format!(
                "no answer within {} ms",
                self.options.read.as_millis()
            )),
        }
    }
}

#[cfg(test)]
mod tests;

//! What came of operations, told to the router.

use std::future::Future;
use std::sync::Arc;

use crate::env::{Env, SystemEnv};
use crate::error::{Result, Retry, StorageError};
use crate::layers::{Answer, Around, Operation, OperationKind};
use crate::router::{self, RouteOutcome, StorageRouter};

/// Times the operations of one namespace on one backend for the router.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) router: Arc<StorageRouter>,
    pub(super) backend: String,
    pub(super) namespace: Arc<str>,
}

impl Around for Observer {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let done = match operation.kind {
            OperationKind::Put | OperationKind::PutStream => router::Operation::Write,
            OperationKind::Read | OperationKind::Head => router::Operation::Read,
            OperationKind::Remove => router::Operation::Delete,
            OperationKind::List => router::Operation::List,
            OperationKind::Batch
            | OperationKind::Stats
            | OperationKind::Flush
            | OperationKind::Namespace => return call.await,
        };
        let begun = SystemEnv.monotonic();
        let result = call.await;
        let size = operation.bytes_in() + result.as_ref().map_or(0, Answer::value_bytes);
        self.router.record(&RouteOutcome {
            backend: &self.backend,
            namespace: &self.namespace,
            key: operation.key.unwrap_or_default(),
            operation: done,
            size,
            region: None,
            latency: SystemEnv.monotonic().saturating_sub(begun),
            success: result.as_ref().err().is_none_or(is_answer),
            now_ms: SystemEnv.now_ms(),
        });
        result
    }
}

/// Whether a backend did its work although it answered with an error.
fn is_answer(error: &StorageError) -> bool {
    error.retry() == Retry::Permanent
        && !matches!(error, StorageError::Corrupt(_) | StorageError::OutOfSpace(_))
}

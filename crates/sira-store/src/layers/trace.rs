//! A span for every operation.

use std::future::Future;

use tracing::field::Empty;
use tracing::{Instrument, Level, Span};

use super::around::{Answer, Around, Layered, Operation};
use crate::error::Result;

/// Opens a span `storage` at level INFO around each operation, with the fields `backend`,
/// `namespace`, `operation`, `key_bytes` (length of the key), `value_bytes` (written or read),
/// `outcome` (`success` or `error`), `error` (its code) and `retry`. The key itself stands in `key`
/// where level DEBUG is on; values never do.
#[derive(Debug)]
pub struct Tracer {
    backend: String,
}

/// A backend whose operations are traced.
pub type TracingLayer = Layered<Tracer>;

impl Tracer {
    /// A tracer for a backend of this name.
    #[must_use]
    pub fn new(backend: impl Into<String>) -> Self {
        Self { backend: backend.into() }
    }

    fn span(&self, operation: &Operation<'_>) -> Span {
        let span = tracing::info_span!(
            "storage",
            backend = %self.backend,
            namespace = operation.namespace,
            operation = operation.kind.name(),
            key_bytes = operation.key.map(str::len),
            key = Empty,
            value_bytes = Empty,
            outcome = Empty,
            error = Empty,
            retry = Empty,
        );
        if tracing::enabled!(Level::DEBUG) {
            span.record("key", operation.key);
        }
        span
    }
}

impl Around for Tracer {
    async fn around<T: Answer>(
        &self,
        operation: &Operation<'_>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let span = self.span(operation);
        if span.is_disabled() {
            return call.await;
        }
        let result = call.instrument(span.clone()).await;
        match &result {
            Ok(answer) => {
                span.record("value_bytes", operation.bytes_in() + answer.value_bytes());
                span.record("outcome", "success");
            }
            Err(error) => {
                span.record("value_bytes", operation.bytes_in());
                span.record("outcome", "error");
                span.record("error", error.code());
                span.record("retry", tracing::field::debug(error.retry()));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;

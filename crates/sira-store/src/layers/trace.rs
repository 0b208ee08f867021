//! A span for every operation.

use std::future::Future;

use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::around::{Answer, Around, Layered, Operation};
use crate::error::Result;

/// Target of all spans, of requests and of operations. A filter that leaves it out costs each of
/// them next to nothing.
pub const SPAN_TARGET: &str = "sira::span";

/// Opens a span `storage` at level INFO, with the target [`SPAN_TARGET`], around each operation.
///
/// Its fields follow the conventions of OpenTelemetry for clients of databases: `db.system.name`
/// (the engine), `db.namespace`, `db.operation.name`, and `error.type`, the code of the error, where
/// there is one. `sira.backend` is the backend's name, `sira.key.bytes` the length of the key,
/// `sira.value.bytes` that of the values written or read, `sira.retry` whether trying again helps.
/// The fields that begin with `otel.` tell an exporter of spans about name, kind and status. The key
/// itself stands in an event of level DEBUG in the span; values stand nowhere.
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
        let (name, namespace) = (operation.kind.name(), operation.namespace);
        let span = tracing::info_span!(
            target: SPAN_TARGET,
            "storage",
            otel.name = Empty,
            otel.kind = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
            db.system.name = Empty,
            db.namespace = namespace,
            db.operation.name = name,
            sira.backend = self.backend,
            sira.key.bytes = operation.key.map(str::len),
            sira.value.bytes = Empty,
            sira.retry = Empty,
            error.r#type = Empty,
        );
        if span.is_disabled() {
            return span;
        }
        let (system, kind) = system(operation.backend.capabilities().name);
        span.record("db.system.name", system);
        span.record("otel.kind", kind);
        match namespace {
            Some(namespace) => span.record("otel.name", format!("{name} {namespace}")),
            None => span.record("otel.name", name),
        };
        // An event, since one layer's wish to see keys must not show them to all others.
        tracing::debug!(target: SPAN_TARGET, parent: &span, key = operation.key, "operation");
        span
    }
}

/// The engine's name among those that OpenTelemetry knows, or its own; and whether it is asked over
/// a connection.
fn system(engine: &'static str) -> (&'static str, &'static str) {
    match engine {
        "embedded" => ("sira", "internal"),
        "memory" => ("memory", "internal"),
        "postgres" => ("postgresql", "client"),
        engine => (engine, "client"),
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
                span.record("sira.value.bytes", operation.bytes_in() + answer.value_bytes());
            }
            Err(error) => {
                span.record("sira.value.bytes", operation.bytes_in());
                span.record("error.type", error.code());
                span.record("sira.retry", tracing::field::debug(error.retry()));
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", error.detail().message.as_str());
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;

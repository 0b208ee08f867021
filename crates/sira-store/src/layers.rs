//! Layers: wrappers of a backend that bound, repeat, refuse, double, count and trace its operations.
//!
//! Each layer is a [`StorageBackend`] over another one and can be used alone. [`Layers`] puts them
//! together in the one order that is right:
//!
//! ```text
//! tracing > metrics > deadline > retry > breaker > attempt timeout > hedge > limits > engine
//! ```
//!
//! - **Tracing and metrics** are outside, so that they tell what the caller saw: one operation, with
//!   all its attempts and waiting.
//! - **The deadline** is around the retries: it bounds the whole operation.
//! - **Retry** is around the breaker: an attempt that the breaker refuses is cheap, and a retry never
//!   goes around it.
//! - **The breaker** is around the attempt's timeout, so that an attempt without an answer counts as
//!   a failure of the engine.
//! - **The hedge** is inside: one attempt with two requests is one attempt.
//! - **Limits** are next to the engine: retries and hedges count as what they are, load.
//!
//! Layers use tokio's timer where an operation does not end at once: they are used from a tokio
//! runtime with its timer enabled. What is measured is measured with the [`crate::env::Env`].
//!
//! ```
//! use std::sync::Arc;
//! use sira_store::layers::{BreakerOptions, Layers, RetryOptions, TimeoutOptions};
//! use sira_store::{MemoryBackend, StorageBackendExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let engine = Arc::new(MemoryBackend::new(1 << 20));
//! let store = Layers::new(engine)
//!     .timeout(TimeoutOptions::default())
//!     .retry(RetryOptions::default())
//!     .breaker(BreakerOptions::default())
//!     .build();
//! store.put_bytes("greeting", "hello").await?;
//! assert_eq!(store.get_string("greeting").await?.as_deref(), Some("hello"));
//! # Ok::<_, sira_store::StorageError>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [`StorageBackend`]: crate::StorageBackend

mod around;
pub mod breaker;
pub mod budget;
pub mod hedge;
pub mod limit;
pub mod metrics;
mod request;
pub mod retry;
mod stack;
pub mod timeout;
pub mod trace;

pub use around::{Answer, Around, BodyProgress, Layered, Nested, Operation, OperationKind};
pub use breaker::{Breaker, BreakerLayer, BreakerOptions, BreakerState};
pub use hedge::{HedgeLayer, HedgeOptions};
pub use limit::{LimitLayer, LimitOptions, Limiter};
pub use metrics::{BackendMetrics, MetricFamilies, MetricsCollector, MetricsLayer, StorageMetrics};
pub use request::{in_request, request_id};
pub use retry::{RetryLayer, RetryOptions};
pub use stack::{LayerHandles, LayerStack, Layers};
pub use timeout::{TimeoutLayer, TimeoutOptions, Timeouts};
pub use trace::{Tracer, TracingLayer};

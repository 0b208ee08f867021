//! What all handlers share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use sira_store::embedded::EmbeddedBackend;
use sira_store::env::Env;
use sira_store::{Durability, StorageError};

use crate::config::{HttpLimits, Secret, ServerConfig};
use crate::http::body::{BodyReader, UploadBudget};
use crate::metrics::{HttpMetrics, TextWriter};
use crate::problem::Problem;

/// Writes the metrics of another door.
pub type MetricsWriter = Box<dyn Fn(&mut TextWriter) + Send + Sync>;

/// What all handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    store: EmbeddedBackend,
    env: Arc<dyn Env>,
    started: Duration,
    token: Option<Secret>,
    durability: Durability,
    limits: HttpLimits,
    budget: UploadBudget,
    metrics: Arc<HttpMetrics>,
    other_metrics: OnceLock<MetricsWriter>,
    draining: AtomicBool,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("store", &self.0.store).finish_non_exhaustive()
    }
}

impl App {
    /// The shared part of a server over this store.
    #[must_use]
    pub fn new(store: EmbeddedBackend, config: &ServerConfig, metrics: Arc<HttpMetrics>) -> Self {
        let env = Arc::clone(store.engine().env());
        Self(Arc::new(Shared {
            started: env.monotonic(),
            env,
            store,
            token: config.token.clone(),
            durability: config.durability,
            limits: config.http.clone(),
            budget: UploadBudget::new(config.http.upload_bytes_max),
            metrics,
            other_metrics: OnceLock::new(),
            draining: AtomicBool::new(false),
        }))
    }

    /// The store, in any namespace.
    #[must_use]
    pub fn store(&self) -> &EmbeddedBackend {
        &self.0.store
    }

    /// The namespace of this name to read from.
    ///
    /// # Errors
    /// 404 when it is not there; reading makes none.
    pub fn namespace(&self, name: &str) -> Result<EmbeddedBackend, Problem> {
        self.0.store.find_namespace(name)?.ok_or_else(|| {
            Problem::not_found(format!(
                "there is no namespace {name:?}; the first write to it makes it"
            ))
        })
    }

    /// The namespace of this name to write to, made if it is not there.
    ///
    /// # Errors
    /// The store's.
    pub async fn make_namespace(&self, name: &str) -> Result<EmbeddedBackend, StorageError> {
        if let Some(found) = self.0.store.find_namespace(name)? {
            return Ok(found);
        }
        let (store, name) = (self.0.store.clone(), name.to_owned());
        // Making it waits for the disk.
        tokio::task::spawn_blocking(move || store.namespace(&name)).await.map_err(shutting_down)?
    }

    /// Drops a namespace; says whether it was there.
    ///
    /// # Errors
    /// The store's.
    pub async fn drop_namespace(&self, name: &str) -> Result<bool, StorageError> {
        let (store, name) = (self.0.store.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || store.drop_namespace(&name))
            .await
            .map_err(shutting_down)?
    }

    /// Clocks and random numbers.
    #[must_use]
    pub fn env(&self) -> &dyn Env {
        &*self.0.env
    }

    /// Time since the server started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.env.monotonic().saturating_sub(self.0.started)
    }

    /// What clients must present.
    #[must_use]
    pub fn token(&self) -> Option<&Secret> {
        self.0.token.as_ref()
    }

    /// Durability of writes that name none.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.0.durability
    }

    /// Counters of this door.
    #[must_use]
    pub fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    /// Adds what another door counts to `/metrics`; only the first call counts.
    pub fn add_metrics(&self, writer: MetricsWriter) {
        let _ = self.0.other_metrics.set(writer);
    }

    /// Writes what the other door counts.
    pub fn write_other_metrics(&self, out: &mut TextWriter) {
        if let Some(writer) = self.0.other_metrics.get() {
            writer(out);
        }
    }

    /// Makes the server not ready: it shuts down.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the server shuts down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// The body of a request, of up to `bytes_max` bytes.
    #[must_use]
    pub fn reader(&self, request: Request<Body>, bytes_max: usize) -> BodyReader {
        BodyReader::new(
            request,
            bytes_max,
            self.0.limits.stall_timeout,
            self.0.budget.clone(),
            Arc::clone(&self.0.metrics),
        )
    }
}

fn shutting_down(error: tokio::task::JoinError) -> StorageError {
    StorageError::unavailable("the server shuts down; try again").with_source(error)
}

/// A problem travels through the router as an extension and is written where the request's id is
/// known, see [`crate::http::observe`].
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// A write that failed because the object changed between looking at it and writing.
#[must_use]
pub fn changed_meanwhile(error: StorageError) -> Problem {
    match error {
        StorageError::PreconditionFailed(_) => StorageError::conflict(
            "another writer changed the object meanwhile, and nothing was written; try again",
        )
        .into(),
        error => error.into(),
    }
}

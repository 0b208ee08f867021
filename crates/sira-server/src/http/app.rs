//! What all handlers share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use sira_store::client::OpenNamespace;
use sira_store::embedded::{EmbeddedBackend, ObjectReader};
use sira_store::env::Env;
use sira_store::placement::Catalog;
use sira_store::version_history::{is_kept_namespace, kept_namespace};
use sira_store::{
    Durability, ObjectHead, Result as StorageResult, StorageBackend, StorageClient, StorageError,
};

use sira_store::layers::MetricsCollector;

use crate::backups::Backups;
use crate::capacity::Capacity;
use crate::config::{HttpLimits, Secret, ServerConfig};
use crate::health::Health;
use crate::http::backups::BackupJobs;
use crate::http::body::{BodyReader, UploadBudget};
use crate::http::migrations::Migrations;
use crate::http::syncs::Syncs;
use crate::lifecycle::Lifecycle;
use crate::maintenance::Maintenance;
use crate::metrics::{self, HttpMetrics, Kind, MetricFamilies};
use crate::monitoring::Monitor;
use crate::notify::Notifier;
use crate::problem::Problem;
use crate::storage::{EMBEDDED, Storage};

/// Writes the metrics of another door.
pub type MetricsWriter = Box<dyn Fn(&mut MetricFamilies) + Send + Sync>;

/// What all handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    store: EmbeddedBackend,
    client: StorageClient,
    collector: Arc<MetricsCollector>,
    monitor: Arc<Monitor>,
    health: Arc<Health>,
    notifier: Arc<Notifier>,
    maintenance: Arc<Maintenance>,
    lifecycle: Arc<Lifecycle>,
    backups: Arc<Backups>,
    capacity: Arc<Capacity>,
    env: Arc<dyn Env>,
    started: Duration,
    token: Option<Secret>,
    durability: Durability,
    limits: HttpLimits,
    budget: UploadBudget,
    metrics: Arc<HttpMetrics>,
    other_metrics: OnceLock<MetricsWriter>,
    migrations: Migrations,
    syncs: Syncs,
    backup_jobs: BackupJobs,
    draining: AtomicBool,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("store", &self.0.store).finish_non_exhaustive()
    }
}

impl App {
    /// The shared part of a server over this storage.
    #[must_use]
    pub fn new(storage: Storage, config: &ServerConfig, metrics: Arc<HttpMetrics>) -> Self {
        let Storage {
            engine,
            client,
            collector,
            monitor,
            health,
            notifier,
            maintenance,
            lifecycle,
            backups,
            capacity,
            ..
        } = storage;
        let store = EmbeddedBackend::new(engine);
        let env = Arc::clone(store.engine().env());
        Self(Arc::new(Shared {
            started: env.monotonic(),
            env,
            store,
            client,
            collector,
            monitor,
            health,
            notifier,
            maintenance,
            lifecycle,
            backups,
            capacity,
            token: config.token.clone(),
            durability: config.durability,
            limits: config.http.clone(),
            budget: UploadBudget::new(config.http.upload_bytes_max),
            metrics,
            other_metrics: OnceLock::new(),
            migrations: Migrations::default(),
            syncs: Syncs::default(),
            backup_jobs: BackupJobs::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// The embedded engine's store.
    #[must_use]
    pub fn store(&self) -> &EmbeddedBackend {
        &self.0.store
    }

    /// The client over every backend.
    #[must_use]
    pub fn client(&self) -> &StorageClient {
        &self.0.client
    }

    /// Figures of the backends.
    #[must_use]
    pub fn collector(&self) -> &MetricsCollector {
        &self.0.collector
    }

    /// How the backends do.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What the backends have in use.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.0.capacity
    }

    /// The namespace of this name to read from, if it is there; reading makes none.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_namespace(&self, name: &str) -> StorageResult<Option<Namespace>> {
        let engine = self.0.store.find_namespace(name)?;
        if is_reserved(name) || (engine.is_none() && !self.may_lie_elsewhere(name).await?) {
            return Ok(None);
        }
        self.open(name, engine).await.map(Some)
    }

    /// The namespace of this name to read from.
    ///
    /// # Errors
    /// 404 when it is not there; reading makes none.
    pub async fn namespace(&self, name: &str) -> Result<Namespace, Problem> {
        self.find_namespace(name).await?.ok_or_else(|| {
            Problem::not_found(format!(
                "there is no namespace {name:?}; the first write to it makes it"
            ))
        })
    }

    /// The namespace of this name to write to, made if it is not there.
    ///
    /// # Errors
    /// The store's.
    pub async fn make_namespace(&self, name: &str) -> StorageResult<Namespace> {
        let mut engine = self.0.store.find_namespace(name)?;
        Self::check_not_reserved(name)?;
        if engine.is_none() && self.lies_on_engine(name) {
            let (store, name) = (self.0.store.clone(), name.to_owned());
            // Making it waits for the disk.
            let made = tokio::task::spawn_blocking(move || store.namespace(&name));
            engine = Some(made.await.map_err(shutting_down)??);
        }
        self.open(name, engine).await
    }

    /// Refuses a namespace that is the server's own.
    ///
    /// # Errors
    /// [`StorageError::PermissionDenied`] for one.
    pub fn check_not_reserved(name: &str) -> StorageResult<()> {
        if is_reserved(name) {
            return Err(StorageError::permission_denied(
                "the namespace is the store's own: it holds where objects lie, or earlier versions of \
                 them; choose another name",
            )
            .with_namespace(name));
        }
        Ok(())
    }

    async fn open(&self, name: &str, engine: Option<EmbeddedBackend>) -> StorageResult<Namespace> {
        let open = self.0.client.namespace(name).open().await?;
        let engine = engine.filter(|_| open.at.as_deref() == Some(EMBEDDED));
        Ok(Namespace { open, engine })
    }

    /// Whether the plan puts the whole namespace on the embedded engine.
    fn lies_on_engine(&self, name: &str) -> bool {
        self.0.client.plan().backend_of(name) == Some(EMBEDDED)
    }

    /// Whether the namespace is there, or might be, on another backend than the embedded engine.
    async fn may_lie_elsewhere(&self, name: &str) -> StorageResult<bool> {
        let plan = self.0.client.plan();
        if plan.namespaces.contains_key(name) {
            return Ok(true);
        }
        match &plan.catalog {
            Some(catalog) => Ok(catalog.record(name).await?.is_some()),
            None => Ok(plan.default_backend.as_deref() != Some(EMBEDDED)),
        }
    }

    /// Names of the namespaces that are known here: those of the embedded engine, the plan and the
    /// catalog, in byte order; and how many keys they have, where one engine tells.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn namespaces(&self) -> StorageResult<BTreeMap<String, Option<u64>>> {
        let plan = self.0.client.plan();
        let engine = self.0.store.engine();
        let mut names: BTreeMap<String, Option<u64>> =
            plan.namespaces.keys().map(|name| (name.clone(), None)).collect();
        if let Some(catalog) = &plan.catalog {
            names.extend(catalog.namespaces().await?.into_iter().map(|name| (name, None)));
        }
        for (name, id) in engine.namespaces() {
            let keys = self.lies_on_engine(&name).then(|| engine.count(id));
            names.insert(name, keys);
        }
        names.retain(|name, _| !is_reserved(name));
        Ok(names)
    }

    /// Drops a namespace; says whether it was there.
    ///
    /// # Errors
    /// The store's.
    pub async fn drop_namespace(&self, name: &str) -> StorageResult<bool> {
        let Some(found) = self.find_namespace(name).await? else { return Ok(false) };
        let client = self.0.client.namespace(name);
        if found.engine.is_none() {
            client.clear().await?;
        }
        let kept = self.keeps_versions(name).then(|| kept_namespace(name)).transpose()?;
        for name in [kept.as_deref(), Some(name)].into_iter().flatten() {
            let (store, dropped) = (self.0.store.clone(), name.to_owned());
            tokio::task::spawn_blocking(move || store.drop_namespace(&dropped))
                .await
                .map_err(shutting_down)??;
            self.0.client.namespace(name).forget();
        }
        Ok(true)
    }

    fn keeps_versions(&self, name: &str) -> bool {
        let plan = self.0.client.plan();
        plan.namespaces.get(name).is_some_and(|policy| policy.keep_versions.is_some())
    }

    /// Rules about objects that grow old.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// Migrations that were begun here.
    #[must_use]
    pub fn migrations(&self) -> &Migrations {
        &self.0.migrations
    }

    /// Syncs that were begun here.
    #[must_use]
    pub fn syncs(&self) -> &Syncs {
        &self.0.syncs
    }

    /// Backups of what is held here.
    #[must_use]
    pub fn backups(&self) -> &Backups {
        &self.0.backups
    }

    /// Work on backups that was asked here.
    #[must_use]
    pub fn backup_jobs(&self) -> &BackupJobs {
        &self.0.backup_jobs
    }

    /// Everything that is counted, here and in the backends.
    ///
    /// # Errors
    /// The store's.
    pub async fn families(&self) -> StorageResult<MetricFamilies> {
        let mut out = MetricFamilies::default();
        out.family("sira_build_info", Kind::Gauge, "Version of the server; always 1.");
        out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let uptime = self.uptime().as_secs_f64();
        out.metric("sira_uptime_seconds", Kind::Gauge, "Time since the server started.", uptime);
        self.0.metrics.write(&mut out);
        if let Some(writer) = self.0.other_metrics.get() {
            writer(&mut out);
        }
        self.0.collector.write(&mut out);
        self.0.client.copy_figures().write(&mut out);
        if let Some(log) = &self.0.client.plan().transaction_log {
            log.figures().write(&mut out);
        }
        self.0.monitor.write(&mut out);
        self.0.health.write(&mut out);
        self.0.capacity.write(&self.0.collector, &mut out);
        self.0.notifier.write(&mut out);
        metrics::cache::write(&self.0.client.cache_stats(), &mut out);
        metrics::replicas::write(&self.0.client.replicas_behind(), &mut out);
        self.0.syncs.write(&mut out);
        self.0.maintenance.write(&mut out);
        self.0.lifecycle.write(&mut out);
        self.0.backups.figures().write(self.env().now_ms(), &mut out);
        self.0.client.locks().figures().write(&mut out);
        let stats = self.0.store.stats().await?;
        for (name, help, value) in [
            (
                "sira_store_keys",
                "Keys, expired ones that are not collected yet included.",
                stats.keys,
            ),
            ("sira_store_live_bytes", "Bytes of live values and keys.", stats.live_bytes),
            ("sira_store_dead_bytes", "Bytes that can be reclaimed.", stats.dead_bytes),
            ("sira_store_used_bytes", "Bytes used on the medium.", stats.used_bytes),
            ("sira_store_segments", "Files that hold the data.", stats.segments),
            ("sira_store_index_bytes", "Bytes of memory that the index takes.", stats.index_bytes),
        ] {
            out.metric(name, Kind::Gauge, help, value as f64);
        }
        if let Some(available) = stats.available_bytes {
            let help = "Bytes that can still be written.";
            out.metric("sira_store_available_bytes", Kind::Gauge, help, available as f64);
        }
        Ok(out)
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

    /// Durability of writes to a namespace that name none.
    #[must_use]
    pub fn durability(&self, namespace: &str) -> Durability {
        let plan = self.0.client.plan();
        let own = plan.namespaces.get(namespace).and_then(|policy| policy.durability);
        own.unwrap_or(self.0.durability)
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

/// A namespace, and the embedded engine's view of it where all of it lies there.
#[derive(Debug)]
pub struct Namespace {
    open: OpenNamespace,
    engine: Option<EmbeddedBackend>,
}

impl Namespace {
    /// The object under a key, to be read piece by piece, where the engine can and its bytes are
    /// stored as they came.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_object(&self, key: &str) -> StorageResult<Option<(ObjectHead, ObjectReader)>> {
        let Some(engine) = &self.engine else { return Ok(None) };
        let opened = engine.open_object(key)?;
        Ok(opened.filter(|(head, _)| head.metadata.seal.is_none()))
    }
}

impl std::ops::Deref for Namespace {
    type Target = dyn StorageBackend;

    fn deref(&self) -> &Self::Target {
        &*self.open.backend
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

/// Whether a namespace is the store's own.
fn is_reserved(name: &str) -> bool {
    Catalog::owns(name) || is_kept_namespace(name)
}

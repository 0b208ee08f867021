//! Layers in the right order.

use std::sync::Arc;

use super::around::{Layered, Nested};
use super::breaker::{Breaker, BreakerListener, BreakerOptions};
use super::hedge::{HedgeLayer, HedgeOptions, Hedges};
use super::limit::{LimitOptions, Limiter};
use super::metrics::{BackendMetrics, MetricsCollector};
use super::retry::{Retries, RetryLayer, RetryOptions};
use super::timeout::{TimeoutOptions, Timeouts};
use super::trace::Tracer;
use crate::backend::StorageBackend;
use crate::env::{Env, SystemEnv};

/// Puts layers around a backend, always in the order that [the module](super) explains, whatever the
/// order of the calls. What is not named is left out.
#[derive(Debug)]
pub struct Layers {
    backend: Arc<dyn StorageBackend>,
    env: Arc<dyn Env>,
    name: String,
    tracing: bool,
    metrics: Option<Arc<BackendMetrics>>,
    deadline: Option<TimeoutOptions>,
    retry: Option<RetryOptions>,
    breaker: Option<BreakerOptions>,
    listener: Option<Listener>,
    attempt: Option<TimeoutOptions>,
    hedge: Option<HedgeOptions>,
    replica: Option<Arc<dyn StorageBackend>>,
    limits: Option<LimitOptions>,
}

struct Listener(BreakerListener);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// The parts of a stack that can be looked at while it works.
#[derive(Debug, Clone, Default)]
pub struct LayerHandles {
    /// What is counted.
    pub metrics: Option<Arc<BackendMetrics>>,
    /// The retries.
    pub retry: Option<Arc<Retries>>,
    /// The circuit breaker.
    pub breaker: Option<Arc<Breaker>>,
    /// The hedged reads.
    pub hedge: Option<Arc<Hedges>>,
    /// The limits.
    pub limits: Option<Arc<Limiter>>,
}

/// A backend with its layers.
#[derive(Debug, Clone)]
pub struct LayerStack {
    /// The outermost layer.
    pub backend: Arc<dyn StorageBackend>,
    /// Its parts.
    pub handles: LayerHandles,
}

impl Layers {
    /// No layers around `backend` yet; its name in metrics and spans is that of its engine.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>) -> Self {
        Self {
            name: backend.capabilities().name.to_owned(),
            backend,
            env: Arc::new(SystemEnv),
            tracing: false,
            metrics: None,
            deadline: None,
            retry: None,
            breaker: None,
            listener: None,
            attempt: None,
            hedge: None,
            replica: None,
            limits: None,
        }
    }

    /// All layers with their defaults, but for limits of rates, counted by `collector` under `name`.
    #[must_use]
    pub fn standard(
        backend: Arc<dyn StorageBackend>,
        name: impl Into<String>,
        collector: &MetricsCollector,
    ) -> Self {
        Self::new(backend)
            .name(name)
            .tracing()
            .metrics(collector)
            .timeout(TimeoutOptions::default())
            .retry(RetryOptions::default())
            .breaker(BreakerOptions::default())
            .hedge(HedgeOptions::default())
            .limit(LimitOptions::default())
    }

    /// The backend's name in metrics and spans. To be given before [`Layers::metrics`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Clock and random numbers of the layers, but for those of the metrics, which are the
    /// collector's.
    #[must_use]
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.env = env;
        self
    }

    /// A span around each operation.
    #[must_use]
    pub fn tracing(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// Counts operations, among the backends of `collector`.
    #[must_use]
    pub fn metrics(mut self, collector: &MetricsCollector) -> Self {
        self.metrics = Some(collector.backend(&self.name));
        self
    }

    /// Deadlines of whole operations, retries included. With [`Layers::retry`] or
    /// [`Layers::breaker`], each attempt gets a quarter of that, unless [`Layers::attempt_timeout`]
    /// says otherwise.
    #[must_use]
    pub fn timeout(mut self, options: TimeoutOptions) -> Self {
        self.deadline = Some(options);
        self
    }

    /// Tries again what failed.
    #[must_use]
    pub fn retry(mut self, options: RetryOptions) -> Self {
        self.retry = Some(options);
        self
    }

    /// Leaves an engine that fails alone.
    #[must_use]
    pub fn breaker(mut self, options: BreakerOptions) -> Self {
        self.breaker = Some(options);
        self
    }

    /// Tells each change of the breaker's state to `listener`.
    #[must_use]
    pub fn on_breaker_change(mut self, listener: BreakerListener) -> Self {
        self.listener = Some(Listener(listener));
        self
    }

    /// Deadlines of single attempts.
    #[must_use]
    pub fn attempt_timeout(mut self, options: TimeoutOptions) -> Self {
        self.attempt = Some(options);
        self
    }

    /// Sends reads that take long a second time.
    #[must_use]
    pub fn hedge(mut self, options: HedgeOptions) -> Self {
        self.hedge = Some(options);
        self
    }

    /// As [`Layers::hedge`], with second requests to `replica`, which has no limits of this stack.
    /// See [`HedgeLayer::with_env`] for what it must hold.
    #[must_use]
    pub fn hedge_to(mut self, options: HedgeOptions, replica: Arc<dyn StorageBackend>) -> Self {
        self.replica = Some(replica);
        self.hedge(options)
    }

    /// Bounds how much is asked of the engine.
    #[must_use]
    pub fn limit(mut self, options: LimitOptions) -> Self {
        self.limits = Some(options);
        self
    }

    /// The backend with its layers.
    #[must_use]
    pub fn build(self) -> Arc<dyn StorageBackend> {
        self.assemble().backend
    }

    /// The backend with its layers, and their parts.
    #[must_use]
    pub fn assemble(self) -> LayerStack {
        let Self { mut backend, env, name, .. } = self;
        let mut handles = LayerHandles::default();
        if let Some(options) = self.limits {
            let limits = Arc::new(Limiter::with_env(options, Arc::clone(&env)));
            handles.limits = Some(Arc::clone(&limits));
            backend = Arc::new(Layered::new(backend, limits));
        }
        if let Some(options) = self.hedge {
            let other = self.replica.unwrap_or_else(|| Arc::clone(&backend));
            let hedge = HedgeLayer::with_env(backend, other, options, Arc::clone(&env));
            handles.hedge = Some(Arc::clone(hedge.hedges()));
            backend = Arc::new(hedge);
        }
        let repeated = self.retry.is_some() || self.breaker.is_some();
        let quarter = self.deadline.as_ref().filter(|_| repeated).map(TimeoutOptions::quarter);
        if let Some(options) = self.attempt.or(quarter) {
            backend = Arc::new(Layered::new(backend, Arc::new(Timeouts::new(options))));
        }
        if let Some(options) = self.breaker {
            let mut breaker = Breaker::with_env(options, Arc::clone(&env));
            if let Some(Listener(listener)) = self.listener {
                breaker = breaker.with_listener(listener);
            }
            let breaker = Arc::new(breaker);
            handles.breaker = Some(Arc::clone(&breaker));
            backend = Arc::new(Layered::new(backend, breaker));
        }
        if let Some(options) = self.retry {
            let retry = RetryLayer::with_env(backend, options, Arc::clone(&env));
            handles.retry = Some(Arc::clone(retry.retries()));
            backend = Arc::new(retry);
        }
        if let Some(options) = self.deadline {
            backend = Arc::new(Layered::new(backend, Arc::new(Timeouts::new(options))));
        }
        let tracer = self.tracing.then(|| Arc::new(Tracer::new(name)));
        if let Some(metrics) = &self.metrics {
            // Without itself, or it would never be freed.
            metrics.attach(handles.clone());
            handles.metrics = Some(Arc::clone(metrics));
        }
        backend = match (tracer, self.metrics) {
            // As one layer: a layer of its own costs an allocation for each operation.
            (Some(tracer), Some(metrics)) => {
                Arc::new(Layered::new(backend, Arc::new(Nested::new(tracer, metrics))))
            }
            (Some(tracer), None) => Arc::new(Layered::new(backend, tracer)),
            (None, Some(metrics)) => Arc::new(Layered::new(backend, metrics)),
            (None, None) => backend,
        };
        LayerStack { backend, handles }
    }
}

//! Chooses backends for objects: rules, prices, measured speed, and what was learned.
//!
//! A [`StorageRouter`] asks its strategies in order; the first that answers wins, then the data
//! patterns, then the default backend. It decides and nothing else: where an object lies is kept by
//! [`placement`](crate::placement), so a change of mind never loses one.
//!
//! | Strategy | Chooses by |
//! |---|---|
//! | [`DataPatterns`] | the key's pattern, such as `cache:*` |
//! | [`DataTypeBased`], [`SizeBased`] | kind of data, size |
//! | [`PerformanceBased`] | measured latency and success |
//! | [`CostBased`] | price over the object's life |
//! | [`Geography`] | regions of the caller and the backends |
//! | [`Locality`] | where related keys lie |
//! | [`SlaBased`] | bounds on latency, durability and availability, then price |
//! | [`Adaptive`] | rewards observed in like cases |
//! | [`Predictive`] | forecast of the load by time of day |
//! | `Rules` (feature `cel`) | expressions that users write |
//! | [`First`], [`FallbackChain`], [`AllOf`], [`Weighted`], [`Mirror`], [`Shadow`] | other strategies |

mod adaptive;
mod compose;
mod cost;
mod explain;
mod geography;
mod hash;
mod in_flight;
mod kind;
mod locality;
mod patterns;
mod performance;
mod predictive;
mod profile;
mod request;
#[cfg(feature = "cel")]
mod rules;
pub mod simulate;
mod sla;
mod stats;
mod strategy;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{Env, SystemEnv};
use crate::error::Result;
use crate::options::StorageOptions;

pub use adaptive::Adaptive;
pub use compose::{AllOf, FallbackChain, First, Mirror, Shadow, Weighted};
pub use cost::CostBased;
pub use explain::{Answer, Explanation};
pub use geography::Geography;
pub use kind::{DataKind, DataTypeBased, SizeBased};
pub use locality::Locality;
pub use patterns::{DataPattern, DataPatterns};
pub use performance::PerformanceBased;
pub use predictive::Predictive;
pub use profile::{BackendProfile, PriceTable};
pub use request::{Near, Operation, Route, RouteOutcome, RouteRequest};
#[cfg(feature = "cel")]
pub use rules::{EXPRESSION_BYTES_MAX, Rules};
pub use sla::SlaBased;
pub use stats::{BackendStats, RoutingStats, StatsRecorder};
pub use strategy::RoutingStrategy;

/// The default backend where none was set and none is registered.
pub const DEFAULT_BACKEND: &str = "memory";

/// Chooses a backend for each object.
///
/// ```
/// use sira_store::StorageOptions;
/// use sira_store::router::{DataPattern, StorageRouter};
///
/// let mut router = StorageRouter::new();
/// router.add_data_pattern("cache:*", DataPattern::to("redis"))?;
/// router.set_default_backend("postgres");
///
/// let options = StorageOptions::default();
/// assert_eq!(router.select_backend("cache:user:1", &options), "redis");
/// assert_eq!(router.select_backend("user:1", &options), "postgres");
/// # Ok::<_, sira_store::StorageError>(())
/// ```
pub struct StorageRouter {
    env: Arc<dyn Env>,
    strategies: Vec<Box<dyn RoutingStrategy>>,
    patterns: DataPatterns,
    default_backend: Option<String>,
    region: Option<String>,
    recorder: Arc<StatsRecorder>,
    performance: PerformanceBased,
    cost: CostBased,
}

impl StorageRouter {
    /// A router without rules, on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_recorder(Arc::new(SystemEnv), Arc::default())
    }

    /// A router without rules that decides by the statistics of `recorder`, which a router before it
    /// may have filled, on the clock of `env`.
    #[must_use]
    pub fn with_recorder(env: Arc<dyn Env>, recorder: Arc<StatsRecorder>) -> Self {
        Self {
            strategies: Vec::new(),
            patterns: DataPatterns::new(),
            default_backend: None,
            region: None,
            recorder,
            // Asked by name only: a question is not answered by chance.
            performance: PerformanceBased::new(&*env).with_exploration(0.0),
            cost: CostBased::default(),
            env,
        }
    }

    /// Makes a backend known: strategies that compare choose among those.
    pub fn register_backend(&self, backend: impl Into<String>, profile: BackendProfile) {
        self.recorder.register(backend, profile);
    }

    /// Adds a strategy, which is asked after those before it.
    pub fn add_strategy(&mut self, strategy: Box<dyn RoutingStrategy>) {
        self.strategies.push(strategy);
    }

    /// Sets the place of the keys that match a pattern and that no strategy answers for. Of the
    /// patterns that match, the one with the most literal characters wins.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`](crate::StorageError::InvalidInput) for a pattern that cannot
    /// be read.
    pub fn add_data_pattern(&mut self, pattern: &str, data: DataPattern) -> Result<()> {
        self.patterns.add(pattern, data)
    }

    /// Sets the backend for keys that no rule answers for. Until then it is the first of the
    /// registered ones by name, or [`DEFAULT_BACKEND`].
    pub fn set_default_backend(&mut self, backend: impl Into<String>) {
        self.default_backend = Some(backend.into());
    }

    /// Sets the region of requests that name none: that of the process, mostly.
    pub fn set_region(&mut self, region: impl Into<String>) {
        self.region = Some(region.into());
    }

    /// The backends that rules may name as mirrors.
    #[must_use]
    pub fn mirrors(&self) -> std::collections::BTreeSet<String> {
        self.rules().flat_map(RoutingStrategy::mirrors).collect()
    }

    /// Whether any rule may name shadows.
    #[must_use]
    pub fn has_shadows(&self) -> bool {
        self.rules().any(RoutingStrategy::has_shadows)
    }

    /// Sets the time between two snapshots of the statistics: for so long the strategies that
    /// compare stay with what they know.
    pub fn set_rebalance_interval(&self, interval: Duration) {
        self.recorder.set_interval(interval);
    }

    /// The backend for a write of the key.
    #[must_use]
    pub fn select_backend(&self, key: &str, options: &StorageOptions) -> String {
        let request = RouteRequest { now_ms: self.env.now_ms(), ..RouteRequest::new(key, options) };
        let mut route = self.route(&request);
        if route.backends.is_empty() { self.fallback() } else { route.backends.swap_remove(0) }
    }

    /// Where the object of a request may go. The route names at least one backend; where the
    /// request has candidates, only of those.
    #[must_use]
    pub fn route(&self, request: &RouteRequest<'_>) -> Route {
        let stats = self.stats();
        let request = &self.with_region(request);
        for strategy in self.rules() {
            let route = strategy.route(request, &stats);
            if let Some(mut route) = route.and_then(|route| route.limited_to(request)) {
                strategy.name().clone_into(&mut route.rule);
                return route;
            }
        }
        self.default_route(request)
    }

    /// What every rule says of a request, and which counts. Strategies that explore answer what they
    /// hold to be best.
    #[must_use]
    pub fn explain(&self, request: &RouteRequest<'_>) -> Explanation {
        let request = RouteRequest { explain: true, ..self.with_region(request) };
        let stats = self.stats();
        let mut answers: Vec<Answer> = Vec::new();
        for strategy in self.rules() {
            let rule = strategy.name().to_owned();
            let route = strategy.route(&request, &stats);
            let passed_over = route.iter().flat_map(|route| &route.backends);
            let passed_over = passed_over.filter(|name| !request.allows(name)).cloned().collect();
            let route = route.and_then(|route| route.limited_to(&request));
            let route = route.map(|route| Route { rule: rule.clone(), ..route });
            answers.push(Answer { rule, route, passed_over });
        }
        let route = self.default_route(&request);
        answers.push(Answer {
            rule: route.rule.clone(),
            route: Some(route.clone()),
            passed_over: Vec::new(),
        });
        let chosen = answers.iter().find_map(|answer| answer.route.clone()).unwrap_or(route);
        Explanation { key: request.key.to_owned(), answers, chosen }
    }

    /// Learns what came of an operation.
    pub fn record(&self, outcome: &RouteOutcome<'_>) {
        let region = outcome.region.or(self.region.as_deref());
        let outcome = &RouteOutcome { region, ..*outcome };
        self.recorder.record(outcome);
        for strategy in &self.strategies {
            strategy.observe(outcome);
        }
    }

    /// The statistics that decisions rest on now.
    #[must_use]
    pub fn stats(&self) -> RoutingStats {
        self.recorder.snapshot()
    }

    /// Where outcomes are recorded, to be shared with the router that takes this one's place.
    #[must_use]
    pub fn recorder(&self) -> &Arc<StatsRecorder> {
        &self.recorder
    }

    /// The registered backend that is the fastest of late.
    #[must_use]
    pub fn performance_based_routing(&self, key: &str, options: &StorageOptions) -> Option<String> {
        self.performance.select_backend(key, options, &self.stats())
    }

    /// The registered backend on which the object costs least.
    #[must_use]
    pub fn cost_based_routing(&self, key: &str, options: &StorageOptions) -> Option<String> {
        self.cost.select_backend(key, options, &self.stats())
    }

    /// The backend that the data patterns give the key.
    #[must_use]
    pub fn data_type_based_routing(&self, key: &str, options: &StorageOptions) -> Option<String> {
        self.patterns.select_backend(key, options, &self.stats())
    }

    fn with_region<'a>(&'a self, request: &RouteRequest<'a>) -> RouteRequest<'a> {
        RouteRequest { region: request.region.or(self.region.as_deref()), ..*request }
    }

    fn rules(&self) -> impl Iterator<Item = &dyn RoutingStrategy> {
        let patterns: &dyn RoutingStrategy = &self.patterns;
        self.strategies.iter().map(|strategy| &**strategy).chain([patterns])
    }

    fn fallback(&self) -> String {
        self.default_backend.clone().unwrap_or_else(|| {
            let stats = self.stats();
            stats.iter().next().map_or(DEFAULT_BACKEND, |(name, _)| name).to_owned()
        })
    }

    fn default_route(&self, request: &RouteRequest<'_>) -> Route {
        let name = self.fallback();
        let (name, reason) = match request.candidates.first() {
            Some(first) if !request.allows(&name) => (
                first.clone(),
                format!("the default, {name}, is not allowed; {first} is the first that is"),
            ),
            _ => (name, "no other rule has an answer".to_owned()),
        };
        let mut route = Route::to([name]);
        "default".clone_into(&mut route.rule);
        route.reason = request.reason(|| reason);
        route
    }
}

impl Default for StorageRouter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StorageRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageRouter")
            .field("strategies", &self.strategies)
            .field("patterns", &self.patterns)
            .field("default_backend", &self.default_backend)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

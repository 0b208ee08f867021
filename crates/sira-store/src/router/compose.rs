//! Strategies made of strategies.

use super::hash::{stable_hash, unit};
use super::request::{Route, RouteOutcome, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

type Strategies = Vec<Box<dyn RoutingStrategy>>;

/// The answer of the first strategy that has one.
#[derive(Debug)]
pub struct First(pub Strategies);

/// Every strategy's answer, one after the other: what a later one names stands in for what an
/// earlier one named.
#[derive(Debug)]
pub struct FallbackChain(pub Strategies);

/// Only the backends that every strategy names which answers at all, by the sum of their ranks
/// (Borda's count).
#[derive(Debug)]
pub struct AllOf(pub Strategies);

/// Keys spread over backends by weight; a key keeps its backend while the weights stay.
///
/// Weighted rendezvous hashing (Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005): when
/// a backend comes or goes, only the keys move that it gains or loses.
#[derive(Debug, Clone)]
pub struct Weighted(pub Vec<(String, f64)>);

/// The inner strategy's choice, and a copy of every write on other backends.
#[derive(Debug)]
pub struct Mirror {
    /// Chooses the first place.
    pub inner: Box<dyn RoutingStrategy>,
    /// Backends that get a copy.
    pub to: Vec<String>,
}

/// The inner strategy's choice, with another backend asked for some of the keys and compared, but
/// never served from.
#[derive(Debug)]
pub struct Shadow {
    /// Chooses what is served.
    pub inner: Box<dyn RoutingStrategy>,
    /// Backend that is compared.
    pub to: String,
    /// Part of the keys, from 0 to 1; always the same keys.
    pub part: f64,
}

/// Answers of the strategies that have one within the request's bounds.
fn answers<'a>(
    strategies: &'a Strategies,
    request: &'a RouteRequest<'_>,
    stats: &'a RoutingStats,
) -> impl Iterator<Item = (&'a str, Route)> {
    strategies.iter().filter_map(move |strategy| {
        let route = strategy.route(request, stats)?.limited_to(request)?;
        Some((strategy.name(), route))
    })
}

/// Whether a key is among the part of the keys that a shadow is asked for.
pub(super) fn is_compared(request: &RouteRequest<'_>, part: f64) -> bool {
    unit(stable_hash(&[request.namespace, request.key, "shadow"])) < part
}

fn tell(strategies: &Strategies, outcome: &RouteOutcome<'_>) {
    for strategy in strategies {
        strategy.observe(outcome);
    }
}

fn add_new(to: &mut Vec<String>, names: Vec<String>) {
    for name in names {
        if !to.contains(&name) {
            to.push(name);
        }
    }
}

impl RoutingStrategy for First {
    fn name(&self) -> &str {
        "first"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let (name, mut route) = answers(&self.0, request, stats).next()?;
        route.reason = request.reason(|| format!("{name}: {}", route.reason));
        Some(route)
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        tell(&self.0, outcome);
    }

    fn mirrors(&self) -> Vec<String> {
        self.0.iter().flat_map(|strategy| strategy.mirrors()).collect()
    }

    fn has_shadows(&self) -> bool {
        self.0.iter().any(|strategy| strategy.has_shadows())
    }
}

impl RoutingStrategy for FallbackChain {
    fn name(&self) -> &str {
        "fallback"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let mut chain = Route::default();
        let mut reasons = Vec::new();
        for (name, route) in answers(&self.0, request, stats) {
            // Copies follow the choice that is served.
            if chain.backends.is_empty() {
                (chain.mirrors, chain.shadows) = (route.mirrors, route.shadows);
            }
            add_new(&mut chain.backends, route.backends);
            if request.explain {
                reasons.push(format!("{name}: {}", route.reason));
            }
        }
        chain.reason = reasons.join("; then ");
        (!chain.backends.is_empty()).then_some(chain)
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        tell(&self.0, outcome);
    }

    fn mirrors(&self) -> Vec<String> {
        self.0.iter().flat_map(|strategy| strategy.mirrors()).collect()
    }

    fn has_shadows(&self) -> bool {
        self.0.iter().any(|strategy| strategy.has_shadows())
    }
}

impl RoutingStrategy for AllOf {
    fn name(&self) -> &str {
        "all_of"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        // Backend and sum of its ranks, of those that every answer so far names.
        let mut agreed: Option<Vec<(usize, String)>> = None;
        let (mut mirrors, mut shadows, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for (name, route) in answers(&self.0, request, stats) {
            let rank = |backend: &str| route.backends.iter().position(|other| other == backend);
            agreed = Some(match agreed {
                None => route.backends.iter().cloned().enumerate().collect(),
                Some(agreed) => agreed
                    .into_iter()
                    .filter_map(|(sum, backend)| Some((sum + rank(&backend)?, backend)))
                    .collect(),
            });
            add_new(&mut mirrors, route.mirrors);
            add_new(&mut shadows, route.shadows);
            if request.explain {
                reasons.push(format!("{name}: {}", route.reason));
            }
        }
        let mut agreed = agreed.filter(|agreed| !agreed.is_empty())?;
        agreed.sort_by_key(|(sum, _)| *sum);
        let mut route = Route::to(agreed.into_iter().map(|(_, backend)| backend));
        (route.mirrors, route.shadows, route.reason) = (mirrors, shadows, reasons.join("; and "));
        Some(route)
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        tell(&self.0, outcome);
    }

    fn mirrors(&self) -> Vec<String> {
        self.0.iter().flat_map(|strategy| strategy.mirrors()).collect()
    }

    fn has_shadows(&self) -> bool {
        self.0.iter().any(|strategy| strategy.has_shadows())
    }
}

impl RoutingStrategy for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, _stats: &RoutingStats) -> Option<Route> {
        let score = |backend: &str, weight: f64| {
            -unit(stable_hash(&[request.namespace, request.key, backend])).ln() / weight
        };
        let mut ranked: Vec<(f64, &str)> = self
            .0
            .iter()
            .filter(|(backend, weight)| *weight > 0.0 && request.allows(backend))
            .map(|(backend, weight)| (score(backend, *weight), backend.as_str()))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let route = Route::ranked(&ranked)?;
        Some(route.because(request.reason(|| "the key's share of the weights".to_owned())))
    }
}

impl RoutingStrategy for Mirror {
    fn name(&self) -> &str {
        "mirror"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let mut route = self.inner.route(request, stats)?.limited_to(request)?;
        let others = self.to.iter().filter(|name| route.first() != Some(name.as_str()));
        let others = others.cloned().collect();
        add_new(&mut route.mirrors, others);
        Some(route)
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        self.inner.observe(outcome);
    }

    fn mirrors(&self) -> Vec<String> {
        self.inner.mirrors().into_iter().chain(self.to.iter().cloned()).collect()
    }

    fn has_shadows(&self) -> bool {
        self.inner.has_shadows()
    }
}

impl RoutingStrategy for Shadow {
    fn name(&self) -> &str {
        "shadow"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let mut route = self.inner.route(request, stats)?.limited_to(request)?;
        if is_compared(request, self.part) && route.first() != Some(&self.to) {
            add_new(&mut route.shadows, vec![self.to.clone()]);
        }
        Some(route)
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        self.inner.observe(outcome);
    }

    fn mirrors(&self) -> Vec<String> {
        self.inner.mirrors()
    }

    fn has_shadows(&self) -> bool {
        true
    }
}

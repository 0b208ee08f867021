//! Places learned from what came of earlier choices.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::env::Env;

use super::hash::Dice;
use super::request::{Operation, Route, RouteOutcome, RouteRequest};
use super::stats::{BackendStats, RoutingStats};
use super::strategy::{RoutingStrategy, simple_form};

/// A contextual bandit: Thompson sampling with discounted evidence.
///
/// For each context, an operation and a class of sizes, and each backend it keeps the mean and the
/// deviation of the loss: the milliseconds taken, a penalty for a failure, and the price. A choice
/// draws one possible mean of each backend and takes the least, so that backends are tried as often
/// as they may still be the best (Thompson 1933). Evidence is discounted with time, so a backend
/// that has changed is found again (Raj and Kalyani, "Taming non-stationary bandits", 2017).
///
/// While a backend has no evidence in a context, the router's statistics stand in, and its profile
/// while there are none.
#[derive(Debug)]
pub struct Adaptive {
    dice: Dice,
    half_life_s: f64,
    failure_ms: f64,
    ms_per_price: f64,
    contexts: Vec<Mutex<BTreeMap<String, Arm>>>,
}

/// Classes of sizes: up to 1 KiB, and eight times that for each further one.
const SIZES: usize = 8;
/// Observations that the expectation before any evidence is worth.
const PRIOR_WEIGHT: f64 = 1.0;
/// Evidence counts together as much as that many observations at most, so that new ones soon tell.
const WEIGHT_MAX: f64 = 50.0;
/// Backends remembered in a context; past that the one heard of least is forgotten.
const ARMS_MAX: usize = 64;

/// Sums over the observations of one backend in one context, discounted.
#[derive(Debug, Clone, Copy, Default)]
struct Arm {
    weight: f64,
    sum: f64,
    squares: f64,
    at_ms: u64,
}

impl Arm {
    fn at(mut self, now_ms: u64, half_life_s: f64) -> Self {
        let passed_s = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        let keep = (-passed_s / half_life_s).exp2().min(WEIGHT_MAX / self.weight.max(1.0));
        self.weight *= keep;
        self.sum *= keep;
        self.squares *= keep;
        self.at_ms = self.at_ms.max(now_ms);
        self
    }

    /// Mean loss and the deviation of that mean, with the expectation before any evidence mixed in.
    fn belief(&self, expected: f64) -> (f64, f64) {
        let weight = self.weight + PRIOR_WEIGHT;
        let mean = (self.sum + PRIOR_WEIGHT * expected) / weight;
        // Before any evidence the loss may be off by about itself.
        let squares = self.squares + PRIOR_WEIGHT * 2.0 * expected * expected;
        let variance = (squares / weight - mean * mean).max(0.0);
        (mean, (variance / weight).sqrt())
    }
}

impl Adaptive {
    /// A learner whose evidence counts half after 10 seconds, to which a failure is as bad as a
    /// second of waiting, and which does not look at prices.
    #[must_use]
    pub fn new(env: &dyn Env) -> Self {
        let contexts = Operation::ALL.len() * SIZES;
        Self {
            dice: Dice::new(env),
            half_life_s: 10.0,
            failure_ms: 1000.0,
            ms_per_price: 0.0,
            contexts: std::iter::repeat_with(Mutex::default).take(contexts).collect(),
        }
    }

    /// Sets the time after which evidence counts half, in seconds.
    #[must_use]
    pub fn with_half_life_s(mut self, seconds: f64) -> Self {
        self.half_life_s = seconds.max(1e-3);
        self
    }

    /// Sets the milliseconds of waiting that a failure is as bad as.
    #[must_use]
    pub fn with_failure_ms(mut self, ms: f64) -> Self {
        self.failure_ms = ms;
        self
    }

    /// Sets the milliseconds of waiting that one unit of the price table's currency is worth.
    #[must_use]
    pub fn with_ms_per_price(mut self, ms: f64) -> Self {
        self.ms_per_price = ms;
        self
    }

    fn context(&self, operation: Operation, size: u64) -> Option<&Mutex<BTreeMap<String, Arm>>> {
        let class = (size >> 10).checked_ilog2().map_or(0, |log| log as usize / 3 + 1);
        self.contexts.get(operation.index() * SIZES + class.min(SIZES - 1))
    }

    /// The loss to expect before any evidence in the context.
    fn expected(&self, backend: &BackendStats) -> f64 {
        let waiting = backend.avg_response_time.as_secs_f64() * 1000.0;
        waiting + (1.0 - backend.success_rate) * self.failure_ms
    }

    /// What the price of the operation adds to the loss.
    fn price_ms(&self, request: &RouteRequest<'_>, backend: &BackendStats, size: u64) -> f64 {
        if self.ms_per_price == 0.0 {
            return 0.0;
        }
        let region = backend.profile.region.as_deref();
        let abroad = request.region.is_some() && region.is_some() && request.region != region;
        backend.profile.prices.operation(request.operation, size, abroad) * self.ms_per_price
    }
}

impl RoutingStrategy for Adaptive {
    fn name(&self) -> &str {
        "adaptive"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let size = request.size.unwrap_or(0);
        let arms = self.context(request.operation, size)?.lock();
        let mut beliefs = Vec::new();
        let ranked = request.ranked(stats, |name, backend| {
            if !backend.profile.takes(request.size) {
                return None;
            }
            let arm = arms.get(name).copied().unwrap_or_default();
            let arm = arm.at(request.now_ms, self.half_life_s);
            let (mean, deviation) = arm.belief(self.expected(backend));
            let price = self.price_ms(request, backend, size);
            if request.explain {
                let seen = arm.weight;
                beliefs.push(format!(
                    "{name} {mean:.2} +- {deviation:.2} ms, price as {price:.2} ms (evidence {seen:.0})"
                ));
                return Some(mean + price);
            }
            Some(mean + deviation * self.dice.normal() + price)
        });
        drop(arms);
        let route = Route::ranked(&ranked)?;
        let reason = || {
            format!("loss learned for {} of this size: {}", request.operation, beliefs.join("; "))
        };
        Some(route.because(request.reason(reason)))
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        let Some(context) = self.context(outcome.operation, outcome.size) else { return };
        let failure = if outcome.success { 0.0 } else { self.failure_ms };
        let loss = outcome.latency.as_secs_f64() * 1000.0 + failure;
        let mut arms = context.lock();
        let add = |arm: &mut Arm| {
            *arm = arm.at(outcome.now_ms, self.half_life_s);
            arm.weight += 1.0;
            arm.sum += loss;
            arm.squares += loss * loss;
        };
        if let Some(arm) = arms.get_mut(outcome.backend) {
            add(arm);
            return;
        }
        if arms.len() >= ARMS_MAX {
            let oldest = arms.iter().min_by_key(|(_, arm)| arm.at_ms).map(|(name, _)| name.clone());
            oldest.map(|name| arms.remove(&name));
        }
        let mut arm = Arm { at_ms: outcome.now_ms, ..Arm::default() };
        add(&mut arm);
        arms.insert(outcome.backend.to_owned(), arm);
    }
}

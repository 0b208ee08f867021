//! Places learned from what came of earlier choices.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::env::Env;

use super::hash::{Dice, stable_hash};
use super::in_flight::InFlight;
use super::request::{Operation, Route, RouteOutcome, RouteRequest};
use super::stats::{BackendStats, RoutingStats};
use super::strategy::{RoutingStrategy, simple_form};

/// A contextual bandit: linear Thompson sampling with discounted evidence.
///
/// For each context, an operation and a class of sizes, and each backend it fits the loss, which is
/// the milliseconds taken, a penalty for a failure, and the price, as a line over the number of
/// operations that this strategy has under way there: a backend that is full is seen to be so before
/// the first of a burst has come back. A choice draws one possible loss of each backend and takes
/// the least, so that backends are tried as often as they may still be the best (Thompson 1933;
/// Agrawal and Goyal, "Thompson sampling for contextual bandits with linear payoffs", 2013).
/// Evidence is discounted with time, so a backend that has changed is found again (Raj and Kalyani,
/// "Taming non-stationary bandits", 2017).
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
    in_flight: InFlight,
}

/// Classes of sizes: up to 1 KiB, and eight times that for each further one.
const SIZES: usize = 8;
/// Observations that the expectation before any evidence is worth.
const PRIOR_WEIGHT: f64 = 1.0;
/// Evidence counts together as much as that many observations at most, so that new ones soon tell.
const WEIGHT_MAX: f64 = 50.0;
/// Backends remembered in a context; past that the one heard of least is forgotten.
const ARMS_MAX: usize = 64;

/// Before any evidence the loss does not depend on what is under way: so much weight that has.
const FLAT_WEIGHT: f64 = 1.0;

/// Sums over the observations of one backend in one context, discounted.
#[derive(Debug, Clone, Copy, Default)]
struct Arm {
    weight: f64,
    /// Of the losses and their squares.
    loss: f64,
    loss_squares: f64,
    /// Of the operations that were under way and their squares, and of the products with the losses.
    depth: f64,
    depth_squares: f64,
    products: f64,
    at_ms: u64,
}

impl Arm {
    fn at(mut self, now_ms: u64, half_life_s: f64) -> Self {
        let passed_s = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        let keep = (-passed_s / half_life_s).exp2().min(WEIGHT_MAX / self.weight.max(1.0));
        for sum in [
            &mut self.weight,
            &mut self.loss,
            &mut self.loss_squares,
            &mut self.depth,
            &mut self.depth_squares,
            &mut self.products,
        ] {
            *sum *= keep;
        }
        self.at_ms = self.at_ms.max(now_ms);
        self
    }

    fn add(&mut self, loss: f64, depth: f64) {
        self.weight += 1.0;
        self.loss += loss;
        self.loss_squares += loss * loss;
        self.depth += depth;
        self.depth_squares += depth * depth;
        self.products += depth * loss;
    }

    /// Loss to expect with so many operations under way and the deviation of that, with the
    /// expectation before any evidence mixed in.
    fn belief(&self, expected: f64, depth: f64) -> (f64, f64) {
        let weight = self.weight + PRIOR_WEIGHT;
        let losses = self.loss + PRIOR_WEIGHT * expected;
        // Before any evidence the loss may be off by about itself.
        let loss_squares = self.loss_squares + PRIOR_WEIGHT * 2.0 * expected * expected;
        let depth_squares = self.depth_squares + FLAT_WEIGHT;
        // Above 0: the depths alone make it at least that.
        let determinant = weight * depth_squares - self.depth * self.depth;
        // A backend does not get quicker by having more to do.
        let slope = (weight * self.products - self.depth * losses).max(0.0) / determinant;
        let base = (losses - slope * self.depth) / weight;
        let left = loss_squares + slope * slope * depth_squares + base * base * weight
            - 2.0 * (slope * self.products + base * losses - slope * base * self.depth);
        let spread =
            (depth_squares - 2.0 * depth * self.depth + weight * depth * depth) / determinant;
        let variance = (left / weight).max(0.0) * spread.max(0.0);
        ((base + slope * depth).max(0.0), variance.sqrt())
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
            in_flight: InFlight::default(),
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
            let depth = self.in_flight.count(name, request.now_ms) as f64;
            let (mean, deviation) = arm.belief(self.expected(backend), depth);
            let price = self.price_ms(request, backend, size);
            if request.explain {
                let seen = arm.weight;
                beliefs.push(format!(
                    "{name} {mean:.2} +- {deviation:.2} ms with {depth} under way, price as \
                     {price:.2} ms (evidence {seen:.0})"
                ));
                return Some(mean + price);
            }
            Some(mean + deviation * self.dice.normal() + price)
        });
        drop(arms);
        let route = Route::ranked(&ranked)?;
        if let (false, Some((_, first))) = (request.explain, ranked.first()) {
            let key = stable_hash(&[request.namespace, request.key]);
            self.in_flight.begin(first, key, request.now_ms);
        }
        let reason = || {
            format!("loss learned for {} of this size: {}", request.operation, beliefs.join("; "))
        };
        Some(route.because(request.reason(reason)))
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        let Some(context) = self.context(outcome.operation, outcome.size) else { return };
        let failure = if outcome.success { 0.0 } else { self.failure_ms };
        let loss = outcome.latency.as_secs_f64() * 1000.0 + failure;
        let key = stable_hash(&[outcome.namespace, outcome.key]);
        let depth = self.in_flight.end(outcome.backend, key) as f64;
        let mut arms = context.lock();
        let arm = match arms.get_mut(outcome.backend) {
            Some(arm) => arm,
            None => {
                if arms.len() >= ARMS_MAX {
                    let oldest = arms.iter().min_by_key(|(_, arm)| arm.at_ms);
                    let oldest = oldest.map(|(name, _)| name.clone());
                    oldest.map(|name| arms.remove(&name));
                }
                arms.entry(outcome.backend.to_owned()).or_default()
            }
        };
        *arm = arm.at(outcome.now_ms, self.half_life_s);
        arm.add(loss, depth);
    }
}

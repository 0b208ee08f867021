//! Places by measured speed.

use crate::env::Env;

use super::hash::Dice;
use super::request::{Route, RouteRequest};
use super::stats::{BackendStats, RoutingStats};
use super::strategy::{RoutingStrategy, simple_form};

/// The fastest backend of late: mean and p99 of the latency, against the part that succeeds.
///
/// What is measured ages, so a backend that was slow and is no longer asked would be remembered as
/// slow, or forgotten. Therefore a small part of the requests goes to the backend of which least is
/// known, if that is little (epsilon-greedy, with the exploration tied to the lack of evidence).
#[derive(Debug)]
pub struct PerformanceBased {
    dice: Dice,
    tail: f64,
    explore: f64,
}

/// A backend with as many recent operations as this is known well enough.
const EVIDENCE_ENOUGH: f64 = 100.0;

impl PerformanceBased {
    /// The strategy with 2% of exploration, in which the p99 counts a tenth as much as the mean.
    #[must_use]
    pub fn new(env: &dyn Env) -> Self {
        Self { dice: Dice::new(env), tail: 0.1, explore: 0.02 }
    }

    /// Sets how much the p99 counts beside the mean (0 to 1 and beyond).
    #[must_use]
    pub fn with_tail(mut self, tail: f64) -> Self {
        self.tail = tail;
        self
    }

    /// Sets the part of the requests, from 0 to 1, that goes to a backend of which little is known.
    #[must_use]
    pub fn with_exploration(mut self, part: f64) -> Self {
        self.explore = part;
        self
    }
}

/// Milliseconds that an operation is expected to take until it has succeeded.
pub(super) fn expected_ms(stats: &BackendStats, tail: f64) -> f64 {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    // A backend that fails always is still better than none at all.
    let success = stats.success_rate.clamp(0.001, 1.0);
    (ms(stats.avg_response_time) + tail * ms(stats.p99_response_time)) / success
}

/// Position of the backend of which least is known, if that is little, in a part of the cases.
pub(super) fn to_try(
    ranked: &[(f64, &str)],
    request: &RouteRequest<'_>,
    stats: &RoutingStats,
    dice: &Dice,
    part: f64,
) -> Option<usize> {
    if request.explain || ranked.len() < 2 || dice.unit() >= part {
        return None;
    }
    let evidence = |name: &str| stats.get(name).map_or(0.0, |backend| backend.evidence);
    ranked
        .iter()
        .map(|(_, name)| evidence(name))
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, evidence)| *evidence < EVIDENCE_ENOUGH)
        .map(|(at, _)| at)
}

impl RoutingStrategy for PerformanceBased {
    fn name(&self) -> &str {
        "performance"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let fits = |backend: &BackendStats| backend.profile.takes(request.size);
        let mut ranked = request
            .ranked(stats, |_, backend| fits(backend).then(|| expected_ms(backend, self.tail)));
        if let Some(tried) = to_try(&ranked, request, stats, &self.dice, self.explore) {
            ranked[..=tried].rotate_right(1);
        }
        let route = Route::ranked(&ranked)?;
        Some(route.because(request.reason(|| {
            let list: Vec<String> =
                ranked.iter().map(|(score, name)| format!("{name} {score:.2} ms")).collect();
            format!("expected time to success: {}", list.join(", "))
        })))
    }
}

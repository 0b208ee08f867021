//! Places that keep what was promised, and of those the cheapest.

use std::time::Duration;

use super::cost::CostBased;
use super::request::{Route, RouteRequest};
use super::stats::{BackendStats, RoutingStats};
use super::strategy::{RoutingStrategy, simple_form};

/// Bounds first, then price.
///
/// Latency is held against the measured p99, and against the profile while nothing is measured;
/// availability against the worse of what the profile promises and what was measured; durability
/// against the profile.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlaBased {
    /// What 99 of 100 operations must keep within.
    pub latency_p99: Option<Duration>,
    /// Durability over a year, from 0 to 1.
    pub durability: Option<f64>,
    /// Part of the time that the backend must answer, from 0 to 1.
    pub availability: Option<f64>,
    /// Where no backend keeps the bounds: leave the choice to the next strategy (`true`), or take
    /// those that break fewest of them (`false`).
    pub strict: bool,
    /// How prices are reckoned.
    pub cost: CostBased,
}

impl SlaBased {
    /// The bounds that a backend breaks, by name.
    fn broken(&self, backend: &BackendStats) -> Vec<&'static str> {
        let profile = &backend.profile;
        // A failure now and then among few operations says little.
        let measured = if backend.evidence >= 20.0 { backend.success_rate } else { 1.0 };
        let breaks = [
            ("latency", self.latency_p99.is_some_and(|max| backend.p99_response_time > max)),
            ("durability", self.durability.is_some_and(|min| profile.durability < min)),
            (
                "availability",
                self.availability.is_some_and(|min| profile.availability.min(measured) < min),
            ),
        ];
        breaks.into_iter().filter(|(_, broken)| *broken).map(|(name, _)| name).collect()
    }
}

impl RoutingStrategy for SlaBased {
    fn name(&self) -> &str {
        "sla"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let mut ranked: Vec<(usize, f64, &str)> = request
            .ranked(stats, |_, backend| {
                backend.profile.takes(request.size).then(|| self.cost.price(request, backend))
            })
            .into_iter()
            .filter_map(|(price, name)| Some((self.broken(stats.get(name)?).len(), price, name)))
            .filter(|(broken, _, _)| !self.strict || *broken == 0)
            .collect();
        // Stable: of those that break as many bounds, the cheapest stays first.
        ranked.sort_by_key(|(broken, _, _)| *broken);
        if ranked.is_empty() {
            return None;
        }
        let route = Route::to(ranked.iter().map(|(_, _, name)| *name));
        Some(route.because(request.reason(|| {
            let list: Vec<String> = ranked
                .iter()
                .map(|(_, price, name)| {
                    let broken = stats.get(name).map(|b| self.broken(b)).unwrap_or_default();
                    match broken.as_slice() {
                        [] => format!("{name} keeps every bound for {price:.3e}"),
                        broken => format!("{name} breaks {}", broken.join(" and ")),
                    }
                })
                .collect();
            list.join(", ")
        })))
    }
}

//! Places by price.

use std::time::Duration;

use super::request::{Operation, Route, RouteRequest};
use super::stats::{BackendStats, RoutingStats};
use super::strategy::{RoutingStrategy, simple_form};

/// The backend on which an object costs least over its life: stored, written once, and read as
/// often as is expected.
#[derive(Debug, Clone, Copy)]
pub struct CostBased {
    /// Life of an object that has no time to live.
    pub horizon: Duration,
    /// Reads that are expected of an object each day of its life.
    pub reads_per_day: f64,
    /// Bytes to reckon with where the size is unknown.
    pub size_unknown: u64,
}

impl Default for CostBased {
    /// 30 days, one read a day, 64 KiB.
    fn default() -> Self {
        Self {
            horizon: Duration::from_secs(30 * 86_400),
            reads_per_day: 1.0,
            size_unknown: 64 * 1024,
        }
    }
}

impl CostBased {
    /// Price of the request's object on a backend over the object's life, in the currency of the
    /// price table.
    #[must_use]
    pub fn price(&self, request: &RouteRequest<'_>, backend: &BackendStats) -> f64 {
        let prices = &backend.profile.prices;
        let size = request.size.unwrap_or(self.size_unknown);
        let life = request.ttl().unwrap_or(self.horizon);
        let abroad = match (request.region, backend.profile.region.as_deref()) {
            (Some(caller), Some(region)) => caller != region,
            _ => false,
        };
        let reads = self.reads_per_day * life.as_secs_f64() / 86_400.0;
        prices.storage(size, life)
            + prices.operation(Operation::Write, size, abroad)
            + reads * prices.operation(Operation::Read, size, abroad)
    }
}

impl RoutingStrategy for CostBased {
    fn name(&self) -> &str {
        "cost"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let ranked = request.ranked(stats, |_, backend| {
            backend.profile.takes(request.size).then(|| self.price(request, backend))
        });
        let route = Route::ranked(&ranked)?;
        Some(route.because(request.reason(|| {
            let list: Vec<String> =
                ranked.iter().map(|(price, name)| format!("{name} {price:.3e}")).collect();
            format!("price of the object over its life: {}", list.join(", "))
        })))
    }
}

//! Places near the caller.

use std::collections::BTreeMap;

use super::request::{Route, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// The backend whose region is nearest to the caller's.
///
/// Distances are round trips in milliseconds, from the table or, for pairs that it does not hold,
/// by the names: 1 in the same region, 20 where the first part agrees (`eu-west-1`, `eu-north-1`),
/// else 120. A backend without a region comes after those that have one; without a region of the
/// caller the choice is left to the next strategy.
#[derive(Debug, Clone, Default)]
pub struct Geography {
    distances: BTreeMap<(String, String), f64>,
}

impl Geography {
    /// Distances by name only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the round trip between two regions, in milliseconds, both ways.
    #[must_use]
    pub fn with_distance(mut self, a: impl Into<String>, b: impl Into<String>, ms: f64) -> Self {
        self.distances.insert(pair(a.into(), b.into()), ms);
        self
    }

    /// The round trip between two regions, in milliseconds.
    #[must_use]
    pub fn distance_ms(&self, a: &str, b: &str) -> f64 {
        if let Some(ms) = self.distances.get(&pair(a.to_owned(), b.to_owned())) {
            return *ms;
        }
        let area = |region: &str| region.split(['-', '_']).next().map(str::to_owned);
        if a == b {
            1.0
        } else if area(a) == area(b) {
            20.0
        } else {
            120.0
        }
    }
}

fn pair(a: String, b: String) -> (String, String) {
    if a <= b { (a, b) } else { (b, a) }
}

impl RoutingStrategy for Geography {
    fn name(&self) -> &str {
        "geography"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let caller = request.region?;
        let mut known = false;
        let ranked = request.ranked(stats, |_, backend| {
            let region = backend.profile.region.as_deref();
            known |= region.is_some();
            Some(region.map_or(f64::INFINITY, |region| self.distance_ms(caller, region)))
        });
        let route = Route::ranked(&ranked).filter(|_| known)?;
        Some(route.because(request.reason(|| {
            let list: Vec<String> =
                ranked.iter().map(|(ms, name)| format!("{name} {ms:.0} ms")).collect();
            format!("round trip from {caller}: {}", list.join(", "))
        })))
    }
}

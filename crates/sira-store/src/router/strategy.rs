//! The trait that strategies implement.

use std::fmt;

use crate::options::StorageOptions;

use super::request::{Route, RouteOutcome, RouteRequest};
use super::stats::RoutingStats;

/// Chooses a backend for an object, or leaves it to the next strategy.
///
/// Only [`RoutingStrategy::select_backend`] must be written:
///
/// ```
/// use sira_store::StorageOptions;
/// use sira_store::router::{RoutingStats, RoutingStrategy, StorageRouter};
///
/// #[derive(Debug)]
/// struct ShortLived;
///
/// impl RoutingStrategy for ShortLived {
///     fn name(&self) -> &str {
///         "short-lived"
///     }
///
///     fn select_backend(
///         &self,
///         _key: &str,
///         options: &StorageOptions,
///         _stats: &RoutingStats,
///     ) -> Option<String> {
///         options.ttl.map(|_| "redis".to_owned())
///     }
/// }
///
/// let mut router = StorageRouter::new();
/// router.add_strategy(Box::new(ShortLived));
/// router.set_default_backend("postgres");
/// assert_eq!(router.select_backend("user:1", &StorageOptions::default()), "postgres");
/// ```
pub trait RoutingStrategy: Send + Sync + fmt::Debug {
    /// Name of the strategy, as explanations show it.
    fn name(&self) -> &str;

    /// The backend for the key, or `None` to leave the choice to the next strategy.
    fn select_backend(
        &self,
        key: &str,
        options: &StorageOptions,
        stats: &RoutingStats,
    ) -> Option<String>;

    /// The same with everything that is known, and with more than one place in the answer. Names
    /// that the request does not allow are left out of the answer by the router.
    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        self.select_backend(request.key, request.options, stats).map(|name| Route::to([name]))
    }

    /// Told what came of every operation, for strategies that learn. Called on the path of the
    /// operation: it must not block.
    fn observe(&self, outcome: &RouteOutcome<'_>) {
        let _ = outcome;
    }

    /// The backends that its answers may name as mirrors, for a plan to check.
    fn mirrors(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether any of its answers may name shadows. Where no strategy's may, nobody asks for them.
    fn has_shadows(&self) -> bool {
        false
    }
}

/// The simple form of a strategy that is written in the full form.
pub(super) fn first_of(
    strategy: &dyn RoutingStrategy,
    key: &str,
    options: &StorageOptions,
    stats: &RoutingStats,
) -> Option<String> {
    let route = strategy.route(&RouteRequest::new(key, options), stats)?;
    route.backends.into_iter().next()
}

/// Writes `select_backend` of a strategy that has a `route` of its own.
macro_rules! simple_form {
    () => {
        fn select_backend(
            &self,
            key: &str,
            options: &$crate::options::StorageOptions,
            stats: &$crate::router::RoutingStats,
        ) -> Option<String> {
            $crate::router::strategy::first_of(self, key, options, stats)
        }
    };
}
pub(super) use simple_form;

//! Where the client lets an object go.

use std::sync::Arc;

use crate::placement::{PlacementPolicy, PlacementRequest};
use crate::router::{Route, StorageRouter};

/// The backends of a namespace, ranked by the router where there is one.
#[derive(Debug)]
pub(super) struct Choice {
    /// Backends that the namespace may use, best first; none at all means every one.
    pub(super) backends: Vec<String>,
    /// The backend for what no rule is about.
    pub(super) fallback: String,
    pub(super) router: Option<Arc<StorageRouter>>,
}

impl PlacementPolicy for Choice {
    fn choose(&self, request: &PlacementRequest<'_>) -> Route {
        if let [only] = self.backends.as_slice() {
            return Route::to([only]);
        }
        match &self.router {
            Some(router) if self.backends.is_empty() => router.choose(request),
            Some(router) => {
                router.choose(&PlacementRequest { backends: &self.backends, ..*request })
            }
            None if self.backends.is_empty() => Route::to([&self.fallback]),
            None => Route::to(&self.backends),
        }
    }
}

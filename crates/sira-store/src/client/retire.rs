//! Leaving a backend for good.

use std::sync::Arc;
use std::time::Duration;

use super::StorageClient;
use super::view::inside;
use crate::backend::{ListOptions, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};

/// Wait between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(2);

impl StorageClient {
    /// The first key under which this namespace has something on a backend, be it an object or a
    /// copy; `None` when it has nothing there.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that there is not, and those of the backend.
    pub async fn first_key_on(&self, backend: &str) -> Result<Option<String>> {
        let page = ListOptions { limit: 1, ..ListOptions::default() };
        let found = self.on(backend).await?.list(page).await;
        let found = found.map_err(|error| error.with_backend(backend))?;
        Ok(found.entries.into_iter().next().map(|entry| entry.key))
    }

    /// Waits until every operation that began by a plan before has ended, for this long at most, and
    /// says whether they have.
    pub async fn settled(&self, patience: Duration) -> bool {
        let begun = SystemEnv.monotonic();
        while self.shared.has_predecessors() {
            if SystemEnv.monotonic().saturating_sub(begun) >= patience {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Has the catalog forget that objects of this namespace may lie on a backend: none does any
    /// more, and the plan puts none there, in any process that shares the catalog. What was looked
    /// for there without being known to the catalog is looked for at `to`. Afterwards a plan may do
    /// without the backend.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when something of the namespace lies there,
    /// [`StorageError::NotFound`] for a backend that there is not, [`StorageError::Unsupported`]
    /// without a catalog, and those of the catalog and the backends. Then nothing is forgotten.
    pub async fn retire(&self, from: &str, to: &str) -> Result<()> {
        let view = self.view().await?;
        if let Some(placed) = &view.placed {
            return placed.retire(from, to).await;
        }
        let plan = self.plan();
        plan.find(to)?;
        let Some(catalog) = &plan.catalog else {
            return Err(StorageError::unsupported(
                "without a catalog nothing is known of where objects lie",
            ));
        };
        if let Some(key) = self.first_key_on(from).await? {
            return Err(StorageError::invalid_input(
                "an object of the namespace lies on this backend: move it away first",
            )
            .with_backend(from)
            .with_namespace(self.name())
            .with_key(key));
        }
        catalog.retire(self.name(), from, to).await.map(drop)
    }

    /// This namespace on a backend, with nothing around it.
    async fn on(&self, backend: &str) -> Result<Arc<dyn StorageBackend>> {
        let plan = self.plan();
        let found = inside(plan.find(backend)?, self.name()).await;
        found.map_err(|error| error.with_backend(backend))
    }
}

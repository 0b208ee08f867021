//! Leaving a backend for good.

use std::time::Duration;

use super::StorageClient;
use super::view::inside;
use crate::backend::ListOptions;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};

/// Wait between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(2);

impl StorageClient {
    /// The first key of this namespace whose object lies on a backend; `None` when none does.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that there is not, and those of the catalog and the
    /// backend.
    pub async fn first_key_on(&self, backend: &str) -> Result<Option<String>> {
        let view = self.view().await?;
        if let Some(placed) = &view.placed {
            return placed.first_key_on(backend).await;
        }
        let plan = self.plan();
        let page = ListOptions { limit: 1, ..ListOptions::default() };
        let found = match inside(plan.find(backend)?, self.name()).await {
            Ok(inside) => inside.list(page).await,
            Err(error) => Err(error),
        };
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
    /// [`StorageError::InvalidInput`] when an object of the namespace lies there,
    /// [`StorageError::NotFound`] for a backend that there is not, [`StorageError::Unsupported`] for
    /// a namespace without a catalog, and those of the catalog and the backends. Then the backend
    /// stays in use, and the same call goes on.
    pub async fn retire(&self, from: &str, to: &str) -> Result<()> {
        match &self.view().await?.placed {
            Some(placed) => placed.retire(from, to).await,
            None => Err(StorageError::unsupported(
                "the namespace has no catalog, and nothing is known of where its objects were",
            )
            .with_namespace(self.name())),
        }
    }
}

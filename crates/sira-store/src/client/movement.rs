//! Moving data between the client's backends.

use std::sync::Arc;

use super::relocation::Relocation;
use super::{NAMESPACE_DEFAULT, StorageClient};
use crate::backend::{BatchOperation, BatchResult, ListOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::limits::{BATCH_OPERATIONS_MAX, LIST_LIMIT_MAX};
use crate::migration::{Migration, MigrationOptions, MigrationReport};
use crate::pattern::KeyPattern;

/// Objects of a namespace on their way from one backend to another.
#[derive(Debug)]
pub struct DataMovement(Way);

#[derive(Debug)]
enum Way {
    Copy(Migration),
    Relocation(Relocation),
}

impl DataMovement {
    /// Moves the objects. Dropped before it ends, what was moved stays moved.
    ///
    /// # Errors
    /// As [`StorageClient::migrate_data`].
    pub async fn run(&self) -> Result<MigrationReport> {
        match &self.0 {
            Way::Copy(migration) => migration.run().await,
            Way::Relocation(relocation) => relocation.run().await,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> MigrationReport {
        match &self.0 {
            Way::Copy(migration) => migration.progress().report,
            Way::Relocation(relocation) => relocation.report(),
        }
    }
}

impl StorageClient {
    /// Moves the objects of this namespace whose keys match a pattern, such as `cache:*`, from one
    /// backend to another, under the versions, expiries and seals that they have, while both are in
    /// use.
    ///
    /// Where the plan has a catalog the objects lie at the target afterwards, and are found there;
    /// the policy's next word on an object is its next write. Without one they are copied, the source
    /// keeps them, and operations go on where they did: choose the target by
    /// [`StorageClient::set_default_backend`].
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that there is not, [`StorageError::InvalidInput`]
    /// for a pattern that cannot be read and for a move to the same backend,
    /// [`StorageError::Unsupported`] where the engines cannot, and those of the backends. What was
    /// moved before stays moved; the same call goes on.
    pub async fn migrate_data(
        &self,
        from: &str,
        to: &str,
        pattern: &str,
    ) -> Result<MigrationReport> {
        let pattern: KeyPattern = pattern.parse()?;
        let options = MigrationOptions { pattern, ..MigrationOptions::default() };
        self.migrate(from, to, options).await
    }

    /// As [`StorageClient::migrate_data`], with options. Where the plan has a catalog, the
    /// pattern, `dry_run` and the bounds on what is under way count.
    ///
    /// # Errors
    /// As [`StorageClient::migrate_data`].
    pub async fn migrate(
        &self,
        from: &str,
        to: &str,
        options: MigrationOptions,
    ) -> Result<MigrationReport> {
        self.migration(from, to, options).await?.run().await
    }

    /// As [`StorageClient::migrate`], not begun yet: what it has done can be asked while it runs.
    ///
    /// # Errors
    /// As [`StorageClient::migrate_data`], before anything is moved.
    pub async fn migration(
        &self,
        from: &str,
        to: &str,
        options: MigrationOptions,
    ) -> Result<DataMovement> {
        if from == to {
            return Err(StorageError::invalid_input(
                "source and target are the same backend; name two",
            )
            .with_backend(from));
        }
        let view = self.view().await?;
        let plan = self.plan();
        let (source, target) = (plan.find(from)?, plan.find(to)?);
        let inside = async |backend: &Arc<dyn StorageBackend>| match self.name() {
            NAMESPACE_DEFAULT => Ok(Arc::clone(backend)),
            name => backend.namespace(name).await,
        };
        let source = inside(source).await.map_err(|error| error.with_backend(from))?;
        if let Some(placed) = &view.placed {
            let way = Relocation::new(Arc::clone(placed), source, (from, to), options);
            return Ok(DataMovement(Way::Relocation(way)));
        }
        let target = inside(target).await.map_err(|error| error.with_backend(to))?;
        Ok(DataMovement(Way::Copy(Migration::new(source, target, options)?)))
    }

    /// Removes every object of this namespace that is there now, and what is kept of earlier versions,
    /// and says how many objects that were.
    ///
    /// # Errors
    /// Those of the backends; what was removed before stays so.
    pub async fn clear(&self) -> Result<u64> {
        let view = self.view().await?;
        match &view.versions {
            None => clear(&*view.backend).await,
            Some(versions) => {
                let removed = clear(versions.inner()).await?;
                clear(versions.kept()).await?;
                Ok(removed)
            }
        }
    }

    /// Composes this namespace anew at the next operation: to be called after an engine was told to
    /// drop it past this client.
    pub fn forget(&self) {
        self.shared.forget(self.name());
    }
}

async fn clear(backend: &dyn StorageBackend) -> Result<u64> {
    let mut removed = 0;
    let mut start_after = None;
    loop {
        let limit = LIST_LIMIT_MAX.min(BATCH_OPERATIONS_MAX);
        let options = ListOptions { start_after, limit, ..ListOptions::default() };
        let page = backend.list(options).await?;
        let keys = page.entries.into_iter().map(|entry| entry.key);
        let operations: Vec<_> = keys.map(BatchOperation::delete).collect();
        removed += operations.len() as u64;
        if !operations.is_empty() {
            for result in backend.batch(operations).await? {
                if let BatchResult::Error(error) = result {
                    return Err(error);
                }
            }
        }
        match page.next {
            Some(next) => start_after = Some(next),
            None => return Ok(removed),
        }
    }
}

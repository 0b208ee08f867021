//! Replicated namespaces as a whole.

use std::collections::BTreeMap;

use super::StorageClient;
use crate::error::{Result, StorageError};
use crate::placement::{Behind, RepairOptions, RepairReport};

impl StorageClient {
    /// Opens every replicated namespace, so that replicas which are behind follow from now on, also
    /// where nobody uses the namespace. To be called after each [`StorageClient::apply`].
    ///
    /// # Errors
    /// Those of the catalog and of backends; the other namespaces are opened all the same, and the
    /// call can be made again.
    pub async fn follow_replicas(&self) -> Result<()> {
        let plan = self.plan();
        let mut failure = None;
        for (name, _) in plan.namespaces.iter().filter(|(_, policy)| policy.replication.is_some()) {
            if let Err(error) = self.shared.view(name).await {
                failure = Some(error.with_namespace(name));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// How far replicas are behind, by name of the replicated namespaces that are open.
    #[must_use]
    pub fn replicas_behind(&self) -> BTreeMap<String, Behind> {
        self.shared.behind()
    }

    /// Compares a part of this namespace on all its replicas, and makes them alike.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] in a namespace that is not replicated; those of the catalog.
    pub async fn repair(&self, options: &RepairOptions) -> Result<RepairReport> {
        match &self.view().await?.placed {
            Some(placed) => placed.repair(options).await,
            None => Err(StorageError::unsupported(
                "the namespace is not replicated; name its replicas in the configuration",
            )
            .with_namespace(self.name())),
        }
    }

    /// Makes an object good of which a copy is damaged, and says whether it is.
    pub(super) async fn heal(&self, namespace: &str, key: &str) -> bool {
        let Ok(view) = self.shared.view(namespace).await else { return false };
        let Some(placed) = &view.placed else { return false };
        placed.replication().is_some() && placed.heal(key).await.unwrap_or(false)
    }
}

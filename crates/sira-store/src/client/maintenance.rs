//! Space that is given back.

use std::collections::{BTreeMap, BTreeSet};

use super::StorageClient;
use super::plan::StoragePlan;
use super::view::{NAMESPACE_DEFAULT, inside};
use crate::error::Result;

impl StorageClient {
    /// Has every backend [drop what nobody can see any more](crate::StorageBackend::maintain), in
    /// each namespace that lies on it, and says by backend how many records that were. What one
    /// backend fails with does not keep others from it.
    ///
    /// Namespaces are those that the catalog knows, those that have a policy, and `default`.
    ///
    /// # Errors
    /// Those of the catalog. Then nothing was dropped.
    pub async fn maintain(&self) -> Result<BTreeMap<String, Result<u64>>> {
        let plan = self.plan();
        let mut done = BTreeMap::new();
        for (backend, namespaces) in plan.holdings().await? {
            let dropped = plan.maintain(&backend, &namespaces).await;
            done.insert(backend, dropped);
        }
        Ok(done)
    }
}

impl StoragePlan {
    /// The namespaces that have, or may have, something on each backend.
    pub(super) async fn holdings(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut holdings: BTreeMap<String, BTreeSet<String>> =
            self.backends.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
        let mut hold = |backend: &str, namespace: &str| {
            if let Some(namespaces) = holdings.get_mut(backend) {
                namespaces.insert(namespace.to_owned());
            }
        };
        let own = self.namespaces.iter().filter(|(_, policy)| !policy.plain);
        for name in own.map(|(name, _)| name.as_str()).chain([NAMESPACE_DEFAULT]) {
            if let Some(backend) = self.backend_of(name) {
                hold(backend, name);
            }
        }
        if let Some(catalog) = &self.catalog {
            for name in catalog.namespaces().await? {
                let Some(record) = catalog.record(&name).await? else { continue };
                record.used.iter().chain(&record.mirrors).for_each(|backend| hold(backend, &name));
            }
        }
        Ok(holdings)
    }

    async fn maintain(&self, backend: &str, namespaces: &BTreeSet<String>) -> Result<u64> {
        let root = self.find(backend)?;
        // What expires, an engine drops whichever namespace it is in.
        let mut dropped = root.maintain().await?;
        for name in namespaces.iter().filter(|name| *name != NAMESPACE_DEFAULT) {
            let namespace = inside(root, name).await?;
            let more = namespace.maintain().await;
            dropped += more.map_err(|error| error.with_namespace(name))?;
        }
        Ok(dropped)
    }
}

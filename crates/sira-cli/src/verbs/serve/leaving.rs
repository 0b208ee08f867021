//! Namespaces that leave a backend: the configuration has no place for them there any more, and the
//! catalog still says that objects may lie there.
//!
//! The backend stays in the plan at first, while nothing is put there any more. When every operation
//! by the plan before has ended and the namespace has nothing there, the catalog forgets it. A
//! process that ends in between finds the backend missing in its configuration and says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sira_store::placement::Catalog;
use sira_store::{ListOptions, Result, StorageBackend, StorageError};

use super::opened::Opened;
use super::storage::Plane;
use crate::config::storage::{EMBEDDED, StorageConfig, is_database};

/// Namespace that backends show outside of any.
const NAMESPACE_DEFAULT: &str = "default";

/// Longest wait for operations that began by the configuration before.
const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace that leaves a backend.
pub(super) struct Leaving {
    namespace: String,
    from: String,
    /// Where its objects are looked for that the catalog has no place for.
    to: String,
}

impl Plane {
    /// Namespaces that leave a backend which is named no more, each of which has no object there.
    /// Direct namespaces that lie on another of those that are named are seen to at once.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for those that have, or of which that cannot be told, and those
    /// of the backends.
    pub(super) async fn leaving(
        &self,
        config: &StorageConfig,
        catalog: &Catalog,
        known: &[String],
        opened: &BTreeMap<String, Opened>,
    ) -> Result<Vec<Leaving>> {
        let mut leaving = Vec::new();
        for namespace in known {
            let used = catalog.record(namespace).await?.map(|record| record.used);
            let (to, direct) = place(config, namespace);
            for from in used.into_iter().flatten() {
                let located =
                    |error: StorageError| error.with_backend(&*from).with_namespace(namespace);
                if from != EMBEDDED && !opened.contains_key(&from) {
                    self.check(config, namespace, &from).await.map_err(located)?;
                    leaving.push(Leaving { namespace: namespace.clone(), from, to: to.to_owned() });
                } else if direct && from != to {
                    let backend = self.backend(opened, &from)?;
                    self.resettle(catalog, namespace, (&from, &backend), to)
                        .await
                        .map_err(located)?;
                }
            }
        }
        let engine = &self.storage.engine;
        for (namespace, id) in engine.namespaces() {
            let (to, direct) = place(config, &namespace);
            let unknown = known.binary_search(&namespace).is_err();
            if direct && to != EMBEDDED && unknown && engine.count(id) > 0 {
                return Err(elsewhere(to).with_backend(EMBEDDED).with_namespace(namespace));
            }
        }
        Ok(leaving)
    }

    /// Checks that a backend which is named no more can be left.
    async fn check(&self, config: &StorageConfig, namespace: &str, from: &str) -> Result<()> {
        if self.opened.get(from).is_none_or(|opened| opened.absent) {
            return Err(StorageError::invalid_input(
                "objects of the namespace may lie on this backend, which the configuration does not \
                 name any more; name it, and leave it out while the server runs",
            ));
        }
        if config.catalog != EMBEDDED || self.config.catalog != EMBEDDED {
            return Err(StorageError::invalid_input(
                "other servers that share the catalog may keep objects of the namespace on this \
                 backend; go on naming it",
            ));
        }
        let client = self.storage.client.namespace(namespace);
        match client.first_key_on(from).await? {
            None => Ok(()),
            Some(key) => Err(StorageError::invalid_input(
                "objects of the namespace lie on this backend, which the configuration does not \
                 name any more; name it, or move them away with `sira migrate` first",
            )
            .with_key(key)),
        }
    }

    /// Notes that a direct namespace lies elsewhere from now on. Only at the start, when nobody
    /// writes to it: what was written to the new place meanwhile would be lost from sight if the old
    /// one turned out not to be empty.
    async fn resettle(
        &self,
        catalog: &Catalog,
        namespace: &str,
        (from, backend): (&str, &Arc<dyn StorageBackend>),
        to: &str,
    ) -> Result<()> {
        let inside = match namespace {
            NAMESPACE_DEFAULT => Arc::clone(backend),
            name => backend.namespace(name).await?,
        };
        let page = ListOptions { limit: 1, ..ListOptions::default() };
        if let Some(entry) = inside.list(page).await?.entries.into_iter().next() {
            return Err(elsewhere(to).with_key(entry.key));
        }
        if self.serves {
            return Err(StorageError::invalid_input(format!(
                "the namespace is to lie on {to} directly: restart the server for that"
            )));
        }
        catalog.retire(namespace, from, to).await?;
        Ok(())
    }

    /// Has the catalog forget where nothing lies any more.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when operations do not end in time, [`StorageError::InvalidInput`]
    /// when something was put there after all, and those of the backends. Then everything is served
    /// as before.
    pub(super) async fn see_off(
        &self,
        config: &StorageConfig,
        opened: &BTreeMap<String, Opened>,
        leaving: &[Leaving],
    ) -> Result<()> {
        let mut both = opened.clone();
        for Leaving { from, .. } in leaving {
            if let Some(open) = self.opened.get(from) {
                both.entry(from.clone()).or_insert_with(|| open.clone());
            }
        }
        let mut plan = self.plan(config, &both).await?;
        plan.leaving = leaving.iter().map(|leaving| leaving.from.clone()).collect();
        self.storage.apply(plan)?;
        let result = self.forget(leaving).await;
        if result.is_err() {
            self.storage.apply(self.plan(&self.config, &self.opened).await?)?;
        }
        result
    }

    async fn forget(&self, leaving: &[Leaving]) -> Result<()> {
        if !self.storage.client.settled(PATIENCE).await {
            return Err(StorageError::unavailable(
                "operations by the configuration before are still under way; try again when they \
                 have ended",
            ));
        }
        for Leaving { namespace, from, to } in leaving {
            self.storage.client.namespace(namespace).retire(from, to).await?;
            tracing::info!(namespace, backend = from, "the namespace has left the backend");
        }
        Ok(())
    }
}

/// The backend that a namespace lies on where nothing else is said, and whether it is there only.
fn place<'a>(config: &'a StorageConfig, namespace: &str) -> (&'a str, bool) {
    match config.namespaces.get(namespace) {
        // Databases without a section lie on the engine.
        None if is_database(namespace) => (EMBEDDED, false),
        None => (&config.default_backend, false),
        Some(policy) => {
            let replicas = policy.replication.iter().flat_map(|of| &of.replicas);
            let at = policy.backends.iter().chain(replicas).next();
            (at.unwrap_or(&config.default_backend), policy.direct)
        }
    }
}

fn elsewhere(to: &str) -> StorageError {
    StorageError::invalid_input(format!(
        "the namespace is to lie on {to} directly, and objects of it lie on this backend; leave \
         `direct` out, or choose another namespace"
    ))
}

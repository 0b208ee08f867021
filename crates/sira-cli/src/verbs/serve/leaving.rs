//! Namespaces that leave a backend: the configuration has no place for them there any more, and the
//! catalog still says that objects may lie there.
//!
//! The backend stays in the plan at first, while nothing is put there any more. When every operation
//! by the plan before has ended and the namespace has nothing there, the catalog forgets it. A
//! process that ends in between finds the backend missing in its configuration and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sira_store::placement::Catalog;
use sira_store::{Result, StorageError};

use super::storage::{Opened, Plane};
use crate::config::storage::{EMBEDDED, StorageConfig, is_database};

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
    /// Namespaces that leave a backend, each of which has nothing there any more.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for those that have, or of which that cannot be told.
    pub(super) async fn leaving(
        &self,
        config: &StorageConfig,
        catalog: &Catalog,
        known: &[String],
        opened: &BTreeMap<String, Opened>,
    ) -> Result<Vec<Leaving>> {
        let mut leaving = Vec::new();
        for namespace in known {
            let record = catalog.record(namespace).await?;
            let used = record.into_iter().flat_map(|record| [record.used, record.mirrors]);
            let used: BTreeSet<String> = used.flatten().collect();
            let (to, direct) = place(config, namespace);
            for from in used {
                let gone = from != EMBEDDED && !opened.contains_key(&from);
                if gone || (direct && from != to) {
                    leaving.push(self.check(config, opened, namespace, from, to).await?);
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

    async fn check(
        &self,
        config: &StorageConfig,
        opened: &BTreeMap<String, Opened>,
        namespace: &str,
        from: String,
        to: &str,
    ) -> Result<Leaving> {
        let located = |error: StorageError| error.with_backend(&*from).with_namespace(namespace);
        let named = from == EMBEDDED || opened.contains_key(&from);
        let open = self.opened.get(&from).is_some_and(|opened| !opened.absent);
        if from != EMBEDDED && !open {
            return Err(located(StorageError::invalid_input(
                "objects of the namespace may lie on this backend, which the configuration does not \
                 name any more; name it, and leave it out while the server runs",
            )));
        }
        if config.catalog != EMBEDDED || self.config.catalog != EMBEDDED {
            return Err(located(StorageError::invalid_input(
                "other servers that share the catalog may keep objects of the namespace on this \
                 backend; go on naming it",
            )));
        }
        let client = self.storage.client.namespace(namespace);
        if client.first_key_on(&from).await?.is_some() {
            return Err(located(match named {
                true => elsewhere(to),
                false => StorageError::invalid_input(
                    "objects of the namespace lie on this backend, which the configuration does not \
                     name any more; name it, or move them away with `sira migrate` first",
                ),
            }));
        }
        Ok(Leaving { namespace: namespace.to_owned(), from, to: to.to_owned() })
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
        // A direct namespace may leave a backend that others stay on.
        plan.leaving.retain(|name| !opened.contains_key(name));
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
            let at = policy.backends.first().unwrap_or(&config.default_backend);
            (at, policy.direct)
        }
    }
}

fn elsewhere(to: &str) -> StorageError {
    StorageError::invalid_input(format!(
        "the namespace is to lie on {to} directly, and objects of it lie on this backend; leave \
         `direct` out, or choose another namespace"
    ))
}

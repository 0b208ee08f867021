//! Namespaces as they are stored: what copies of their objects are made from and written to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::StorageClient;
use super::view::{NAMESPACE_DEFAULT, inside};
use crate::backend::StorageBackend;
use crate::error::Result;
use crate::placement::Catalog;
use crate::seal::{Keyring, SealOptions};
use crate::sealing::SealingBackend;

/// A namespace as it is stored.
#[derive(Debug, Clone)]
pub struct StoredNamespace {
    /// Its objects with the bytes that are stored and what describes them, past cache and seal.
    pub stored: Arc<dyn StorageBackend>,
    /// Its objects as callers see them, past the defaults that the plan fills in: what is written
    /// here is sealed as the plan says, and a cache hears of it.
    pub writer: Arc<dyn StorageBackend>,
    /// Name of the one backend that holds it; `None` where several may.
    pub at: Option<String>,
    /// How values are sealed whose writes do not say.
    pub seal: SealOptions,
    /// Keys of encrypted values.
    pub keyring: Arc<Keyring>,
}

impl StorageClient {
    /// The namespace that this client is scoped to, as it is stored. What its cache holds and has
    /// not written yet is written first.
    ///
    /// # Errors
    /// [`crate::StorageError::NotFound`] when no backend is registered, and those of the backends.
    pub async fn stored(&self) -> Result<StoredNamespace> {
        let view = self.view().await?;
        if view.cache.is_some() {
            view.backend.flush().await?;
        }
        let (plan, name) = (self.plan(), self.name());
        let policy = plan.namespaces.get(name);
        let direct = policy.is_some_and(|policy| policy.direct);
        let (home, backend) = plan.home(name)?;
        let stored = match &view.placed {
            Some(placed) => Arc::clone(placed) as Arc<dyn StorageBackend>,
            None if policy.is_some_and(|policy| policy.plain) => backend.plain(name).await?,
            None => inside(backend, name).await.map_err(|error| error.with_backend(home))?,
        };
        let stored = match &plan.transaction_log {
            Some(log) => log.around(name, stored),
            None => stored,
        };
        let (seal, keyring) = (plan.seal_of(name), Arc::clone(&plan.keyring));
        let writer = match (view.cache.is_some(), direct) {
            (true, _) => Arc::clone(&view.backend),
            (false, true) => Arc::clone(&stored),
            (false, false) => {
                let inner = Arc::clone(&stored);
                Arc::new(SealingBackend::new(inner, name, Arc::clone(&keyring), seal.clone()))
            }
        };
        let at = view.at.as_deref().map(str::to_owned);
        Ok(StoredNamespace { stored, writer, at, seal, keyring })
    }

    /// Names of the namespaces that the plan and the catalog know. An engine may have more.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn known_namespaces(&self) -> Result<BTreeSet<String>> {
        let plan = self.plan();
        let mut names: BTreeSet<String> = plan.namespaces.keys().cloned().collect();
        names.insert(NAMESPACE_DEFAULT.to_owned());
        if let Some(catalog) = &plan.catalog {
            names.extend(catalog.namespaces().await?);
        }
        names.retain(|name| !Catalog::owns(name));
        Ok(names)
    }
}

//! One client over every registered backend.

mod census;
mod choice;
mod explain;
mod lifecycle;
mod maintenance;
mod movement;
mod observe;
mod plan;
mod relocation;
mod replicas;
mod retire;
mod scrub;
mod shadow;
mod shared;
mod stored;
mod syncing;
mod transactions;
mod versions;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{
    BatchOperation, BatchResult, HealthStatus, ListOptions, ListPage, Object, ReadOptions,
    StorageBackend, StorageStats,
};
use crate::blocking::Blocking;
use crate::cache::CacheStats;
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::lock::LockManager;
use crate::options::{Condition, StorageOptions};
use crate::placement::CopyFigures;
use crate::version::Version;

pub use census::CountedPage;
pub use explain::Whereabouts;
pub use movement::DataMovement;
pub use plan::{NamespacePolicy, StoragePlan};
pub use scrub::{ScrubCursor, ScrubbedObjects};
pub use stored::StoredNamespace;
pub use syncing::{DataSync, DataSyncProgress, SyncPlace, SyncPlan};

pub(crate) use lifecycle::LifecycleSpace;
pub(crate) use transactions::draw_apart;

use shared::Shared;
use view::{NAMESPACE_DEFAULT, View};

/// A namespace with everything that the plan says of it.
#[derive(Debug, Clone)]
pub struct OpenNamespace {
    /// The namespace as a backend.
    pub backend: Arc<dyn StorageBackend>,
    /// Name of the one backend that holds it; `None` where the plan has a catalog and so any may.
    pub at: Option<Arc<str>>,
    /// Tells a later plan that this one is in use.
    _view: Arc<View>,
}

/// One client over every registered backend. Clones share the backends.
///
/// Operations go to the default backend, which is the first that was registered until another is
/// chosen, unless a [`StoragePlan`] says more. What a backend does not declare among its capabilities is refused before it is tried.
///
/// ```
/// use std::sync::Arc;
/// use sira_store::{MemoryBackend, StorageClient, StorageOptions};
///
/// # pollster::block_on(async {
/// let client = StorageClient::new();
/// client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
///
/// client.store("model/v1", "weights", StorageOptions::default()).await?;
/// assert_eq!(client.retrieve("model/v1").await?.as_deref(), Some(&b"weights"[..]));
///
/// let tenant = client.namespace("tenant-7");
/// assert_eq!(tenant.retrieve("model/v1").await?, None);
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Clone, Default)]
pub struct StorageClient {
    shared: Arc<Shared>,
    namespace: Option<Arc<str>>,
}

impl StorageClient {
    /// A client without backends.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a backend under a name. The first one becomes the default.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when the name is empty or taken.
    pub fn register_backend(
        &self,
        name: impl Into<String>,
        backend: Arc<dyn StorageBackend>,
    ) -> Result<()> {
        let name = name.into();
        if name.is_empty() {
            return Err(StorageError::invalid_input("a backend must have a name"));
        }
        self.shared.change(|plan| {
            if plan.backends.contains_key(&name) {
                return Err(StorageError::invalid_input(
                    "a backend of this name is registered already; choose another name",
                )
                .with_backend(&name));
            }
            plan.default_backend.get_or_insert_with(|| name.clone());
            plan.backends.insert(name.clone(), backend);
            Ok(())
        })
    }

    /// Names of the registered backends, in byte order.
    #[must_use]
    pub fn backends(&self) -> Vec<String> {
        self.shared.plan().backends.keys().cloned().collect()
    }

    /// The backend that is registered under a name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Arc<dyn StorageBackend>> {
        self.shared.plan().backends.get(name).cloned()
    }

    /// Name of the backend that operations go to; `None` before one is registered.
    #[must_use]
    pub fn default_backend(&self) -> Option<String> {
        self.shared.plan().default_backend.clone()
    }

    /// Sends the operations that begin from now on, of this client and its clones, to the backend
    /// of this name, where no policy says otherwise.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when none is registered under it.
    pub fn set_default_backend(&self, name: &str) -> Result<()> {
        self.shared.change(|plan| {
            plan.find(name)?;
            plan.default_backend = Some(name.to_owned());
            Ok(())
        })
    }

    /// What this client and its clones go by.
    #[must_use]
    pub fn plan(&self) -> Arc<StoragePlan> {
        self.shared.plan()
    }

    /// Locks that this client and its clones take.
    #[must_use]
    pub fn locks(&self) -> &LockManager {
        self.shared.locks.get_or_init(LockManager::default)
    }

    /// Takes locks here from now on.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when locks were taken elsewhere already.
    pub fn use_locks(&self, locks: LockManager) -> Result<()> {
        self.shared.locks.set(locks).map_err(|_| {
            StorageError::invalid_input(
                "the client has locks already; choose where before it is used",
            )
        })
    }

    /// What came of copies on mirrors and of shadows since the start, whatever the plans were.
    #[must_use]
    pub fn copy_figures(&self) -> &CopyFigures {
        &self.shared.figures
    }

    /// Replaces everything that this client and its clones go by, as one step: operations that begin
    /// from now on follow the new plan, those under way end by the old one.
    ///
    /// Objects are found wherever earlier plans put them if both plans have the same catalog. A
    /// namespace with a cache does without until what began under the old plan has ended.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sira_store::client::{NamespacePolicy, StoragePlan};
    /// use sira_store::{CompressionType, MemoryBackend, StorageClient, StorageOptions};
    ///
    /// # pollster::block_on(async {
    /// let (hot, cold) = (Arc::new(MemoryBackend::new(64 << 20)), Arc::new(MemoryBackend::new(64 << 20)));
    /// let client = StorageClient::new();
    /// let mut plan = StoragePlan::default();
    /// plan.backends.insert("hot".to_owned(), hot);
    /// plan.backends.insert("cold".to_owned(), cold);
    /// plan.default_backend = Some("hot".to_owned());
    /// let archive = NamespacePolicy {
    ///     compression: Some(CompressionType::Zstd),
    ///     ..NamespacePolicy::on("cold")
    /// };
    /// plan.namespaces.insert("archive".to_owned(), archive);
    /// client.apply(plan)?;
    ///
    /// client.namespace("archive").store("k", "v".repeat(1000), StorageOptions::default()).await?;
    /// # Ok::<_, sira_store::StorageError>(()) })?;
    /// # Ok::<_, sira_store::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// As [`StoragePlan::check`]; then the old plan stays.
    pub fn apply(&self, plan: StoragePlan) -> Result<()> {
        plan.check()?;
        let plan = plan.with_kept_versions()?;
        self.shared.change(|old| {
            *old = plan;
            Ok(())
        })
    }

    /// The same client, scoped to the namespace of this name, which is made by the first operation
    /// in it. A scope replaces the one before: namespaces do not nest. A name that can name none is
    /// an error of each operation.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), namespace: Some(name.into()) }
    }

    /// The namespace that this client is scoped to, as a backend with everything that the plan says
    /// of it. It follows the plan of now; ask again after the plan has changed.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when no backend is registered, and those of the backends.
    pub async fn open(&self) -> Result<OpenNamespace> {
        let view = self.view().await?;
        Ok(OpenNamespace { backend: Arc::clone(&view.backend), at: view.at.clone(), _view: view })
    }

    /// Blocking use of this client.
    #[must_use]
    pub fn blocking(&self) -> Blocking<Self> {
        Blocking::new(self.clone())
    }

    /// Stores an object and returns its version.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for options that the backend does not declare, and as
    /// [`StorageBackend::put`].
    pub async fn store(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        options: StorageOptions,
    ) -> Result<Version> {
        let value = value.into();
        let view = self.view().await?;
        let stored = match view.check_put(key, value.len(), &options) {
            Ok(()) => view.backend.put(key, value, options).await,
            Err(error) => Err(error.with_key(key)),
        };
        view.named(stored)
    }

    /// The bytes under a key.
    ///
    /// # Errors
    /// As [`StorageBackend::get`].
    pub async fn retrieve(&self, key: &str) -> Result<Option<Bytes>> {
        let view = self.view().await?;
        view.named(view.backend.get(key).await)
    }

    /// The object under a key, or a range of it.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    pub async fn retrieve_object(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let view = self.view().await?;
        view.named(view.backend.read(key, options).await)
    }

    /// Removes an object and says whether one was there.
    ///
    /// # Errors
    /// As [`StorageBackend::delete`].
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let view = self.view().await?;
        view.named(view.backend.delete(key).await)
    }

    /// Whether a key holds an object.
    ///
    /// # Errors
    /// As [`StorageBackend::exists`].
    pub async fn exists(&self, key: &str) -> Result<bool> {
        let view = self.view().await?;
        view.named(view.backend.exists(key).await)
    }

    /// Up to `limit` keys that begin with `prefix`, in byte order.
    ///
    /// # Errors
    /// As [`StorageBackend::list_keys`].
    pub async fn list_keys(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let view = self.view().await?;
        view.named(view.backend.list_keys(prefix, limit).await)
    }

    /// A page of keys in byte order.
    ///
    /// # Errors
    /// As [`StorageBackend::list`].
    pub async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let view = self.view().await?;
        view.named(view.backend.list(options).await)
    }

    /// Runs the operations and answers each.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for options that the backend does not declare; then nothing is
    /// run. As [`StorageBackend::batch`].
    pub async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let view = self.view().await?;
        let declared = view.check_operations(&operations);
        let results = match declared {
            Ok(()) => view.backend.batch(operations).await,
            Err(error) => Err(error),
        };
        view.named(results)
    }

    /// Figures of the caches that are in use, by namespace.
    #[must_use]
    pub fn cache_stats(&self) -> BTreeMap<String, CacheStats> {
        self.shared.cache_stats()
    }

    /// Figures of the default backend.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when no backend is registered, and as [`StorageBackend::stats`].
    pub async fn stats(&self) -> Result<StorageStats> {
        let view = self.view().await?;
        view.named(view.backend.stats().await)
    }

    /// How the default backend does.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when no backend is registered.
    pub async fn health_check(&self) -> Result<HealthStatus> {
        Ok(self.view().await?.backend.health_check().await)
    }

    fn name(&self) -> &str {
        self.namespace.as_deref().unwrap_or(NAMESPACE_DEFAULT)
    }

    async fn view(&self) -> Result<Arc<View>> {
        self.shared.view(self.name()).await
    }
}

impl View {
    /// Checks a write against the limits and against what the backend declares.
    fn check_put(&self, key: &str, value_bytes: usize, options: &StorageOptions) -> Result<()> {
        check_key(key)?;
        self.check_declared(options)?;
        let capabilities = &self.capabilities;
        if value_bytes as u64 > capabilities.value_bytes_max {
            return Err(StorageError::too_large(format!(
                "{} takes values of up to {} bytes, this one has {value_bytes}",
                capabilities.name, capabilities.value_bytes_max
            )));
        }
        Ok(())
    }

    /// Checks what operations ask for against what the backend declares.
    fn check_operations(&self, operations: &[BatchOperation]) -> Result<()> {
        operations.iter().try_for_each(|operation| match operation {
            BatchOperation::Put { key, options, .. } => {
                self.check_declared(options).map_err(|error| error.with_key(key))
            }
            BatchOperation::Delete { .. } | BatchOperation::Check { .. } => {
                let condition = operation.condition();
                let options = StorageOptions { condition, ..StorageOptions::default() };
                self.check_declared(&options).map_err(|error| error.with_key(operation.key()))
            }
            BatchOperation::Get { .. } => Ok(()),
        })
    }

    /// Checks the options of a write against what the backend declares.
    fn check_declared(&self, options: &StorageOptions) -> Result<()> {
        let capabilities = &self.capabilities;
        let expires = options.ttl.is_some() || options.expires_at_ms.is_some();
        let wanted = [
            ("objects that expire", expires, capabilities.ttl),
            ("conditions", options.condition != Condition::Always, capabilities.conditional),
            ("metadata", !options.metadata.is_empty(), capabilities.metadata),
            ("versions of the caller's", options.version.is_some(), capabilities.exact_versions),
        ];
        for (what, asked, declared) in wanted {
            if asked && !declared {
                return Err(StorageError::unsupported(format!(
                    "{} has no {what}; leave the option out or choose another backend",
                    capabilities.name
                )));
            }
        }
        Ok(())
    }

    /// Names the backend in an error that does not yet.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match (&self.at, &error.detail().backend) {
            (Some(name), None) => error.with_backend(&**name),
            _ => error,
        })
    }
}

impl fmt::Debug for StorageClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageClient")
            .field("backends", &self.backends())
            .field("default", &self.default_backend())
            .field("namespace", &self.namespace)
            .finish()
    }
}

#[cfg(test)]
mod tests;

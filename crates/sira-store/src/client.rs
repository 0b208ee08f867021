//! One client over every registered backend.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::backend::{
    BatchOperation, BatchResult, HealthStatus, ListOptions, ListPage, Object, ReadOptions,
    StorageBackend, StorageStats,
};
use crate::blocking::Blocking;
use crate::error::{Result, StorageError};
use crate::key::{check_key, check_transforms};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// One client over every registered backend. Clones share the backends.
///
/// Operations go to the default backend, which is the first that was registered until another is
/// chosen. What a backend does not declare among its capabilities is refused before it is tried.
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
    registry: Arc<RwLock<Registry>>,
    scope: Option<Arc<Scope>>,
}

#[derive(Default)]
struct Registry {
    backends: BTreeMap<String, Arc<dyn StorageBackend>>,
    default: Option<Target>,
}

/// A backend and the name that it is registered under.
#[derive(Clone)]
struct Target {
    name: Arc<str>,
    backend: Arc<dyn StorageBackend>,
}

/// A namespace, and the last backend's view of it.
struct Scope {
    namespace: String,
    view: ArcSwapOption<View>,
}

/// `inside` is the namespace of `whole`.
struct View {
    whole: Arc<dyn StorageBackend>,
    inside: Arc<dyn StorageBackend>,
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
        let mut registry = self.registry.write();
        if registry.backends.contains_key(&name) {
            return Err(StorageError::invalid_input(
                "a backend of this name is registered already; choose another name",
            )
            .with_backend(name));
        }
        if registry.default.is_none() {
            let target = Target { name: name.as_str().into(), backend: Arc::clone(&backend) };
            registry.default = Some(target);
        }
        registry.backends.insert(name, backend);
        Ok(())
    }

    /// Names of the registered backends, in byte order.
    #[must_use]
    pub fn backends(&self) -> Vec<String> {
        self.registry.read().backends.keys().cloned().collect()
    }

    /// The backend that is registered under a name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Arc<dyn StorageBackend>> {
        self.registry.read().backends.get(name).cloned()
    }

    /// Name of the backend that operations go to; `None` before one is registered.
    #[must_use]
    pub fn default_backend(&self) -> Option<String> {
        self.registry.read().default.as_ref().map(|target| target.name.to_string())
    }

    /// Sends the operations that begin from now on, of this client and its clones, to the backend
    /// of this name.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when none is registered under it.
    pub fn set_default_backend(&self, name: &str) -> Result<()> {
        let mut registry = self.registry.write();
        let Some(backend) = registry.backends.get(name).cloned() else {
            let known: Vec<_> = registry.backends.keys().map(String::as_str).collect();
            return Err(StorageError::not_found(format!(
                "no backend of this name is registered; there are [{}]",
                known.join(", ")
            ))
            .with_backend(name));
        };
        registry.default = Some(Target { name: name.into(), backend });
        Ok(())
    }

    /// The same client, scoped to the namespace of this name, which is made by the first operation
    /// in it. A scope replaces the one before: namespaces do not nest. A name that can name none is
    /// an error of each operation.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        let scope = Scope { namespace: name.to_owned(), view: ArcSwapOption::empty() };
        Self { registry: Arc::clone(&self.registry), scope: Some(Arc::new(scope)) }
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
        let target = self.target().await?;
        let stored = match target.check_put(key, value.len(), &options) {
            Ok(()) => target.backend.put(key, value, options).await,
            Err(error) => Err(error.with_key(key)),
        };
        target.named(stored)
    }

    /// The bytes under a key.
    ///
    /// # Errors
    /// As [`StorageBackend::get`].
    pub async fn retrieve(&self, key: &str) -> Result<Option<Bytes>> {
        let target = self.target().await?;
        target.named(target.backend.get(key).await)
    }

    /// The object under a key, or a range of it.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    pub async fn retrieve_object(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let target = self.target().await?;
        target.named(target.backend.read(key, options).await)
    }

    /// Removes an object and says whether one was there.
    ///
    /// # Errors
    /// As [`StorageBackend::delete`].
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let target = self.target().await?;
        target.named(target.backend.delete(key).await)
    }

    /// Whether a key holds an object.
    ///
    /// # Errors
    /// As [`StorageBackend::exists`].
    pub async fn exists(&self, key: &str) -> Result<bool> {
        let target = self.target().await?;
        target.named(target.backend.exists(key).await)
    }

    /// Up to `limit` keys that begin with `prefix`, in byte order.
    ///
    /// # Errors
    /// As [`StorageBackend::list_keys`].
    pub async fn list_keys(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let target = self.target().await?;
        target.named(target.backend.list_keys(prefix, limit).await)
    }

    /// A page of keys in byte order.
    ///
    /// # Errors
    /// As [`StorageBackend::list`].
    pub async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let target = self.target().await?;
        target.named(target.backend.list(options).await)
    }

    /// Runs the operations and answers each.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for options that the backend does not declare; then nothing is
    /// run. As [`StorageBackend::batch`].
    pub async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let target = self.target().await?;
        let declared = operations.iter().try_for_each(|operation| match operation {
            BatchOperation::Put { key, options, .. } => {
                target.check_declared(options).map_err(|error| error.with_key(key))
            }
            BatchOperation::Get { .. } | BatchOperation::Delete { .. } => Ok(()),
        });
        let results = match declared {
            Ok(()) => target.backend.batch(operations).await,
            Err(error) => Err(error),
        };
        target.named(results)
    }

    /// Figures of the default backend.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when no backend is registered, and as [`StorageBackend::stats`].
    pub async fn stats(&self) -> Result<StorageStats> {
        let target = self.target().await?;
        target.named(target.backend.stats().await)
    }

    /// How the default backend does.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when no backend is registered.
    pub async fn health_check(&self) -> Result<HealthStatus> {
        Ok(self.target().await?.backend.health_check().await)
    }

    /// Where operations go: the default backend, or this client's namespace of it.
    async fn target(&self) -> Result<Target> {
        let target = self.registry.read().default.clone();
        let target = target.ok_or_else(|| {
            StorageError::not_found(
                "no backend is registered; call StorageClient::register_backend first",
            )
        })?;
        let Some(scope) = &self.scope else { return Ok(target) };
        if let Some(view) = &*scope.view.load()
            && Arc::ptr_eq(&view.whole, &target.backend)
        {
            return Ok(Target { backend: Arc::clone(&view.inside), ..target });
        }
        let inside = target.named(target.backend.namespace(&scope.namespace).await)?;
        let view = View { whole: Arc::clone(&target.backend), inside: Arc::clone(&inside) };
        scope.view.store(Some(Arc::new(view)));
        Ok(Target { backend: inside, ..target })
    }
}

impl Target {
    /// Checks a write against the limits and against what the backend declares.
    fn check_put(&self, key: &str, value_bytes: usize, options: &StorageOptions) -> Result<()> {
        check_key(key)?;
        self.check_declared(options)?;
        let capabilities = self.backend.capabilities();
        if value_bytes as u64 > capabilities.value_bytes_max {
            return Err(StorageError::too_large(format!(
                "{} takes values of up to {} bytes, this one has {value_bytes}",
                capabilities.name, capabilities.value_bytes_max
            )));
        }
        Ok(())
    }

    /// Checks the options of a write against what the backend declares.
    fn check_declared(&self, options: &StorageOptions) -> Result<()> {
        check_transforms(options)?;
        let capabilities = self.backend.capabilities();
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

    /// Names the backend in an error.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_backend(&*self.name))
    }
}

impl fmt::Debug for StorageClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageClient")
            .field("backends", &self.backends())
            .field("default", &self.default_backend())
            .field("namespace", &self.scope.as_ref().map(|scope| &scope.namespace))
            .finish()
    }
}

#[cfg(test)]
mod tests;

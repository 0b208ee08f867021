//! A namespace as the client shows it: cache, seal, placement and the namespace's own defaults
//! around its backends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::choice::Choice;
use super::observe::Observer;
use super::plan::{NamespacePolicy, StoragePlan};
use super::shadow::ShadowedBackend;
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::cache::CacheBackend;
use crate::env::SystemEnv;
use crate::error::Result;
use crate::layers::Layered;
use crate::options::{Condition, Durability, StorageOptions};
use crate::placement::{Catalog, CopyFigures, PlacedBackend};
use crate::sealing::SealingBackend;
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;
use crate::version_history::VersionedBackend;

/// Namespace that engines show outside of any, and that an unscoped client goes by.
pub(super) const NAMESPACE_DEFAULT: &str = "default";

/// A namespace, composed.
#[derive(Debug)]
pub(super) struct View {
    pub(super) backend: Arc<dyn StorageBackend>,
    /// The same without defaults and earlier versions.
    pub(super) sealed: Arc<dyn StorageBackend>,
    /// Of `backend`, which need not be asked for them each time.
    pub(super) capabilities: Capabilities,
    /// Name of the one backend that holds the namespace; `None` where several may.
    pub(super) at: Option<Arc<str>>,
    /// The same without cache and seal, where several may.
    pub(super) placed: Option<Arc<PlacedBackend>>,
    /// The cache that is part of it, which must not be in use twice.
    pub(super) cache: Option<Arc<CacheBackend>>,
    /// What keeps earlier versions, where that is done.
    pub(super) versions: Option<Arc<VersionedBackend>>,
}

impl View {
    /// Composes the namespace of this name; without its cache unless `may_cache`. `kept` holds earlier
    /// versions, where the namespace keeps them.
    pub(super) async fn compose(
        plan: &StoragePlan,
        namespace: &str,
        may_cache: bool,
        figures: &Arc<CopyFigures>,
        kept: Option<Arc<View>>,
    ) -> Result<Self> {
        let unchanged = NamespacePolicy::default();
        let policy = plan.namespaces.get(namespace).unwrap_or(&unchanged);
        let (home, backend) = plan.home(namespace)?;
        let (mut backend, at, placed) = match plan.catalog_of(namespace) {
            None => {
                let inside = match policy.plain {
                    true => backend.plain(namespace).await,
                    false => inside(backend, namespace).await,
                };
                (inside.map_err(|error| error.with_backend(home))?, Some(home.into()), None)
            }
            Some(catalog) => {
                let placed = place(plan, catalog, policy, namespace, home).await?;
                let placed = Arc::new(placed.with_figures(Arc::clone(figures)));
                placed.keep_mended();
                let mut backend = Arc::clone(&placed) as Arc<dyn StorageBackend>;
                let fixed = policy.backends.len() == 1 || policy.replication.is_some();
                if let (Some(router), false) = (&plan.router, fixed) {
                    let own = &policy.backends;
                    let (all, inner) = (&plan.backends, backend);
                    backend = ShadowedBackend::around(inner, namespace, router, all, own, figures);
                }
                (backend, None, Some(placed))
            }
        };
        if let Some(log) = &plan.transaction_log {
            backend = log.around(namespace, backend);
        }
        let stored = Arc::clone(&backend);
        let seal = plan.seal_of(namespace);
        let cache = policy.cache.clone().filter(|_| may_cache);
        let mut tier = None;
        // What is kept of encrypted values is encrypted too; of others it is ready to be served.
        let encrypted = seal.is_encrypted();
        if let (true, Some(options)) = (encrypted, &cache) {
            let cached = Arc::new(CacheBackend::new(backend, options.clone())?);
            tier = Some(Arc::clone(&cached));
            backend = cached;
        }
        if !policy.direct {
            let keyring = Arc::clone(&plan.keyring);
            backend = Arc::new(SealingBackend::new(backend, namespace, keyring, seal.clone()));
        }
        if let (false, Some(options)) = (encrypted, cache) {
            let cached = Arc::new(CacheBackend::new(backend, options)?);
            tier = Some(Arc::clone(&cached));
            backend = cached;
        }
        let sealed = Arc::clone(&backend);
        let mut versions = None;
        if let (Some(keep), Some(kept)) = (policy.keep_versions, kept) {
            let (inner, env) = (Arc::clone(&backend), Arc::new(SystemEnv));
            let kept = Arc::clone(&kept.backend);
            let mut versioned = VersionedBackend::new(namespace, inner, kept, keep, env)?;
            if tier.is_some() {
                let keyring = Arc::clone(&plan.keyring);
                let uncached = SealingBackend::new(stored, namespace, keyring, seal);
                versioned = versioned.reading(Arc::new(uncached));
            }
            let versioned = Arc::new(versioned);
            versions = Some(Arc::clone(&versioned));
            backend = versioned;
        }
        if policy.ttl.is_some() || policy.durability.is_some() {
            let (ttl, durability) = (policy.ttl, policy.durability);
            backend = Arc::new(WithDefaults { inner: backend, ttl, durability });
        }
        Ok(Self {
            capabilities: backend.capabilities(),
            backend,
            sealed,
            at,
            placed,
            cache: tier,
            versions,
        })
    }
}

/// The namespace of this name on a backend.
pub(super) async fn inside(
    backend: &Arc<dyn StorageBackend>,
    namespace: &str,
) -> Result<Arc<dyn StorageBackend>> {
    match namespace {
        NAMESPACE_DEFAULT => Ok(Arc::clone(backend)),
        name => backend.namespace(name).await,
    }
}

/// A namespace over every backend that can share one.
async fn place(
    plan: &StoragePlan,
    catalog: &Catalog,
    policy: &NamespacePolicy,
    namespace: &str,
    home: &str,
) -> Result<PlacedBackend> {
    let mut backends = BTreeMap::new();
    for (name, backend) in &plan.backends {
        let capabilities = backend.capabilities();
        let mut replicas = policy.replication.iter().flat_map(|of| &of.replicas);
        let asked = name == home
            || policy.backends.contains(name)
            || replicas.any(|replica| replica == name);
        let can_share = capabilities.conditional && capabilities.exact_versions;
        if !(asked || can_share) {
            continue;
        }
        let mut view =
            inside(backend, namespace).await.map_err(|error| error.with_backend(name))?;
        if let Some(router) = &plan.router {
            let router = Arc::clone(router);
            let observer = Observer { router, backend: name.clone(), namespace: namespace.into() };
            view = Arc::new(Layered::new(view, Arc::new(observer)));
        }
        backends.insert(name.clone(), view);
    }
    let choice = Choice {
        backends: policy.backends.clone(),
        fallback: home.to_owned(),
        router: plan.router.clone(),
    };
    let env = Arc::new(SystemEnv);
    let placed = PlacedBackend::open(catalog, namespace, home, backends, Arc::new(choice), env);
    let placed = placed.await?.avoiding(&plan.leaving);
    match &policy.replication {
        Some(replication) => placed.replicated(replication.clone()).await,
        None => placed.unreplicated().await,
    }
}

/// Fills in what writes do not say.
struct WithDefaults {
    inner: Arc<dyn StorageBackend>,
    ttl: Option<Duration>,
    durability: Option<Durability>,
}

impl WithDefaults {
    fn fill(&self, mut options: StorageOptions) -> StorageOptions {
        if options.ttl.is_none() && options.expires_at_ms.is_none() {
            options.ttl = self.ttl;
        }
        options.durability = options.durability.or(self.durability);
        options
    }

    fn fill_all(&self, operations: &mut [BatchOperation]) {
        for operation in operations {
            if let BatchOperation::Put { options, .. } = operation {
                *options = self.fill(std::mem::take(options));
            }
        }
    }
}

impl fmt::Debug for WithDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithDefaults")
            .field("inner", &self.inner)
            .field("ttl", &self.ttl)
            .field("durability", &self.durability)
            .finish()
    }
}

#[async_trait]
impl StorageBackend for WithDefaults {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.inner.put(key, value, self.fill(options)).await
    }

    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        self.inner.put_stream(key, body, self.fill(options)).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.inner.head(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.inner.exists(key).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, mut operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.fill_all(&mut operations);
        self.inner.batch(operations).await
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.inner.transaction_engine()
    }

    async fn prepare(&self, mut part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.fill_all(&mut part.operations);
        self.inner.prepare(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }
}

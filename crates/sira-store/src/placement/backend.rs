//! The storage trait over several backends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::MutexGuard;

use super::catalog::{Catalog, Entries, NamespaceRecord};
use super::copies::Versioned;
use super::entry::{Copies, Entry};
use super::figures::CopyFigures;
use super::mender::Mender;
use super::replication::{Consistency, Replication};
use super::{PlacementPolicy, listing};
use crate::backend::{
    Capabilities, HealthStatus, ListOptions, ListPage, Object, ObjectHead, ReadOptions,
    StorageBackend, StorageStats,
};
use crate::driver::KeyLocks;
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::options::{Condition, StorageOptions};
use crate::version::{HybridClock, Version};

/// Times that an operation begins again because its object was moved meanwhile.
pub(super) const ATTEMPTS: usize = 32;

/// A namespace whose objects lie on several backends.
#[derive(Debug)]
pub struct PlacedBackend {
    pub(super) namespace: Arc<str>,
    pub(super) entries: Entries,
    pub(super) record: RwLock<NamespaceRecord>,
    /// The namespace's view of each backend.
    pub(super) backends: BTreeMap<String, Arc<dyn StorageBackend>>,
    pub(super) names: Vec<String>,
    pub(super) policy: Arc<dyn PlacementPolicy>,
    /// What is promised where every object is on the same backends; then no policy is asked.
    pub(super) replication: Option<Replication>,
    /// Reads that any replica may answer, counted.
    pub(super) turns: AtomicUsize,
    /// When a warning about copies was last given, by the monotonic clock.
    pub(super) told_behind_ms: AtomicU64,
    /// The same, about objects that went to another replica.
    pub(super) told_failover_ms: AtomicU64,
    pub(super) env: Arc<dyn Env>,
    pub(super) clock: HybridClock,
    locks: KeyLocks,
    /// Number of this process among those that move objects.
    pub(super) mover: u64,
    pub(super) figures: Arc<CopyFigures>,
    pub(super) mender: Arc<Mender>,
}

/// Where an object lies, and the version of the entry that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) version: Option<Version>,
}

impl PlacedBackend {
    /// A namespace over these backends, by name; each is the backend's view of the namespace. `home`
    /// holds what lay in the namespace before, and what has no entry; a namespace that the catalog
    /// knows keeps the home it has.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the home, or another backend that holds objects of the
    /// namespace, is not among the backends; [`StorageError::Unsupported`] for a backend that does
    /// not keep versions or check conditions; the catalog's own.
    pub async fn open(
        catalog: &Catalog,
        namespace: &str,
        home: &str,
        backends: BTreeMap<String, Arc<dyn StorageBackend>>,
        policy: Arc<dyn PlacementPolicy>,
        env: Arc<dyn Env>,
    ) -> Result<Self> {
        for (name, backend) in &backends {
            let capabilities = backend.capabilities();
            if !(capabilities.conditional && capabilities.exact_versions) {
                return Err(StorageError::unsupported(format!(
                    "{} cannot share a namespace with other backends: it takes conditions and \
                     versions that are given",
                    capabilities.name
                ))
                .with_backend(name));
            }
        }
        let (entries, record) = catalog.open(namespace, home).await?;
        if let Some(missing) = record.used.iter().find(|name| !backends.contains_key(*name)) {
            return Err(StorageError::not_found(
                "objects of the namespace lie on a backend that is not registered; register it, \
                 or move them away first",
            )
            .with_backend(missing)
            .with_namespace(namespace));
        }
        Ok(Self {
            namespace: namespace.into(),
            entries,
            record: RwLock::new(record),
            names: backends.keys().cloned().collect(),
            backends,
            policy,
            replication: None,
            turns: AtomicUsize::default(),
            told_behind_ms: AtomicU64::default(),
            told_failover_ms: AtomicU64::default(),
            mover: env.random_u64(),
            env,
            clock: HybridClock::default(),
            locks: KeyLocks::new(),
            figures: Arc::default(),
            mender: Arc::default(),
        })
    }

    /// The same, counting what comes of copies where others count too.
    #[must_use]
    pub fn with_figures(mut self, figures: Arc<CopyFigures>) -> Self {
        self.figures = figures;
        self
    }

    /// The turn of one operation that writes to a key.
    pub(super) async fn turn(&self, key: &str) -> Option<MutexGuard<'_, ()>> {
        self.locks.lock(&self.namespace, key).await
    }

    /// The same, but nothing is put on these backends that does not lie there already.
    #[must_use]
    pub fn avoiding(mut self, names: &BTreeSet<String>) -> Self {
        self.names.retain(|name| !names.contains(name));
        self
    }

    /// What the catalog knows of the namespace.
    #[must_use]
    pub fn record(&self) -> NamespaceRecord {
        self.record.read().clone()
    }

    /// Name of the backend that an object lies on, or would be looked for on.
    ///
    /// # Errors
    /// The catalog's own.
    pub async fn place(&self, key: &str) -> Result<String> {
        Ok(self.find(key).await?.entry.at)
    }

    /// Where copies of an object lie, and which of them are as the object is.
    ///
    /// # Errors
    /// The catalog's own.
    pub async fn copies(&self, key: &str) -> Result<Copies> {
        Ok(self.find(key).await?.entry.copies)
    }

    /// Moves an object to a backend and keeps its version; whatever else is done to it meanwhile is
    /// done as before. A replicated object is on each of its replicas, and stays.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that is not there, [`StorageError::Unsupported`] for
    /// an object that lies on a replica of its namespace, and those of the backends; then the object
    /// is where it was, or the next write to it ends the move.
    pub async fn relocate(&self, key: &str, to: &str) -> Result<()> {
        check_key(key)?;
        let _turn = self.turn(key).await;
        let found = self.settled(key).await?;
        if found.entry.at == to {
            return Ok(());
        }
        let is_replica = |name: &str| {
            let mut names = self.replication.iter().flat_map(|replication| &replication.replicas);
            names.any(|replica| replica == name)
        };
        if self.replication.is_some() && (is_replica(&found.entry.at) || !is_replica(to)) {
            return Err(StorageError::unsupported(
                "the namespace is replicated: change its replicas, and repair it",
            )
            .with_backend(to));
        }
        self.begin_move(key, &found, to).await?;
        Ok(())
    }

    /// What the catalog knows of the namespace now.
    pub(super) async fn newest_record(&self) -> Result<NamespaceRecord> {
        if let Some(record) = self.entries.newest_record().await? {
            *self.record.write() = record;
        }
        Ok(self.record())
    }

    pub(super) fn backend(&self, name: &str) -> Result<&Arc<dyn StorageBackend>> {
        self.backends.get(name).ok_or_else(|| {
            StorageError::not_found("the object lies on a backend that is not registered")
                .with_backend(name)
        })
    }

    pub(super) async fn find(&self, key: &str) -> Result<Found> {
        Ok(match self.entries.get(key).await? {
            Some((entry, version)) => Found { entry, version: Some(version) },
            None => {
                let at = self.record.read().home.clone();
                Found { entry: Entry::at(at), version: None }
            }
        })
    }

    /// Reads by `read` wherever the object lies.
    async fn seek<T, F>(
        &self,
        key: &str,
        read: impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Option<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        check_key(key)?;
        if let Some(replication) = &self.replication {
            if replication.consistency == Consistency::Weak {
                return self.read_any(replication, &read).await;
            }
            if let Some(answer) = self.seek_newest(key, &read).await? {
                return Ok(answer);
            }
        }
        for _ in 0..ATTEMPTS {
            let found = self.find(key).await?;
            let name = &found.entry.at;
            let mut result = read(Arc::clone(self.backend(name)?)).await;
            let mut seen = name;
            // A condition may fail because the object has gone to the new place.
            let gone = matches!(&result, Ok(None) | Err(StorageError::PreconditionFailed(_)));
            if gone
                && let Some(moving) = &found.entry.moving
                && moving.copied.is_some()
                && self.backend(name)?.head(key).await?.is_none()
            {
                seen = &moving.to;
                result = read(Arc::clone(self.backend(seen)?)).await;
            }
            match result {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) | Err(StorageError::PreconditionFailed(_)) => {
                    if self.find(key).await? == found {
                        return result.map_err(|error| error.with_backend(seen));
                    }
                }
                Err(error) => {
                    return match self.read_copy(key, &found, &error, &read).await {
                        Some(answer) => answer.map(Some),
                        None => Err(error.with_backend(seen)),
                    };
                }
            }
        }
        Err(self.restless())
    }

    pub(super) fn restless(&self) -> StorageError {
        StorageError::conflict("the object is moved again and again; try again")
            .with_namespace(&*self.namespace)
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.namespace).with_key(key)
    }
}

#[async_trait]
impl StorageBackend for PlacedBackend {
    /// What all backends can do. Batches are not atomic, since their objects may lie apart.
    fn capabilities(&self) -> Capabilities {
        let all = |can: fn(&Capabilities) -> bool| {
            self.backends.values().all(|backend| can(&backend.capabilities()))
        };
        let bytes_max =
            self.backends.values().map(|backend| backend.capabilities().value_bytes_max);
        Capabilities {
            name: "placed",
            persistent: all(|backend| backend.persistent),
            ttl: all(|backend| backend.ttl),
            conditional: true,
            list: all(|backend| backend.list),
            list_sizes: all(|backend| backend.list_sizes),
            exact_versions: true,
            range: all(|backend| backend.range),
            atomic_batch: false,
            namespaces: false,
            metadata: all(|backend| backend.metadata),
            value_bytes_max: bytes_max.min().unwrap_or(0),
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.write(key, value, options).await.map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let read = self.seek(key, |backend| {
            let options = options.clone();
            async move { backend.read(key, options).await }
        });
        read.await.map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head = self.seek(key, |backend| async move { backend.head(key).await });
        head.await.map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.erase(key, condition).await.map_err(|error| self.locate(error, key))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        listing::page(self, &options).await.map_err(|error| error.with_namespace(&*self.namespace))
    }

    /// The sums over the backends, whatever else they hold.
    async fn stats(&self) -> Result<StorageStats> {
        let mut all = StorageStats::default();
        for (name, backend) in &self.backends {
            let stats = backend.stats().await.map_err(|error| error.with_backend(name))?;
            all.keys += stats.keys;
            all.live_bytes += stats.live_bytes;
            all.dead_bytes += stats.dead_bytes;
            all.used_bytes += stats.used_bytes;
            all.segments += stats.segments;
            all.index_bytes += stats.index_bytes;
            all.available_bytes = match (all.available_bytes, stats.available_bytes) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
        Ok(all)
    }

    /// The worst of the backends.
    async fn health_check(&self) -> HealthStatus {
        let mut worst = HealthStatus::Healthy;
        for (name, backend) in &self.backends {
            match backend.health_check().await {
                HealthStatus::Healthy => {}
                HealthStatus::Warning(reason) => {
                    if worst == HealthStatus::Healthy {
                        worst = HealthStatus::Warning(format!("{name}: {reason}"));
                    }
                }
                HealthStatus::Critical(reason) => {
                    return HealthStatus::Critical(format!("{name}: {reason}"));
                }
            }
        }
        worst
    }

    async fn flush(&self) -> Result<()> {
        for (name, backend) in &self.backends {
            backend.flush().await.map_err(|error| error.with_backend(name))?;
        }
        Ok(())
    }
}

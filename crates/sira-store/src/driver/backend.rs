//! The storage trait over any driver.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::store::{Prepared, Store};
use super::{Area, Driver, Place, batch, chunks, listing, locks, stream};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::key::{CheckedWrite, check_batch, check_key, check_namespace, check_write};
use crate::limits::VALUE_BYTES_MAX;
use crate::options::{Condition, StorageOptions};
use crate::plain::{PlainBackend, no_plain};
use crate::version::Version;

/// Namespace of a backend that names none.
const NAMESPACE_DEFAULT: &str = "default";

/// Expired records that [`DriverBackend::maintain`] drops in one step.
const COLLECT_LIMIT: usize = 1000;

/// One namespace of an outside engine, as a [`StorageBackend`].
///
/// A write whose future is dropped takes effect whole or not at all, and never behind an operation
/// that began later: it goes on as a task of its own. Writers of a key within this process take
/// turns, unless the engine judges and writes in one step ([`Driver::writes_in_one_step`]) and the
/// value lies in one record. What is atomic between processes is so in the engine. Operations need a
/// tokio runtime.
#[derive(Debug, Clone)]
pub struct DriverBackend {
    pub(super) store: Arc<Store>,
    pub(super) place: Place,
}

impl DriverBackend {
    /// The namespace `default` of an engine.
    #[must_use]
    pub fn new(driver: impl Driver) -> Self {
        Self::with_env(driver, Arc::new(SystemEnv))
    }

    /// As [`DriverBackend::new`], with the clock and the random numbers of `env`.
    #[must_use]
    pub fn with_env(driver: impl Driver, env: Arc<dyn Env>) -> Self {
        let store = Arc::new(Store::new(Arc::new(driver), env));
        let place = Place { namespace: NAMESPACE_DEFAULT.into(), area: Area::Objects };
        Self { store, place }
    }

    /// The driver underneath.
    #[must_use]
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.store.driver
    }

    /// The same engine, seen through a namespace of this name.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a name that can name none.
    pub fn namespace(&self, name: &str) -> Result<Self> {
        check_namespace(name)?;
        let place = Place { namespace: name.into(), area: Area::Objects };
        Ok(Self { store: Arc::clone(&self.store), place })
    }

    fn check(&self, key: &str, bytes: usize, options: &StorageOptions) -> Result<CheckedWrite> {
        check_write(key, bytes, options, self.store.env.now_ms())
    }

    pub(super) async fn write(
        &self,
        key: &str,
        value: Bytes,
        options: StorageOptions,
    ) -> Result<Version> {
        let checked = self.check(key, value.len(), &options)?;
        let (store, place, owned) = (Arc::clone(&self.store), self.place.clone(), key.to_owned());
        let beside = self.store.goes_beside(&self.place, value.len());
        let write = async move { store.put(&place, &owned, value, &options, checked).await };
        self.run(key, beside, write).await
    }

    async fn erase(&self, key: &str, condition: Condition) -> Result<bool> {
        check_key(key)?;
        let guard = self.store.guard(condition, false)?;
        let (store, place, owned) = (Arc::clone(&self.store), self.place.clone(), key.to_owned());
        let beside = self.store.goes_beside(&self.place, 0);
        let write = async move { store.remove(&place, &owned, guard).await };
        self.run(key, beside, write).await
    }

    /// Runs a write to a key to its end, whether or not the caller stays.
    async fn run<T: Send + 'static>(
        &self,
        key: &str,
        beside: bool,
        write: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (locks, namespace) = (&self.store.locks, &*self.place.namespace);
        match beside {
            true => locks::run_beside(locks, namespace, key, write).await,
            false => locks::run_locked(locks, namespace, [key], write).await,
        }
    }

    async fn run_batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        let keys: Vec<String> = operations
            .iter()
            .filter(|operation| operation.is_write())
            .map(|operation| operation.key().to_owned())
            .collect();
        for operation in operations.iter().filter(|operation| !operation.is_write()) {
            self.store.locks.settle(&self.place.namespace, operation.key()).await;
        }
        let (store, place) = (Arc::clone(&self.store), self.place.clone());
        let keys = keys.iter().map(String::as_str);
        locks::run_locked(&self.store.locks, &self.place.namespace, keys, async move {
            if store.profile.atomic_batch {
                batch::run_atomic(&store, &place, operations).await
            } else {
                Ok(batch::run(&store, &place, operations).await)
            }
        })
        .await
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.place.namespace).with_key(key)
    }
}

/// Checks and prepares a put of a batch.
pub(super) async fn prepare(
    store: &Store,
    place: &Place,
    key: &str,
    value: Bytes,
    options: &StorageOptions,
) -> Result<Prepared> {
    let checked = check_write(key, value.len(), options, store.env.now_ms())?;
    store.prepare(place, key, value, options, checked).await
}

#[async_trait]
impl StorageBackend for DriverBackend {
    fn capabilities(&self) -> Capabilities {
        let profile = &self.store.profile;
        Capabilities {
            name: profile.name,
            persistent: profile.persistent,
            ttl: true,
            conditional: profile.conditional,
            list: profile.list,
            list_sizes: profile.list_sizes,
            exact_versions: profile.conditional,
            range: profile.range,
            atomic_batch: profile.atomic_batch,
            namespaces: true,
            metadata: true,
            value_bytes_max: profile.value_bytes_max.min(VALUE_BYTES_MAX as u64),
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.write(key, value, options).await.map_err(|error| self.locate(error, key))
    }

    /// Values larger than the engine takes as one are written while they come.
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        stream::write(self, key, body, options).await.map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let read = async {
            check_key(key)?;
            self.store.read(&self.place, key, &options).await
        };
        read.await.map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.erase(key, condition).await.map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head = async {
            check_key(key)?;
            self.store.head(&self.place, key).await
        };
        head.await.map_err(|error| self.locate(error, key))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let records = listing::Records { store: &self.store, place: &self.place };
        listing::page(&records, &options)
            .await
            .map_err(|error| error.with_namespace(&*self.place.namespace))
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.run_batch(operations)
            .await
            .map_err(|error| error.with_namespace(&*self.place.namespace))
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.store.driver.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.store.driver.health_check().await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(DriverBackend::namespace(self, name)?))
    }

    async fn plain(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        check_namespace(name)?;
        match Arc::clone(&self.store.driver).plain(name) {
            Some(driver) => Ok(Arc::new(PlainBackend::new(driver, name))),
            None => Err(no_plain(self.store.profile.name)),
        }
    }

    async fn maintain(&self) -> Result<u64> {
        let mut removed = 0;
        loop {
            let now_ms = self.store.env.now_ms();
            let expired = self.store.driver.collect_expired(now_ms, COLLECT_LIMIT).await?;
            removed += expired;
            if expired < COLLECT_LIMIT as u64 {
                break;
            }
        }
        if self.store.chunks_values() && self.store.profile.list {
            removed += chunks::collect(&self.store, &self.place).await?;
        }
        Ok(removed)
    }
}

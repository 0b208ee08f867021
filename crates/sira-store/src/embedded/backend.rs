//! The storage trait over the engine.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::spool::Spool;
use super::{Commit, Engine, NamespaceId, ObjectReader, StoredObject, WriteOptions};
use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::changes::ChangeLog;
use crate::error::{Result, StorageError};
use crate::key::{
    CheckedWrite, check_described, check_key, check_namespace, check_range, check_range_start,
    check_write,
};
use crate::limits::{STREAM_MEMORY_BYTES, STREAM_VALUE_BYTES_MAX};
use crate::listing::{self, Found};
use crate::metadata::Metadata;
use crate::options::{Condition, Durability, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// Namespace of a backend that names none.
const NAMESPACE_DEFAULT: &str = "default";

/// One namespace of an [`Engine`], as a [`StorageBackend`].
///
/// A handle names its namespace and looks it up for each operation: after the namespace is dropped
/// the handle sees none of its objects, and its next write makes the namespace anew.
///
/// The engine's own work, which is copying into and out of the log, runs on the calling task; only
/// the wait for durability is awaited. An operation whose future is dropped has therefore either
/// not begun or taken effect whole.
///
/// Keys that are not UTF-8, as RESP clients may write, are left out of [`StorageBackend::list`].
///
/// ```
/// use bytes::Bytes;
/// use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
/// use sira_store::{StorageBackend, StorageOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let root = folder.path();
/// let engine = Engine::open(root, EngineOptions::default())?;
/// let store = EmbeddedBackend::new(engine);
/// # pollster::block_on(async {
/// store.put("greeting", Bytes::from("hello"), StorageOptions::default()).await?;
/// assert_eq!(store.get("greeting").await?, Some(Bytes::from("hello")));
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedBackend {
    engine: Arc<Engine>,
    name: Arc<str>,
}

impl EmbeddedBackend {
    /// The namespace `default` of an engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, name: NAMESPACE_DEFAULT.into() }
    }

    /// The engine underneath.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Name of the namespace that this handle sees.
    #[must_use]
    pub fn namespace_name(&self) -> &str {
        &self.name
    }

    /// A handle on the namespace of this name, which is made (durably) if it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a name that can name none,
    /// and the engine's own.
    pub fn namespace(&self, name: &str) -> Result<Self> {
        check_namespace(name)?;
        self.engine.namespace(name).map_err(|error| error.with_namespace(name))?;
        Ok(Self { engine: Arc::clone(&self.engine), name: name.into() })
    }

    /// A handle on the namespace of this name, which the first write to it makes.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a name that can name none.
    pub fn unmade(&self, name: &str) -> Result<Self> {
        check_namespace(name)?;
        Ok(Self { engine: Arc::clone(&self.engine), name: name.into() })
    }

    /// A handle on the namespace of this name, if it is there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a name that can name none.
    pub fn find_namespace(&self, name: &str) -> Result<Option<Self>> {
        check_namespace(name)?;
        Ok(self
            .engine
            .find_namespace(name)
            .map(|_| Self { engine: Arc::clone(&self.engine), name: name.into() }))
    }

    /// Names of all namespaces, in byte order.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.engine.namespaces().into_iter().map(|(name, _)| name).collect()
    }

    /// Drops a namespace with all its objects, in constant visible time, and says whether it was
    /// there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a name that can name none,
    /// and the engine's own.
    pub fn drop_namespace(&self, name: &str) -> Result<bool> {
        check_namespace(name)?;
        self.engine.drop_namespace(name).map_err(|error| error.with_namespace(name))
    }

    /// Opens an object for reading by pieces: one version of it, whatever is written meanwhile.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    pub fn open_object(&self, key: &str) -> Result<Option<(ObjectHead, ObjectReader)>> {
        let open = || {
            check_key(key)?;
            let Some(namespace) = self.find() else { return Ok(None) };
            let Some(reader) = self.engine.open_object(namespace, key.as_bytes())? else {
                return Ok(None);
            };
            Ok(Some((head(reader.head())?, reader)))
        };
        open().map_err(|error| self.locate(error, key))
    }

    /// The namespace to read from, if it is there.
    pub(super) fn find(&self) -> Option<NamespaceId> {
        self.engine.find_namespace(&self.name)
    }

    /// Runs a write in the namespace, which is made if it is not there, again if the namespace is
    /// dropped or emptied before the write is done.
    pub(super) fn in_namespace<R>(
        &self,
        mut write: impl FnMut(NamespaceId) -> Result<R>,
    ) -> Result<R> {
        loop {
            let namespace = match self.find() {
                Some(namespace) => namespace,
                None => self.engine.namespace(&self.name)?,
            };
            match write(namespace) {
                Err(StorageError::NotFound(_)) if self.find() != Some(namespace) => {}
                result => return result,
            }
        }
    }

    /// Names the namespace and the key in an error.
    pub(super) fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.name).with_key(key)
    }

    /// Waits until a commit is as durable as its writer asked for.
    pub(super) async fn settle(
        &self,
        commit: Commit,
        durability: Option<Durability>,
    ) -> Result<Version> {
        match durability.unwrap_or(self.engine.options().durability) {
            Durability::Sync => self.engine.durable_async(commit.ticket).await?,
            Durability::Interval(ms) => {
                self.engine.request_durable_within(Duration::from_millis(ms));
            }
            Durability::None => {}
        }
        Ok(commit.version)
    }

    fn write(&self, key: &str, value: Bytes, options: &StorageOptions) -> Result<Commit> {
        let checked = check_write(key, value.len(), options, self.engine.env().now_ms())?;
        self.write_checked(key, value, options, &checked)
    }

    fn write_checked(
        &self,
        key: &str,
        value: Bytes,
        options: &StorageOptions,
        checked: &CheckedWrite,
    ) -> Result<Commit> {
        let stored = WriteOptions {
            expires_at_ms: checked.expires_at_ms,
            metadata: &checked.metadata,
            version: checked.version,
        };
        self.in_namespace(|namespace| {
            if options.condition == Condition::Always {
                return self.engine.put(namespace, key.as_bytes(), &value, stored);
            }
            let mut transaction = self.engine.begin(&[(namespace, key.as_bytes())]);
            let current = transaction.head(namespace, key.as_bytes())?;
            options.condition.require(current.map(|object| object.version))?;
            transaction.put(namespace, key.as_bytes(), value.clone(), stored)?;
            transaction.commit()
        })
    }

    async fn write_stream(
        &self,
        key: &str,
        mut body: ByteStream,
        options: &StorageOptions,
    ) -> Result<Commit> {
        // What can never be stored is refused before its bytes are read.
        check_described(key, options, self.engine.env().now_ms())?;
        let mut memory = BytesMut::new();
        let mut aside: Option<Spool> = None;
        while let Some(part) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            let part = part.map_err(|error| {
                StorageError::invalid_input("the body ended early").with_source(error)
            })?;
            match &mut aside {
                Some(aside) => aside.write(&part)?,
                None if memory.len() + part.len() <= STREAM_MEMORY_BYTES => {
                    memory.extend_from_slice(&part);
                }
                None => {
                    let mut spool = Spool::new(&self.engine)?;
                    spool.write(&memory)?;
                    spool.write(&part)?;
                    memory = BytesMut::new();
                    aside = Some(spool);
                }
            }
        }
        let Some(aside) = aside else { return self.write(key, memory.freeze(), options) };
        let (store, key, options) = (self.clone(), key.to_owned(), options.clone());
        let write = move || {
            let value = aside.bytes()?;
            let checked = check_described(&key, &options, store.engine.env().now_ms())?;
            store.write_checked(&key, value, &options, &checked)
        };
        match tokio::runtime::Handle::try_current() {
            // Copying gigabytes into the log takes a while; other tasks go on meanwhile.
            Ok(runtime) => runtime.spawn_blocking(write).await.map_err(|error| {
                StorageError::unavailable("the runtime shut down before the value was stored")
                    .with_source(error)
            })?,
            Err(_) => write(),
        }
    }

    fn erase(&self, key: &str, condition: Condition) -> Result<Option<Commit>> {
        check_key(key)?;
        if self.find().is_none() {
            return condition.require(None).map(|()| None);
        }
        self.in_namespace(|namespace| {
            let mut transaction = self.engine.begin(&[(namespace, key.as_bytes())]);
            if condition != Condition::Always {
                let current = transaction.head(namespace, key.as_bytes())?;
                condition.require(current.map(|object| object.version))?;
            }
            match transaction.delete(namespace, key.as_bytes())? {
                true => transaction.commit().map(Some),
                false => Ok(None),
            }
        })
    }

    /// A page of the keys of a namespace.
    pub(super) fn page_of(
        &self,
        namespace: NamespaceId,
        options: &ListOptions,
    ) -> Result<ListPage> {
        listing::page(options, |after, visit| {
            self.engine.scan(namespace, options.prefix.as_bytes(), after, |entry| {
                visit(Found {
                    key: entry.key,
                    size: entry.size,
                    version: None,
                    expires_at_ms: None,
                })
            })
        })
    }

    fn load(&self, key: &str, options: &ReadOptions) -> Result<Option<Object>> {
        check_key(key)?;
        let Some(namespace) = self.find() else {
            return options.condition.require(None).map(|()| None);
        };
        if options.condition != Condition::Always {
            // A condition that does not hold is told without reading the bytes.
            let current = self.engine.head(namespace, key.as_bytes())?;
            options.condition.require(current.map(|object| object.version))?;
        }
        let found = match options.range.clone() {
            None => self.engine.get(namespace, key.as_bytes())?,
            Some(range) => {
                check_range(&range)?;
                self.engine.get_range(namespace, key.as_bytes(), range)?
            }
        };
        options.condition.require(found.as_ref().map(|object| object.version))?;
        found.map(|stored| object(stored, options.range.as_ref())).transpose()
    }
}

#[async_trait]
impl StorageBackend for EmbeddedBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "embedded",
            persistent: true,
            ttl: true,
            conditional: true,
            list: true,
            list_sizes: true,
            exact_versions: true,
            range: true,
            atomic_batch: true,
            namespaces: true,
            metadata: true,
            value_bytes_max: STREAM_VALUE_BYTES_MAX,
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let written = match self.write(key, value, &options) {
            Ok(commit) => self.settle(commit, options.durability).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| self.locate(error, key))
    }

    /// The first bytes are collected in memory, more of them in a file aside; the log sees the value
    /// when it is whole.
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let written = match self.write_stream(key, body, &options).await {
            Ok(commit) => self.settle(commit, options.durability).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.load(key, &options).map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let removed = match self.erase(key, condition) {
            Ok(Some(commit)) => self.settle(commit, None).await.map(|_| true),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        removed.map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let load = || {
            check_key(key)?;
            let Some(namespace) = self.find() else { return Ok(None) };
            self.engine.head(namespace, key.as_bytes())?.as_ref().map(head).transpose()
        };
        load().map_err(|error| self.locate(error, key))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let load = || {
            check_key(key)?;
            let Some(namespace) = self.find() else { return Ok(false) };
            Ok(self.engine.head(namespace, key.as_bytes())?.is_some())
        };
        load().map_err(|error| self.locate(error, key))
    }

    /// Entries carry neither version nor expiry: those lie with the objects, not in the index.
    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let Some(namespace) = self.find() else { return Ok(ListPage::default()) };
        self.page_of(namespace, &options).map_err(|error| error.with_namespace(&*self.name))
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.run_batch(operations).await.map_err(|error| error.with_namespace(&*self.name))
    }

    /// Figures of the whole engine: every namespace shares its log.
    async fn stats(&self) -> Result<StorageStats> {
        Ok(self.engine.stats())
    }

    /// What the engine says, and a warning when less than one segment fits on the medium.
    async fn health_check(&self) -> HealthStatus {
        let health = self.engine.health();
        if health != HealthStatus::Healthy {
            return health;
        }
        let segment_bytes = self.engine.options().segment_bytes;
        match self.engine.stats().available_bytes {
            Some(available) if available < segment_bytes => HealthStatus::Warning(format!(
                "{available} bytes are left on the disk, less than one segment of {segment_bytes}: \
                 free some space, or writes will be refused"
            )),
            _ => HealthStatus::Healthy,
        }
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Self::namespace(self, name)?))
    }

    fn change_log(&self) -> Option<Arc<dyn ChangeLog>> {
        Some(Arc::new(self.clone()))
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(self.clone()))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        Ok(PreparedPart::new(part.named(&self.name)))
    }

    async fn flush(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        match tokio::runtime::Handle::try_current() {
            // The sync blocks for as long as the disk takes; other tasks go on meanwhile.
            Ok(runtime) => {
                runtime.spawn_blocking(move || engine.flush()).await.map_err(|error| {
                    StorageError::unavailable("the runtime shut down before the data was synced")
                        .with_source(error)
                })?
            }
            Err(_) => engine.flush(),
        }
    }
}

fn head(stored: &StoredObject) -> Result<ObjectHead> {
    Ok(ObjectHead {
        version: stored.version,
        size: stored.size,
        expires_at_ms: stored.expires_at_ms,
        metadata: Metadata::decode(&stored.metadata)?,
    })
}

/// A stored object, of which `range` was asked for, as callers get it.
pub(super) fn object(stored: StoredObject, range: Option<&Range<u64>>) -> Result<Object> {
    let start = range.map_or(0, |range| range.start);
    check_range_start(start, stored.size)?;
    let head = head(&stored)?;
    let end = start + stored.value.len() as u64;
    Ok(Object { head, value: stored.value, range: start..end })
}

#[cfg(test)]
mod tests;

//! Objects in memory, up to a size limit.

mod batch;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::backend::{
    BatchOperation, BatchResult, Capabilities, HealthStatus, ListOptions, ListPage, Object,
    ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::driver::check_newer;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::key::{
    check_batch, check_key, check_namespace, check_range, check_range_start, check_write,
};
use crate::limits::VALUE_BYTES_MAX;
use crate::listing::{self, Found};
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart, check_parts};
use crate::version::{HybridClock, Version};
use state::{Entry, State};

/// Namespace of a backend that names none.
const NAMESPACE_DEFAULT: &str = "default";

/// Values of fewer bytes are copied when they are written: they may be a small part of a large
/// buffer, which would stay in memory with them and count for nothing.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// Expired objects that a write collects on its way: more than it can add, so that they never pile
/// up.
const COLLECT_PER_WRITE: usize = 2;

/// Objects in memory, with the semantics of every other engine and a limit on their size.
///
/// The limit counts the bytes of keys, values and metadata. A write that does not fit even after
/// expired objects are collected is refused with [`StorageError::OutOfSpace`] and changes nothing.
/// Nothing is evicted: a store that forgets on its own is a cache.
///
/// ```
/// use sira_store::{MemoryBackend, StorageBackend, StorageError, StorageOptions};
///
/// # pollster::block_on(async {
/// let store = MemoryBackend::new(1024);
/// store.put("greeting", "hello".into(), StorageOptions::default()).await?;
/// assert_eq!(store.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
///
/// let large = vec![0; 2048].into();
/// match store.put("large", large, StorageOptions::default()).await {
///     Err(StorageError::OutOfSpace(_)) => {}
///     other => panic!("stored past the limit: {other:?}"),
/// }
/// # Ok::<_, StorageError>(()) })?;
/// # Ok::<_, StorageError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
    name: Arc<str>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    clock: HybridClock,
    env: Arc<dyn Env>,
}

impl MemoryBackend {
    /// An empty store for up to `max_size` bytes of keys, values and metadata.
    #[must_use]
    pub fn new(max_size: u64) -> Self {
        Self::with_env(max_size, Arc::new(SystemEnv))
    }

    /// As [`MemoryBackend::new`], with the clock of `env`.
    #[must_use]
    pub fn with_env(max_size: u64, env: Arc<dyn Env>) -> Self {
        let state = RwLock::new(State::new(max_size));
        let shared = Shared { state, clock: HybridClock::default(), env };
        Self { shared: Arc::new(shared), name: NAMESPACE_DEFAULT.into() }
    }

    /// Most bytes of keys, values and metadata that the store holds, over all namespaces.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.shared.state.read().bytes_max()
    }

    /// Names of the namespaces that hold objects, in byte order.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.shared.state.read().namespaces()
    }

    /// Drops a namespace with all its objects, and says whether it held any.
    pub fn drop_namespace(&self, name: &str) -> bool {
        // Bound to a name, so that the objects are freed after the lock is.
        let dropped = self.shared.state.write().drop_namespace(name);
        dropped.is_some()
    }

    fn now_ms(&self) -> u64 {
        self.shared.env.now_ms()
    }

    /// Lends the entry under a key, if it has not expired.
    fn lend<R>(&self, key: &str, visit: impl FnOnce(Option<&Entry>) -> Result<R>) -> Result<R> {
        check_key(key)?;
        let state = self.shared.state.read();
        let entry = state.get(&self.name, key.as_bytes());
        visit(entry.filter(|entry| entry.expires_at_ms.is_none() || entry.lives(self.now_ms())))
    }

    fn load(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.lend(key, |entry| {
            options.condition.require(entry.map(|entry| entry.version))?;
            let Some(entry) = entry else { return Ok(None) };
            let size = entry.value.len();
            let Some(range) = options.range else { return Ok(Some(entry.object())) };
            check_range(&range)?;
            check_range_start(range.start, size as u64)?;
            // Both are at most the size, which is a `usize`.
            let (start, end) = (range.start as usize, range.end.min(size as u64) as usize);
            let value = entry.value.slice(start..end);
            Ok(Some(Object { head: entry.head(), value, range: start as u64..end as u64 }))
        })
    }

    fn store(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let now_ms = self.now_ms();
        let checked = check_write(key, value.len(), &options, now_ms)?;
        let value = own(value);
        let mut state = self.shared.state.write();
        if options.condition != Condition::Always {
            options.condition.require(state.version(&self.name, key.as_bytes(), now_ms))?;
        }
        let version = match checked.version {
            None => self.shared.clock.next(now_ms),
            Some(version) => {
                let held = state.get(&self.name, key.as_bytes());
                check_newer(version, held.map(|entry| entry.version))?;
                self.shared.clock.observe(version);
                version
            }
        };
        let entry = Entry {
            value,
            version,
            expires_at_ms: checked.expires_at_ms,
            metadata_bytes: checked.metadata.len(),
            metadata: options.metadata,
        };
        state.put(&self.name, key.as_bytes(), entry, now_ms)?;
        state.collect(now_ms, COLLECT_PER_WRITE);
        Ok(version)
    }

    fn erase(&self, key: &str, condition: Condition) -> Result<bool> {
        check_key(key)?;
        let now_ms = self.now_ms();
        let mut state = self.shared.state.write();
        let current = state.version(&self.name, key.as_bytes(), now_ms);
        condition.require(current)?;
        let removed = state.remove(&self.name, key.as_bytes());
        state.collect(now_ms, COLLECT_PER_WRITE);
        drop(state);
        drop(removed);
        Ok(current.is_some())
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.name).with_key(key)
    }
}

#[async_trait]
impl StorageBackend for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "memory",
            persistent: false,
            ttl: true,
            conditional: true,
            list: true,
            list_sizes: true,
            exact_versions: true,
            range: true,
            atomic_batch: true,
            namespaces: true,
            metadata: true,
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.store(key, value, options).map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.load(key, options).map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.erase(key, condition).map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.lend(key, |entry| Ok(entry.map(Entry::head))).map_err(|error| self.locate(error, key))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.lend(key, |entry| Ok(entry.is_some())).map_err(|error| self.locate(error, key))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let now_ms = self.now_ms();
        let state = self.shared.state.read();
        page_of(&state, &self.name, &options, now_ms)
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        self.run_batch(&operations).map_err(|error| error.with_namespace(&*self.name))
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(self.clone()))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        Ok(PreparedPart::new(part.named(&self.name)))
    }

    /// Figures of the whole store, all namespaces together; expired objects are collected first.
    async fn stats(&self) -> Result<StorageStats> {
        let now_ms = self.now_ms();
        let mut state = self.shared.state.write();
        state.collect(now_ms, usize::MAX);
        Ok(StorageStats {
            keys: state.keys(),
            live_bytes: state.bytes(),
            used_bytes: state.bytes(),
            available_bytes: Some(state.bytes_max().saturating_sub(state.bytes())),
            ..StorageStats::default()
        })
    }

    /// A warning when less than a twentieth of the limit is free.
    async fn health_check(&self) -> HealthStatus {
        let now_ms = self.now_ms();
        let mut state = self.shared.state.write();
        state.collect(now_ms, usize::MAX);
        let (bytes, bytes_max) = (state.bytes(), state.bytes_max());
        if bytes_max.saturating_sub(bytes) < bytes_max / 20 {
            return HealthStatus::Warning(format!(
                "{bytes} of {bytes_max} bytes are used: delete objects or raise the limit"
            ));
        }
        HealthStatus::Healthy
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        check_namespace(name)?;
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), name: name.into() }))
    }
}

#[async_trait]
impl TransactionEngine for MemoryBackend {
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        check_parts(&parts)?;
        self.run_parts(&parts)
    }
}

/// A page of the keys of a namespace.
fn page_of(state: &State, space: &str, options: &ListOptions, now_ms: u64) -> Result<ListPage> {
    listing::page(options, |after, visit| {
        for (key, entry) in state.scan(space, options.prefix.as_bytes(), after) {
            if !entry.lives(now_ms) {
                continue;
            }
            let found = Found {
                key,
                size: entry.value.len() as u64,
                version: Some(entry.version),
                expires_at_ms: entry.expires_at_ms,
            };
            if visit(found).is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// The value to keep: one that does not hold on to a larger buffer.
fn own(value: Bytes) -> Bytes {
    if value.len() < COPY_BYTES_MAX { Bytes::copy_from_slice(&value) } else { value }
}

#[cfg(test)]
mod tests;

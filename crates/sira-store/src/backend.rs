//! The storage trait and what its operations carry.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::changes::ChangeLog;
use crate::error::{Result, StorageError};
use crate::limits;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::Version;

/// What a backend can do natively. The client refuses what is not declared; the conformance suite
/// checks what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Short name of the engine, such as `embedded`.
    pub name: &'static str,
    /// Keeps data across a restart.
    pub persistent: bool,
    /// Objects expire exactly when their TTL ends.
    pub ttl: bool,
    /// Conditions are checked and applied as one step.
    pub conditional: bool,
    /// Lists keys, in byte order.
    pub list: bool,
    /// The sizes of a listing are those of the values; else they are those of what is stored.
    pub list_sizes: bool,
    /// Stores the version that [`StorageOptions::version`] gives.
    pub exact_versions: bool,
    /// Reads a range without reading the whole object.
    pub range: bool,
    /// A batch takes effect whole or not at all.
    pub atomic_batch: bool,
    /// Has namespaces of its own.
    pub namespaces: bool,
    /// Keeps metadata beside the bytes.
    pub metadata: bool,
    /// Largest value in bytes.
    pub value_bytes_max: u64,
}

/// What a key holds, without the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Version of the object.
    pub version: Version,
    /// Size of the whole value in bytes.
    pub size: u64,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// What is kept beside the bytes.
    pub metadata: Metadata,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// All but the bytes.
    pub head: ObjectHead,
    /// The bytes, or the range of them that was asked for.
    pub value: Bytes,
    /// Which bytes of the whole value these are.
    pub range: Range<u64>,
}

/// What part of an object to read, and under which condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Bytes to read; the end is cut to the object's size. A start past the object's size and an
    /// end before the start are errors of kind [`StorageError::InvalidInput`]; a start equal to the
    /// size gives no bytes.
    pub range: Option<Range<u64>>,
    /// Read only if this holds, else [`StorageError::PreconditionFailed`].
    pub condition: Condition,
}

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Keys begin with this.
    pub prefix: String,
    /// Keys and common prefixes come after this one in byte order.
    pub start_after: Option<String>,
    /// Keys with this text after the prefix are folded into one common prefix that ends with it;
    /// empty is the same as none.
    pub delimiter: Option<String>,
    /// Most entries and common prefixes of the page; 0 is [`limits::LIST_LIMIT_DEFAULT`], more than
    /// [`limits::LIST_LIMIT_MAX`] is cut to it.
    pub limit: usize,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The key.
    pub key: String,
    /// Size of the value in bytes; of what is stored where [`Capabilities::list_sizes`] is not
    /// declared.
    pub size: u64,
    /// Version of the object; `None` where the engine would have to read each object for it.
    pub version: Option<Version>,
    /// When it expires, in milliseconds since the Unix epoch, where the engine tells cheaply.
    pub expires_at_ms: Option<u64>,
}

/// A page of a listing, in byte order of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// Objects.
    pub entries: Vec<ListEntry>,
    /// Common prefixes, where a delimiter was given.
    pub common_prefixes: Vec<String>,
    /// Pass this as `start_after` for the next page; `None` on the last.
    pub next: Option<String>,
}

/// One operation of a batch.
#[allow(
    clippy::large_enum_variant,
    reason = "batches are mostly puts, and a box for each costs more"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOperation {
    /// Writes an object.
    Put {
        /// The key.
        key: String,
        /// The bytes.
        value: Bytes,
        /// Options of this write.
        options: StorageOptions,
    },
    /// Reads an object.
    Get {
        /// The key.
        key: String,
    },
    /// Removes an object.
    Delete {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
    /// Changes nothing, and fails unless the key holds what is demanded; with it, so does a batch
    /// that takes effect whole.
    Check {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
}

impl BatchOperation {
    /// A removal of whatever the key holds.
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into(), condition: Condition::Always }
    }

    /// Key that the operation is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. }
            | Self::Get { key }
            | Self::Delete { key, .. }
            | Self::Check { key, .. } => key,
        }
    }

    /// What must hold of the key.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::Put { options, .. } => options.condition,
            Self::Get { .. } => Condition::Always,
            Self::Delete { condition, .. } | Self::Check { condition, .. } => *condition,
        }
    }

    /// Whether the operation changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    /// Whether a batch that takes effect whole fails with the operation.
    #[must_use]
    pub fn decides(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }
}

/// Result of one operation of a batch.
#[derive(Debug)]
pub enum BatchResult {
    /// The write took effect, with this version (`None` for a delete), or the check held (`None`).
    Success {
        /// Version of what was written.
        version: Option<Version>,
    },
    /// What the key held.
    Value(Option<Object>),
    /// The operation failed.
    Error(StorageError),
}

/// How a backend does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "status", content = "reason", rename_all = "snake_case")]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// It works, and someone should look.
    Warning(String),
    /// It does not work.
    Critical(String),
}

/// Figures of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct StorageStats {
    /// Keys, expired ones that are not collected yet included.
    pub keys: u64,
    /// Bytes of live values and keys.
    pub live_bytes: u64,
    /// Bytes on the medium that can be reclaimed.
    pub dead_bytes: u64,
    /// Bytes used on the medium.
    pub used_bytes: u64,
    /// Bytes that can still be written, where the engine tells.
    pub available_bytes: Option<u64>,
    /// Files that hold the data.
    pub segments: u64,
    /// Bytes of memory that the index takes.
    pub index_bytes: u64,
}

/// The bytes of a value as they arrive.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A place that keeps objects by key.
///
/// An implementation must give [`StorageBackend::capabilities`], [`StorageBackend::put`],
/// [`StorageBackend::read`] and [`StorageBackend::remove`]; the rest follows from those, and engines
/// override what they do better. All of them pass the conformance suite.
#[async_trait]
pub trait StorageBackend: Send + Sync + fmt::Debug {
    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// Writes an object and returns its version.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when the condition does not hold,
    /// [`StorageError::OutOfSpace`], [`StorageError::TooLarge`], [`StorageError::InvalidInput`],
    /// and the engine's own; after an error of [`crate::Retry::Ambiguous`] the write may or may not
    /// have taken effect.
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version>;

    /// Writes an object from a stream of its bytes. The default collects them, up to
    /// [`limits::VALUE_BYTES_MAX`]; engines that can write while they read hold less in memory.
    /// Dropped before it ends, or when the stream fails, nothing is stored.
    ///
    /// # Errors
    /// As [`StorageBackend::put`]; [`StorageError::InvalidInput`] when the stream fails.
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let value = collect(body).await.map_err(|error| error.with_key(key))?;
        self.put(key, value, options).await
    }

    /// Reads an object or a range of it; `None` when the key holds none.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when the stored bytes fail their checksum, and the engine's own.
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>>;

    /// Removes an object if `condition` holds, and says whether one was there.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`], and the engine's own.
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool>;

    /// The bytes under a key.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.read(key, ReadOptions::default()).await?.map(|object| object.value))
    }

    /// Removes an object and says whether one was there.
    ///
    /// # Errors
    /// As [`StorageBackend::remove`].
    async fn delete(&self, key: &str) -> Result<bool> {
        self.remove(key, Condition::Always).await
    }

    /// What a key holds, without the bytes.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        Ok(self.read(key, ReadOptions::default()).await?.map(|object| object.head))
    }

    /// Whether a key holds an object.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.head(key).await?.is_some())
    }

    /// A page of keys in byte order.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the engine does not list.
    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let _ = options;
        Err(StorageError::unsupported(format!("{} does not list keys", self.capabilities().name)))
    }

    /// Up to `limit` keys that begin with `prefix`, in byte order.
    ///
    /// # Errors
    /// As [`StorageBackend::list`].
    async fn list_keys(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut start_after = None;
        while keys.len() < limit {
            let page = self
                .list(ListOptions {
                    prefix: prefix.to_owned(),
                    start_after: start_after.take(),
                    delimiter: None,
                    limit: (limit - keys.len()).min(limits::LIST_LIMIT_MAX),
                })
                .await?;
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            match page.next {
                Some(next) => start_after = Some(next),
                None => break,
            }
        }
        Ok(keys)
    }

    /// Runs the operations and answers each. Where [`Capabilities::atomic_batch`] is declared, the
    /// writes take effect together: if one fails, none does and all of them report an error.
    ///
    /// # Errors
    /// When the batch as a whole is refused, as with one over its limits.
    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        crate::key::check_batch(operations.len())?;
        Ok(run_each(self, operations).await)
    }

    /// Figures of the backend.
    ///
    /// # Errors
    /// The engine's own.
    async fn stats(&self) -> Result<StorageStats> {
        Ok(StorageStats::default())
    }

    /// How the backend does.
    async fn health_check(&self) -> HealthStatus {
        match self.exists("sira-health").await {
            Ok(_) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }

    /// The same engine, seen through a namespace of this name, which is made if it is not there.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the engine has none, and the engine's own.
    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let _ = name;
        Err(StorageError::unsupported(format!("{} has no namespaces", self.capabilities().name)))
    }

    /// The namespace of this name as plain bytes under plain names, for other clients of the engine
    /// to read and write. Its objects are not those of [`StorageBackend::namespace`].
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the engine keeps no plain bytes, and the engine's own.
    async fn plain(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let _ = name;
        Err(crate::plain::no_plain(self.capabilities().name))
    }

    /// What was written here, in order, where the engine has a log of it.
    fn change_log(&self) -> Option<Arc<dyn ChangeLog>> {
        None
    }

    /// The engine that has several of its namespaces in one transaction, where this one lies on such
    /// an engine. Layers that pass it on pass on [`StorageBackend::prepare`] too.
    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        None
    }

    /// Makes a part of a transaction in this namespace ready for
    /// [`StorageBackend::transaction_engine`].
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where there is none, and those of writes that cannot be made.
    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        let _ = part;
        Err(StorageError::unsupported(format!(
            "{} has no transactions over several namespaces",
            self.capabilities().name
        )))
    }

    /// Makes everything acknowledged so far durable.
    ///
    /// # Errors
    /// The engine's own.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Drops what has expired, where the engine does not by itself, and what a crash left behind in
    /// this namespace, and says how many records. To be called now and then; nothing depends on it
    /// but the space that is used.
    ///
    /// # Errors
    /// The engine's own.
    async fn maintain(&self) -> Result<u64> {
        Ok(0)
    }
}

/// Checks a condition against what a key holds now.
///
/// # Errors
/// [`StorageError::PreconditionFailed`] when it does not hold, and the backend's own.
async fn check<B: StorageBackend + ?Sized>(
    backend: &B,
    key: &str,
    condition: Condition,
) -> Result<()> {
    let held = backend.head(key).await?.map(|head| head.version);
    condition.require(held).map_err(|error| error.with_key(key))
}

/// Makes the operations of a batch one after the other, and answers each.
pub(crate) async fn run_each<B: StorageBackend + ?Sized>(
    backend: &B,
    operations: Vec<BatchOperation>,
) -> Vec<BatchResult> {
    let mut results = Vec::with_capacity(operations.len());
    for operation in operations {
        let result = match operation {
            BatchOperation::Put { key, value, options } => backend
                .put(&key, value, options)
                .await
                .map(|version| BatchResult::Success { version: Some(version) }),
            BatchOperation::Get { key } => {
                backend.read(&key, ReadOptions::default()).await.map(BatchResult::Value)
            }
            BatchOperation::Delete { key, condition } => backend
                .remove(&key, condition)
                .await
                .map(|_| BatchResult::Success { version: None }),
            BatchOperation::Check { key, condition } => check(backend, &key, condition)
                .await
                .map(|()| BatchResult::Success { version: None }),
        };
        results.push(result.unwrap_or_else(BatchResult::Error));
    }
    results
}

/// All bytes of a stream, up to [`limits::VALUE_BYTES_MAX`].
pub(crate) async fn collect(mut body: ByteStream) -> Result<Bytes> {
    let mut collected = bytes::BytesMut::new();
    while let Some(part) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let part = part.map_err(|error| {
            StorageError::invalid_input("the body ended early").with_source(error)
        })?;
        if collected.len() + part.len() > limits::VALUE_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "the value is larger than {} bytes",
                limits::VALUE_BYTES_MAX
            )));
        }
        collected.extend_from_slice(&part);
    }
    Ok(collected.freeze())
}

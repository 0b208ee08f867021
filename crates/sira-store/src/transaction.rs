//! Several keys of a namespace, read and written as one step.
//!
//! A [`Transaction`] is optimistic: it takes no locks while it runs, remembers which version of each
//! key it has read, and keeps its writes to itself. Its commit is one atomic batch that makes the
//! writes on the condition that everything it read is still as it was. So transactions that commit
//! are serializable, with each other and with single writes, in every process that uses the engine;
//! one that was overtaken is told so, and is run again.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{BatchOperation, BatchResult, ReadOptions, StorageBackend};
use crate::error::{Result, Retry, StorageError};
use crate::key::check_key;
use crate::limits::BATCH_OPERATIONS_MAX;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// How often [`StorageClient::transact`](crate::StorageClient::transact) runs what was overtaken.
pub const ATTEMPTS: u32 = 64;

/// What becomes of a key.
#[derive(Debug)]
enum Staged {
    Put(Bytes, Box<StorageOptions>),
    Delete,
}

/// The future of one attempt of a transaction.
pub type Attempt<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// Several keys of a namespace, read and written as one step. See the [module](self) for what that
/// promises. Dropped without commit, it does nothing.
///
/// ```
/// use std::sync::Arc;
/// use sira_store::{MemoryBackend, StorageClient, StorageOptions};
///
/// # pollster::block_on(async {
/// let client = StorageClient::new();
/// client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
/// client.store("stock", "7", StorageOptions::default()).await?;
///
/// let mut transaction = client.begin().await?;
/// let stock = transaction.get("stock").await?;
/// assert_eq!(stock.as_deref(), Some(&b"7"[..]));
/// transaction.put("stock", "6", StorageOptions::default())?;
/// transaction.put("order:1", "one of it", StorageOptions::default())?;
/// transaction.commit().await?;
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    backend: Arc<dyn StorageBackend>,
    /// Whose lifetime the backend's depends on.
    _held: Option<Arc<dyn Any + Send + Sync>>,
    /// The version of each key that was read; `None` where it held nothing.
    read: BTreeMap<String, Option<Version>>,
    staged: BTreeMap<String, Staged>,
}

impl Transaction {
    /// Begins one on a backend, which needs atomic batches and conditions.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the backend has not both.
    pub fn begin(backend: Arc<dyn StorageBackend>) -> Result<Self> {
        let capabilities = backend.capabilities();
        if !(capabilities.atomic_batch && capabilities.conditional) {
            return Err(StorageError::unsupported(format!(
                "{} does not check and write several objects as one step; a namespace with \
                 transactions lies on one engine with atomic batches, and is direct where there is \
                 a catalog",
                capabilities.name
            )));
        }
        Ok(Self { backend, _held: None, read: BTreeMap::new(), staged: BTreeMap::new() })
    }

    /// Keeps something until the transaction ends.
    pub(crate) fn holding(mut self, held: Arc<dyn Any + Send + Sync>) -> Self {
        self._held = Some(held);
        self
    }

    /// The bytes under a key, the transaction's own writes included.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the key has changed since the transaction read it first, and
    /// as [`StorageBackend::read`].
    pub async fn get(&mut self, key: &str) -> Result<Option<Bytes>> {
        match self.staged.get(key) {
            Some(Staged::Put(value, _)) => return Ok(Some(value.clone())),
            Some(Staged::Delete) => return Ok(None),
            None => {}
        }
        let object = self.backend.read(key, ReadOptions::default()).await?;
        self.note(key, object.as_ref().map(|object| object.head.version))?;
        Ok(object.map(|object| object.value))
    }

    /// Whether a key holds an object, the transaction's own writes included.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn exists(&mut self, key: &str) -> Result<bool> {
        match self.staged.get(key) {
            Some(Staged::Put(..)) => return Ok(true),
            Some(Staged::Delete) => return Ok(false),
            None => {}
        }
        let head = self.backend.head(key).await?;
        self.note(key, head.as_ref().map(|head| head.version))?;
        Ok(head.is_some())
    }

    /// Notes what was read. Whoever reads a key twice sees one version of it.
    fn note(&mut self, key: &str, version: Option<Version>) -> Result<()> {
        match self.read.entry(key.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(version);
                Ok(())
            }
            Entry::Occupied(entry) if *entry.get() == version => Ok(()),
            Entry::Occupied(_) => Err(overtaken().with_key(key)),
        }
    }

    /// Writes an object when the transaction commits. Later writes of a key replace earlier ones.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a key that can name nothing,
    /// a value that is too large, and for a condition: what must hold, a transaction reads.
    pub fn put(
        &mut self,
        key: &str,
        value: impl Into<Bytes>,
        options: StorageOptions,
    ) -> Result<()> {
        let value = value.into();
        check_key(key)?;
        if options.condition != Condition::Always {
            return Err(StorageError::invalid_input(
                "a write of a transaction takes no condition: read the key, and decide",
            )
            .with_key(key));
        }
        let most = self.backend.capabilities().value_bytes_max;
        if value.len() as u64 > most {
            return Err(StorageError::too_large(format!(
                "values are of up to {most} bytes here, this one has {}",
                value.len()
            ))
            .with_key(key));
        }
        self.stage(key, Staged::Put(value, Box::new(options)))
    }

    /// Removes what a key holds, if anything, when the transaction commits.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`] for a key that can name nothing.
    pub fn delete(&mut self, key: &str) -> Result<()> {
        check_key(key)?;
        self.stage(key, Staged::Delete)
    }

    fn stage(&mut self, key: &str, staged: Staged) -> Result<()> {
        let known = self.staged.contains_key(key) || self.read.contains_key(key);
        if !known && self.read.len() + self.staged.len() >= BATCH_OPERATIONS_MAX {
            return Err(StorageError::too_large(format!(
                "a transaction has up to {BATCH_OPERATIONS_MAX} keys; make several"
            )));
        }
        self.staged.insert(key.to_owned(), staged);
        Ok(())
    }

    /// Makes the writes, if everything that was read is still as it was, and answers the version of
    /// each object that was written, by key. A transaction that only read learns whether it saw one
    /// moment.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when another writer was faster: nothing was written, and the
    /// transaction can be run again. As [`StorageBackend::batch`]; where the error is ambiguous, the
    /// writes were all made or none.
    pub async fn commit(self) -> Result<BTreeMap<String, Version>> {
        let Self { backend, read, staged, _held } = self;
        let demand = |key: &str| match read.get(key) {
            None => Condition::Always,
            Some(None) => Condition::IfAbsent,
            Some(Some(version)) => Condition::IfMatch(*version),
        };
        let mut operations = Vec::with_capacity(read.len() + staged.len());
        for key in read.keys().filter(|key| !staged.contains_key(*key)) {
            let (key, condition) = (key.clone(), demand(key));
            operations.push(BatchOperation::Check { key, condition });
        }
        for (key, staged) in staged {
            let condition = demand(&key);
            operations.push(match staged {
                Staged::Put(value, options) => {
                    let options = StorageOptions { condition, ..*options };
                    BatchOperation::Put { key, value, options }
                }
                Staged::Delete => BatchOperation::Delete { key, condition },
            });
        }
        if operations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<String> =
            operations.iter().map(|operation| operation.key().to_owned()).collect();
        let mut versions = BTreeMap::new();
        let mut refused = None;
        for (key, result) in keys.into_iter().zip(backend.batch(operations).await?) {
            match result {
                BatchResult::Success { version: Some(version) } => {
                    versions.insert(key, version);
                }
                BatchResult::Success { version: None } | BatchResult::Value(_) => {}
                BatchResult::Error(error) => refused = worse(refused, error),
            }
        }
        match refused {
            None => Ok(versions),
            Some(error @ StorageError::PreconditionFailed(_)) => {
                let key = error.detail().key.clone().unwrap_or_default();
                Err(overtaken().with_key(key).with_source(error))
            }
            Some(error) => Err(error),
        }
    }

    /// Ends the transaction without writing anything, as dropping it does.
    pub fn rollback(self) {}
}

/// Of two errors, the one that says more: an ambiguous one, then one that is no unmet condition.
fn worse(one: Option<StorageError>, other: StorageError) -> Option<StorageError> {
    let rank = |error: &StorageError| match error {
        error if error.retry() == Retry::Ambiguous => 2,
        StorageError::PreconditionFailed(_) => 0,
        _ => 1,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => Some(one),
        _ => Some(other),
    }
}

fn overtaken() -> StorageError {
    StorageError::conflict(
        "another writer changed what the transaction has read; nothing was written, run it again",
    )
}

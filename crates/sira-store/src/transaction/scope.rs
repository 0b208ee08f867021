//! One namespace of a transaction.

use std::any::Any;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::engine::{ListedKeys, TransactionPart};
use super::locking::Locking;
use super::overtaken;
use crate::backend::{BatchOperation, BatchResult, ListOptions, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::limits::{BATCH_OPERATIONS_MAX, LIST_LIMIT_MAX};
use crate::lock::LockMode;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Something that is kept until the transaction ends.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

/// What becomes of a key.
#[derive(Debug)]
enum Staged {
    Put(Bytes, Box<StorageOptions>),
    Delete,
}

/// A namespace as a transaction reads and writes it.
#[derive(Debug)]
pub struct Scope {
    pub(super) name: String,
    pub(super) backend: Arc<dyn StorageBackend>,
    /// Whose lifetime the backend's depends on.
    held: Option<Held>,
    locking: Option<Arc<Locking>>,
    /// The version of each key that was read; `None` where it held nothing.
    read: BTreeMap<String, Option<Version>>,
    listed: Vec<ListedKeys>,
    staged: BTreeMap<String, Staged>,
}

impl Scope {
    pub(super) fn new(
        name: String,
        backend: Arc<dyn StorageBackend>,
        held: Option<Held>,
        locking: Option<Arc<Locking>>,
    ) -> Self {
        Self {
            name,
            backend,
            held,
            locking,
            read: BTreeMap::new(),
            listed: Vec::new(),
            staged: BTreeMap::new(),
        }
    }

    /// The bytes under a key, the transaction's own writes included.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the key has changed since the transaction read it first, as
    /// [`LockManager::acquire`](crate::lock::LockManager::acquire) where the transaction takes locks,
    /// and as [`StorageBackend::read`].
    pub async fn get(&mut self, key: &str) -> Result<Option<Bytes>> {
        match self.staged.get(key) {
            Some(Staged::Put(value, _)) => return Ok(Some(value.clone())),
            Some(Staged::Delete) => return Ok(None),
            None => self.lock(key, LockMode::Shared).await?,
        }
        let object = self.backend.read(key, ReadOptions::default()).await?;
        self.note(key, object.as_ref().map(|object| object.head.version))?;
        Ok(object.map(|object| object.value))
    }

    /// As [`Scope::get`], of a key that is going to be written: where the transaction takes locks, it
    /// takes this one exclusively at once, so that two that read and then write do not wait for each
    /// other.
    ///
    /// # Errors
    /// As [`Scope::get`].
    pub async fn get_for_update(&mut self, key: &str) -> Result<Option<Bytes>> {
        self.lock(key, LockMode::Exclusive).await?;
        self.get(key).await
    }

    async fn lock(&self, key: &str, mode: LockMode) -> Result<()> {
        match &self.locking {
            Some(locking) => locking.lock(&self.name, key, mode).await,
            None => Ok(()),
        }
    }

    /// Whether a key holds an object, the transaction's own writes included.
    ///
    /// # Errors
    /// As [`Scope::get`].
    pub async fn exists(&mut self, key: &str) -> Result<bool> {
        match self.staged.get(key) {
            Some(Staged::Put(..)) => return Ok(true),
            Some(Staged::Delete) => return Ok(false),
            None => self.lock(key, LockMode::Shared).await?,
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

    /// Up to `limit` keys that begin with `prefix`, in byte order, the transaction's own writes
    /// included. The commit checks that none has come or gone among them; what they hold is checked
    /// where it is read.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the engine cannot check that,
    /// [`StorageError::TooLarge`] for a limit over [`LIST_LIMIT_MAX`], and as
    /// [`StorageBackend::list`].
    pub async fn list(&mut self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        super::engine::common([&self.backend])?;
        if limit > LIST_LIMIT_MAX {
            return Err(StorageError::too_large(format!(
                "a transaction lists up to {LIST_LIMIT_MAX} keys at a time, not {limit}"
            )));
        }
        let mut keys = BTreeSet::new();
        let mut start_after = None;
        let mut complete = false;
        while keys.len() < limit && !complete {
            let page = self
                .backend
                .list(ListOptions {
                    prefix: prefix.to_owned(),
                    start_after: start_after.clone(),
                    delimiter: None,
                    limit,
                })
                .await?;
            complete = page.next.is_none();
            let listed: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
            let removed = |key: &&String| matches!(self.staged.get(*key), Some(Staged::Delete));
            keys.extend(listed.iter().filter(|key| !removed(key)).cloned());
            let last = listed.last().cloned();
            let prefix = prefix.to_owned();
            self.listed.push(ListedKeys { prefix, start_after, keys: listed, complete });
            start_after = last;
        }
        // Own keys after the last that was listed are not next to it, unless nothing else is.
        let last = start_after.filter(|_| !complete);
        let written = self.staged.iter().filter(|(key, staged)| {
            matches!(staged, Staged::Put(..))
                && key.starts_with(prefix)
                && last.as_ref().is_none_or(|last| *key <= last)
        });
        keys.extend(written.map(|(key, _)| key.clone()));
        Ok(keys.into_iter().take(limit).collect())
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

    /// Whether it needs an engine that knows more than batches.
    pub(super) fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Names of what the commit writes.
    pub(super) fn written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.staged.keys().map(|key| (self.name.as_str(), key.as_str()))
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.read.is_empty() && self.listed.is_empty() && self.staged.is_empty()
    }

    /// What the commit demands and does here.
    pub(super) fn into_part(self) -> ((Arc<dyn StorageBackend>, TransactionPart), Option<Held>) {
        let Self { name, backend, held, read, listed, staged, .. } = self;
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
        ((backend, TransactionPart { namespace: name, operations, listed }), held)
    }
}

/// Versions of what was written, by key.
pub(super) fn versions(keys: Vec<String>, results: Vec<BatchResult>) -> BTreeMap<String, Version> {
    let written = keys.into_iter().zip(results).filter_map(|(key, result)| match result {
        BatchResult::Success { version: Some(version) } => Some((key, version)),
        _ => None,
    });
    written.collect()
}

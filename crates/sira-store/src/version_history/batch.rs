//! Batches and parts of transactions.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::backend::pin;
use super::copy::{Held, KeptCopy};
use super::{VersionedBackend, check_key_length};
use crate::backend::{BatchOperation, BatchResult, ReadOptions, run_each};
use crate::client::draw_apart;
use crate::error::{Result, StorageError};
use crate::key::{check_batch, check_key};
use crate::options::{Condition, Durability};
use crate::transaction::{ATTEMPTS, PreparedPart, TransactionPart};
use crate::version::Version;

/// Objects that are read at a time to be copied.
const CONCURRENCY: usize = 16;

/// Operations of which the writes hold only while their keys hold what was copied.
struct Pinned {
    operations: Vec<BatchOperation>,
    copies: Vec<BatchOperation>,
    /// Keys that are written.
    keys: Vec<String>,
    /// The first operation whose own condition does not hold.
    refused: Option<(usize, StorageError)>,
}

impl VersionedBackend {
    pub(super) async fn run_batch(
        &self,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        if !operations.iter().any(BatchOperation::is_write) {
            return self.inner.batch(operations).await;
        }
        if !self.inner.capabilities().atomic_batch {
            return Ok(run_each(self, operations).await);
        }
        let mut attempts = 1;
        loop {
            let pinned = self.pinned(&operations).await?;
            if let Some((index, error)) = pinned.refused {
                return Ok(self.nothing_written(&operations, index, error).await);
            }
            self.keep_copies(pinned.copies).await?;
            let results = self.inner.batch(pinned.operations).await?;
            let overtaken = results.iter().any(|result| {
                matches!(result, BatchResult::Error(StorageError::PreconditionFailed(_)))
            });
            if !overtaken || attempts == ATTEMPTS {
                for key in &pinned.keys {
                    self.prune_now_and_then(key).await;
                }
                return Ok(results);
            }
            // Either the caller's own conditions do not hold, or another writer was faster.
            if let Some((index, error)) = self.first_refused(&operations).await? {
                return Ok(self.nothing_written(&operations, index, error).await);
            }
            draw_apart(attempts).await;
            attempts += 1;
        }
    }

    /// A part of a transaction, whose copies are written before it and are harmless if it fails.
    pub(super) async fn prepare_part(&self, mut part: TransactionPart) -> Result<PreparedPart<'_>> {
        if part.operations.iter().any(BatchOperation::is_write) {
            let pinned = self.pinned(&part.operations).await?;
            if let Some((index, error)) = pinned.refused {
                let key = part.operations.get(index).map_or("", BatchOperation::key);
                return Err(self.locate(error, key));
            }
            self.keep_copies(pinned.copies).await?;
            part.operations = pinned.operations;
        }
        self.inner.prepare(part).await
    }

    /// Reads what the operations replace.
    async fn pinned(&self, operations: &[BatchOperation]) -> Result<Pinned> {
        let mut first = BTreeMap::new();
        let mut refused = None;
        for (index, operation) in operations.iter().enumerate() {
            let key = operation.key();
            let checked = match operation {
                BatchOperation::Put { .. } => check_key(key).and_then(|()| check_key_length(key)),
                _ => check_key(key),
            };
            match checked {
                Ok(()) if operation.is_write() => drop(first.entry(key).or_insert(index)),
                Err(error) if operation.decides() => {
                    refused.get_or_insert((index, error.with_key(key)));
                }
                _ => {}
            }
        }
        // Who demands that there is no object overwrites none.
        first.retain(|_, index| {
            operations.get(*index).is_some_and(|one| one.condition() != Condition::IfAbsent)
        });
        let durability = |index: usize| -> Option<Durability> {
            match operations.get(index) {
                Some(BatchOperation::Put { options, .. }) => options.durability,
                _ => None,
            }
        };
        let first: Vec<(String, usize, Option<Durability>)> = first
            .into_iter()
            .map(|(key, index)| (key.to_owned(), index, durability(index)))
            .collect();
        let reads = first.into_iter().map(|(key, index, durability)| async move {
            let held = self.held(&key, durability).await;
            held.map_err(|error| self.locate(error, &key)).map(|held| (key, index, held))
        });
        let found: Vec<(String, usize, Held)> =
            stream::iter(reads).buffered(CONCURRENCY).try_collect().await?;
        let mut pinned = Pinned {
            operations: operations.to_vec(),
            copies: Vec::with_capacity(found.len()),
            keys: Vec::with_capacity(found.len()),
            refused,
        };
        for (key, index, held) in found {
            let Some(operation) = pinned.operations.get_mut(index) else { continue };
            match operation.condition().require(held.version) {
                Ok(()) => pin(operation, held.unchanged),
                Err(error) if pinned.refused.as_ref().is_none_or(|(first, _)| index < *first) => {
                    pinned.refused = Some((index, error.with_key(&*key)));
                }
                Err(_) => {}
            }
            pinned.keys.push(key);
            pinned.copies.extend(held.copy.map(KeptCopy::into_operation));
        }
        Ok(pinned)
    }

    /// The first operation whose own condition does not hold, as the ones before it leave things.
    async fn first_refused(
        &self,
        operations: &[BatchOperation],
    ) -> Result<Option<(usize, StorageError)>> {
        let mut staged = BTreeMap::new();
        for (index, operation) in operations.iter().enumerate() {
            let (key, condition) = (operation.key(), operation.condition());
            if condition != Condition::Always {
                let held = match staged.get(key) {
                    Some(held) => *held,
                    None => self.reader.head(key).await?.map(|head| head.version),
                };
                if let Err(error) = condition.require(held) {
                    return Ok(Some((index, error.with_key(key))));
                }
            }
            match operation {
                // It has no version yet.
                BatchOperation::Put { .. } => drop(staged.insert(key, Some(Version::default()))),
                BatchOperation::Delete { .. } => drop(staged.insert(key, None)),
                BatchOperation::Get { .. } | BatchOperation::Check { .. } => {}
            }
        }
        Ok(None)
    }

    async fn keep_copies(&self, copies: Vec<BatchOperation>) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        for result in self.kept.batch(copies).await? {
            if let BatchResult::Error(error) = result {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The answers of a batch whose operation of this number was refused.
    async fn nothing_written(
        &self,
        operations: &[BatchOperation],
        refused: usize,
        cause: StorageError,
    ) -> Vec<BatchResult> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(match operation {
                BatchOperation::Get { key } => {
                    let read = self.inner.read(key, ReadOptions::default()).await;
                    read.map_or_else(BatchResult::Error, BatchResult::Value)
                }
                other => {
                    let message = format!(
                        "nothing of the batch was written, because operation {refused} failed: {cause}"
                    );
                    BatchResult::Error(cause.same_kind(message).with_key(other.key()))
                }
            });
        }
        if let Some(result) = results.get_mut(refused) {
            *result = BatchResult::Error(cause);
        }
        results
    }
}

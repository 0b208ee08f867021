//! Atomic batches, for engines that stage writes and commit them together.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::backend::{BatchOperation, BatchResult, Object};
use crate::error::{Result, StorageError};
use crate::key::{CheckedWrite, check_key, check_write};
use crate::options::{Condition, Durability};
use crate::version::Version;

/// Staged writes of an engine; reads see them.
pub(crate) trait Staging {
    /// What a key holds. A staged object has the version that its write gives, or 0.
    fn read(&self, key: &str) -> Result<Option<Object>>;
    /// The version that a key holds, in the same way.
    fn version(&self, key: &str) -> Result<Option<Version>>;
    /// Stages a write.
    fn put(&mut self, key: &str, value: Bytes, checked: CheckedWrite) -> Result<()>;
    /// Stages a removal.
    fn delete(&mut self, key: &str) -> Result<()>;
}

/// A batch of which every write is staged.
pub(crate) struct Staged {
    results: Vec<BatchResult>,
    /// Reads of what the batch itself wrote before them.
    reread: Vec<usize>,
}

/// The write of a batch that failed, and why.
pub(crate) struct Failure {
    index: usize,
    cause: StorageError,
}

/// Stages the writes of a batch and makes its reads, in order; stops at the first write that fails.
pub(crate) fn stage(
    staging: &mut impl Staging,
    operations: &[BatchOperation],
    now_ms: u64,
) -> Result<Staged, Failure> {
    let mut results = Vec::with_capacity(operations.len());
    let mut reread = Vec::new();
    let mut written = BTreeSet::new();
    for (index, operation) in operations.iter().enumerate() {
        let result = match operation {
            BatchOperation::Get { key } => {
                if written.contains(key.as_str()) {
                    reread.push(index);
                }
                Ok(read(staging, key))
            }
            BatchOperation::Put { key, value, options } => {
                check_write(key, value.len(), options, now_ms)
                    .and_then(|checked| {
                        require(staging, key, options.condition)?;
                        staging.put(key, value.clone(), checked)
                    })
                    .map(|()| BatchResult::Success { version: None })
            }
            BatchOperation::Delete { key, condition } => check_key(key)
                .and_then(|()| require(staging, key, *condition))
                .and_then(|()| staging.delete(key))
                .map(|()| BatchResult::Success { version: None }),
            BatchOperation::Check { key, condition } => check_key(key)
                .and_then(|()| require(staging, key, *condition))
                .map(|()| BatchResult::Success { version: None }),
        };
        if operation.is_write() {
            written.insert(operation.key());
        }
        results.push(result.map_err(|cause| Failure { index, cause })?);
    }
    Ok(Staged { results, reread })
}

impl Staged {
    /// The answers, once the batch is committed with this version.
    pub(crate) fn committed(
        mut self,
        operations: &[BatchOperation],
        committed: Version,
    ) -> Vec<BatchResult> {
        for index in self.reread {
            if let Some(BatchResult::Value(Some(object))) = self.results.get_mut(index)
                && object.head.version == Version::default()
            {
                object.head.version = committed;
            }
        }
        for (operation, result) in operations.iter().zip(&mut self.results) {
            if let (BatchOperation::Put { options, .. }, BatchResult::Success { version }) =
                (operation, result)
            {
                *version = Some(options.version.unwrap_or(committed));
            }
        }
        self.results
    }
}

impl Failure {
    /// The error of the operation that failed.
    pub(crate) fn into_error(self, operations: &[BatchOperation]) -> StorageError {
        match operations.get(self.index) {
            Some(operation) => self.cause.with_key(operation.key()),
            None => self.cause,
        }
    }

    /// The answers of a batch that wrote nothing: an error for each write, and for each read what
    /// the key holds in `staging`, where nothing is staged.
    pub(crate) fn results(
        self,
        staging: &impl Staging,
        operations: &[BatchOperation],
    ) -> Vec<BatchResult> {
        let mut results: Vec<_> = operations
            .iter()
            .map(|operation| match operation {
                BatchOperation::Get { key } => read(staging, key),
                BatchOperation::Put { key, .. }
                | BatchOperation::Delete { key, .. }
                | BatchOperation::Check { key, .. } => {
                    let message = format!(
                        "nothing of the batch was written, because operation {} failed: {}",
                        self.index, self.cause
                    );
                    BatchResult::Error(self.cause.same_kind(message).with_key(key))
                }
            })
            .collect();
        if let (Some(result), Some(operation)) =
            (results.get_mut(self.index), operations.get(self.index))
        {
            *result = BatchResult::Error(self.cause.with_key(operation.key()));
        }
        results
    }
}

fn require(staging: &impl Staging, key: &str, condition: Condition) -> Result<()> {
    match condition {
        Condition::Always => Ok(()),
        condition => condition.require(staging.version(key)?),
    }
}

fn read(staging: &impl Staging, key: &str) -> BatchResult {
    match check_key(key).and_then(|()| staging.read(key)) {
        Ok(object) => BatchResult::Value(object),
        Err(error) => BatchResult::Error(error.with_key(key)),
    }
}

/// The strongest durability that a write of the batch asks for; `default` stands for those that
/// name none.
pub(crate) fn strongest<'o>(
    operations: impl IntoIterator<Item = &'o BatchOperation>,
    default: Durability,
) -> Durability {
    let mut strongest = Durability::None;
    for operation in operations {
        let wanted = match operation {
            BatchOperation::Put { options, .. } => options.durability.unwrap_or(default),
            BatchOperation::Delete { .. } => default,
            BatchOperation::Get { .. } | BatchOperation::Check { .. } => continue,
        };
        strongest = match (strongest, wanted) {
            (Durability::Sync, _) | (_, Durability::Sync) => Durability::Sync,
            (Durability::Interval(a), Durability::Interval(b)) => Durability::Interval(a.min(b)),
            (Durability::None, other) | (other, Durability::None) => other,
        };
    }
    strongest
}

#[cfg(test)]
mod tests;

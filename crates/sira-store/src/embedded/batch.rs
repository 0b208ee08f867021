//! Atomic batches of the embedded engine.

use bytes::Bytes;

use super::backend::object;
use super::{Commit, EmbeddedBackend, NamespaceId, Transaction, WriteOptions};
use crate::backend::{BatchOperation, BatchResult, Object};
use crate::batch::{self, Staging, strongest};
use crate::error::Result;
use crate::key::{CheckedWrite, check_batch, check_key};
use crate::version::Version;

impl EmbeddedBackend {
    /// Runs a batch as one transaction over all its keys. Reads see the batch's earlier writes. When
    /// a write fails nothing is written, every write answers an error, and the reads answer what the
    /// keys hold without the batch.
    pub(super) async fn run_batch(
        &self,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        let (results, commit) = self.apply(&operations)?;
        if let Some(commit) = commit {
            let default = self.engine().options().durability;
            self.settle(commit, Some(strongest(&operations, default))).await?;
        }
        Ok(results)
    }

    fn apply(&self, operations: &[BatchOperation]) -> Result<(Vec<BatchResult>, Option<Commit>)> {
        if self.find().is_none() && !operations.iter().any(BatchOperation::decides) {
            let nothing = |operation: &BatchOperation| match check_key(operation.key()) {
                Ok(()) => BatchResult::Value(None),
                Err(error) => BatchResult::Error(self.locate(error, operation.key())),
            };
            return Ok((operations.iter().map(nothing).collect(), None));
        }
        self.in_namespace(|namespace| self.apply_in(namespace, operations))
    }

    fn apply_in(
        &self,
        namespace: NamespaceId,
        operations: &[BatchOperation],
    ) -> Result<(Vec<BatchResult>, Option<Commit>)> {
        // An operation with a key that is none fails before it reaches the engine.
        let keys: Vec<_> = operations
            .iter()
            .map(BatchOperation::key)
            .filter(|key| check_key(key).is_ok())
            .map(|key| (namespace, key.as_bytes()))
            .collect();

        let mut writes = Writes { namespace, transaction: self.engine().begin(&keys) };
        match batch::stage(&mut writes, operations, self.engine().env().now_ms()) {
            Ok(staged) => {
                let commit = match writes.transaction.is_empty() {
                    true => None,
                    false => Some(writes.transaction.commit()?),
                };
                let version = commit.map_or(Version::default(), |commit| commit.version);
                Ok((staged.committed(operations, version), commit))
            }
            Err(failure) => {
                drop(writes);
                let reads = Writes { namespace, transaction: self.engine().begin(&keys) };
                Ok((failure.results(&reads, operations), None))
            }
        }
    }
}

/// The batch's transaction.
pub(super) struct Writes<'a> {
    pub(super) namespace: NamespaceId,
    pub(super) transaction: Transaction<'a>,
}

impl Staging for Writes<'_> {
    fn read(&self, key: &str) -> Result<Option<Object>> {
        let found = self.transaction.get(self.namespace, key.as_bytes())?;
        found.map(|stored| object(stored, None)).transpose()
    }

    fn version(&self, key: &str) -> Result<Option<Version>> {
        let found = self.transaction.head(self.namespace, key.as_bytes())?;
        Ok(found.map(|stored| stored.version))
    }

    fn put(&mut self, key: &str, value: Bytes, checked: CheckedWrite) -> Result<()> {
        let options = WriteOptions {
            expires_at_ms: checked.expires_at_ms,
            metadata: &checked.metadata,
            version: checked.version,
        };
        self.transaction.put(self.namespace, key.as_bytes(), value, options)
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        self.transaction.delete(self.namespace, key.as_bytes()).map(|_| ())
    }
}

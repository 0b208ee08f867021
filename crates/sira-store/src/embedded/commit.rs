//! Transactions over several namespaces of the engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::batch::Writes;
use super::{Commit, EmbeddedBackend, NamespaceId};
use crate::backend::{BatchOperation, BatchResult};
use crate::batch::{self, strongest};
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::transaction::{TransactionEngine, TransactionPart, check_parts};
use crate::version::Version;

#[async_trait]
impl TransactionEngine for EmbeddedBackend {
    fn identity(&self) -> usize {
        Arc::as_ptr(self.engine()) as usize
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        check_parts(&parts)?;
        let (results, commit) = self.run_parts(&parts)?;
        if let Some(commit) = commit {
            let default = self.engine().options().durability;
            let operations = parts.iter().flat_map(|part| &part.operations);
            self.settle(commit, Some(strongest(operations, default))).await?;
        }
        Ok(results)
    }
}

impl EmbeddedBackend {
    fn run_parts(
        &self,
        parts: &[TransactionPart],
    ) -> Result<(Vec<Vec<BatchResult>>, Option<Commit>)> {
        let engine = self.engine();
        loop {
            let mut spaces = Vec::with_capacity(parts.len());
            for part in parts {
                spaces.push(match engine.find_namespace(&part.namespace) {
                    Some(namespace) => namespace,
                    None => engine.namespace(&part.namespace)?,
                });
            }
            match self.run_in(&spaces, parts) {
                // A namespace was dropped before the step was done.
                Err(StorageError::NotFound(_))
                    if !parts
                        .iter()
                        .zip(&spaces)
                        .all(|(part, id)| engine.find_namespace(&part.namespace) == Some(*id)) => {}
                ran => return ran,
            }
        }
    }

    fn run_in(
        &self,
        spaces: &[NamespaceId],
        parts: &[TransactionPart],
    ) -> Result<(Vec<Vec<BatchResult>>, Option<Commit>)> {
        let engine = self.engine();
        // Keys that are not there yet have no lock of their own that keeps them away.
        let mut transaction = match parts.iter().any(|part| !part.listed.is_empty()) {
            true => engine.begin_exclusive(),
            false => {
                let keys = spaces.iter().zip(parts).flat_map(|(space, part)| {
                    let keys = part.operations.iter().map(BatchOperation::key);
                    keys.filter(|key| check_key(key).is_ok()).map(|key| (*space, key.as_bytes()))
                });
                engine.begin(&keys.collect::<Vec<_>>())
            }
        };
        let now_ms = engine.env().now_ms();
        let mut staged = Vec::with_capacity(parts.len());
        for (namespace, part) in spaces.iter().zip(parts) {
            let located = |error: StorageError| error.with_namespace(&*part.namespace);
            for listed in &part.listed {
                let page = self.page_of(*namespace, &listed.again()).map_err(located)?;
                listed.require(&page).map_err(located)?;
            }
            let mut writes = Writes { namespace: *namespace, transaction };
            let ran = batch::stage(&mut writes, &part.operations, now_ms);
            staged.push(ran.map_err(|failure| located(failure.into_error(&part.operations)))?);
            transaction = writes.transaction;
        }
        let commit = match transaction.is_empty() {
            true => None,
            false => Some(transaction.commit()?),
        };
        let version = commit.map_or(Version::default(), |commit| commit.version);
        let results = staged.into_iter().zip(parts);
        let results = results.map(|(staged, part)| staged.committed(&part.operations, version));
        Ok((results.collect(), commit))
    }
}

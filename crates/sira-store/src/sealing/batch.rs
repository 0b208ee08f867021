//! Batches: their writes are sealed before, their reads opened after.

use std::collections::BTreeSet;

use super::{BLOCKING_BYTES_MIN, Ready, SealingBackend, TRIES, aside};
use crate::backend::{BatchOperation, BatchResult, ReadOptions, StorageBackend, run_each};
use crate::error::{Result, StorageError};
use crate::key::check_batch;
use crate::transaction::{PreparedPart, TransactionPart};
use crate::version::Version;

/// An operation that is ready for the backend.
enum Prepared {
    Put { key: String, ready: Box<Ready> },
    Other(BatchOperation),
    Refused { operation: BatchOperation, cause: StorageError },
}

impl Prepared {
    fn operation(&self) -> BatchOperation {
        match self {
            Self::Put { key, ready } => BatchOperation::Put {
                key: key.clone(),
                value: ready.value.clone(),
                options: ready.options.clone(),
            },
            Self::Other(operation) | Self::Refused { operation, .. } => operation.clone(),
        }
    }
}

impl Prepared {
    /// Key and version of a write whose version was drawn here.
    fn drawn(&self) -> Option<(&str, Version)> {
        match self {
            Self::Put { key, ready } => Some((key, ready.drawn.as_ref()?.1)),
            Self::Other(_) | Self::Refused { .. } => None,
        }
    }
}

impl SealingBackend {
    pub(super) async fn run_batch(
        &self,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        let atomic = self.inner.capabilities().atomic_batch;
        if !atomic && repeats_a_key(&operations) {
            return Ok(run_each(self, operations).await);
        }
        let prepared = self.seal_all(operations).await?;
        match atomic {
            true => self.run_atomic(prepared).await,
            false => self.run_apart(prepared).await,
        }
    }

    /// Seals the writes of a transaction's part, and opens what it reads.
    pub(super) async fn prepare_part(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        let TransactionPart { namespace, operations, listed } = part;
        let mut prepared = self.seal_all(operations).await?;
        let refused = prepared.iter().position(|one| matches!(one, Prepared::Refused { .. }));
        if let Some(index) = refused
            && let Prepared::Refused { operation, cause } = prepared.swap_remove(index)
        {
            return Err(self.locate(cause, operation.key()));
        }
        let operations = prepared.iter().map(Prepared::operation).collect();
        let draws = prepared.iter().any(|one| one.drawn().is_some());
        let part = TransactionPart { namespace, operations, listed };
        let inner = self.inner.prepare(part).await?.then(move |results| async move {
            match results {
                Ok(results) => self.opened(&prepared, results).await,
                Err(error) => {
                    if matches!(error, StorageError::Conflict(_)) {
                        for (key, version) in prepared.iter().filter_map(Prepared::drawn) {
                            self.step_over(key, version, TRIES / 2).await?;
                        }
                    }
                    Err(error)
                }
            }
        });
        Ok(if draws { inner.renewing() } else { inner })
    }

    async fn seal_all(&self, operations: Vec<BatchOperation>) -> Result<Vec<Prepared>> {
        let bytes: usize = operations
            .iter()
            .map(|operation| match operation {
                BatchOperation::Put { value, .. } => value.len(),
                _ => 0,
            })
            .sum();
        let own = self.clone();
        let prepare =
            move || operations.into_iter().map(|operation| own.prepare_one(operation)).collect();
        if bytes < BLOCKING_BYTES_MIN { Ok(prepare()) } else { aside(prepare).await }
    }

    fn prepare_one(&self, operation: BatchOperation) -> Prepared {
        let BatchOperation::Put { key, value, options } = operation else {
            return Prepared::Other(operation);
        };
        let ready =
            self.plan(options.clone()).and_then(|plan| self.ready(&key, value.clone(), plan));
        match ready {
            Ok(ready) => Prepared::Put { key, ready: Box::new(ready) },
            Err(cause) => {
                Prepared::Refused { operation: BatchOperation::Put { key, value, options }, cause }
            }
        }
    }

    /// All writes or none, again while drawn versions are refused.
    async fn run_atomic(&self, mut prepared: Vec<Prepared>) -> Result<Vec<BatchResult>> {
        let refused = prepared.iter().position(|one| matches!(one, Prepared::Refused { .. }));
        if let Some(index) = refused {
            return self.nothing_written(prepared, index).await;
        }
        let mut attempt = 0;
        loop {
            let operations = prepared.iter().map(Prepared::operation).collect();
            let results = self.inner.batch(operations).await?;
            if attempt == TRIES || !self.renew_refused(&mut prepared, &results, attempt).await? {
                return self.opened(&prepared, results).await;
            }
            attempt += 1;
        }
    }

    /// Gives writes whose drawn version was refused a newer one, and says whether there are any.
    async fn renew_refused(
        &self,
        prepared: &mut [Prepared],
        results: &[BatchResult],
        attempt: u32,
    ) -> Result<bool> {
        let mut any = false;
        for (one, result) in prepared.iter_mut().zip(results) {
            let conflict = matches!(result, BatchResult::Error(StorageError::Conflict(_)));
            if let Prepared::Put { key, ready } = one
                && let Some((_, version)) = &ready.drawn
                && conflict
            {
                self.step_over(key, *version, attempt).await?;
                self.renew(key, ready)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Each operation by itself; keys differ.
    async fn run_apart(&self, mut prepared: Vec<Prepared>) -> Result<Vec<BatchResult>> {
        let sent = prepared
            .iter()
            .filter(|one| !matches!(one, Prepared::Refused { .. }))
            .map(Prepared::operation)
            .collect();
        let mut answers = self.inner.batch(sent).await?.into_iter();
        let mut results = Vec::with_capacity(prepared.len());
        for one in &mut prepared {
            results.push(match one {
                Prepared::Refused { operation, cause } => {
                    let cause = cause.same_kind(cause.detail().message.clone());
                    BatchResult::Error(self.locate(cause, operation.key()))
                }
                Prepared::Put { .. } | Prepared::Other(_) => answers.next().unwrap_or_else(|| {
                    BatchResult::Error(StorageError::io("the backend answered too few operations"))
                }),
            });
        }
        for (one, result) in prepared.iter_mut().zip(&mut results) {
            let conflict = matches!(result, BatchResult::Error(StorageError::Conflict(_)));
            if let Prepared::Put { key, ready } = one
                && ready.drawn.is_some()
                && conflict
            {
                let written = self.write_ready(key, ready).await;
                *result = match written {
                    Ok(version) => BatchResult::Success { version: Some(version) },
                    Err(error) => BatchResult::Error(self.locate(error, key)),
                };
            }
        }
        self.opened(&prepared, results).await
    }

    /// Answers of a batch of which a write cannot be sealed.
    async fn nothing_written(
        &self,
        prepared: Vec<Prepared>,
        refused: usize,
    ) -> Result<Vec<BatchResult>> {
        let why = match prepared.get(refused) {
            Some(Prepared::Refused { cause, .. }) => cause.same_kind(format!(
                "nothing of the batch was written, because operation {refused} failed: {cause}"
            )),
            _ => StorageError::invalid_input("nothing of the batch was written"),
        };
        let mut results = Vec::with_capacity(prepared.len());
        for (index, one) in prepared.into_iter().enumerate() {
            results.push(match one {
                Prepared::Refused { operation, cause } if index == refused => {
                    BatchResult::Error(self.locate(cause, operation.key()))
                }
                Prepared::Other(BatchOperation::Get { key }) => {
                    let found = self.read(&key, ReadOptions::default()).await;
                    found.map_or_else(BatchResult::Error, BatchResult::Value)
                }
                other => {
                    let error = why.same_kind(why.detail().message.clone());
                    BatchResult::Error(self.locate(error, other.operation().key()))
                }
            });
        }
        Ok(results)
    }

    /// Opens what a batch has read.
    async fn opened(
        &self,
        prepared: &[Prepared],
        results: Vec<BatchResult>,
    ) -> Result<Vec<BatchResult>> {
        let mut opened = Vec::with_capacity(results.len());
        for (index, result) in results.into_iter().enumerate() {
            opened.push(match (result, prepared.get(index)) {
                (BatchResult::Value(Some(object)), Some(Prepared::Other(operation)))
                    if object.head.metadata.seal.is_some() =>
                {
                    match self.open(operation.key(), object).await {
                        Ok(object) => BatchResult::Value(Some(object)),
                        Err(error) => BatchResult::Error(self.locate(error, operation.key())),
                    }
                }
                (result, _) => result,
            });
        }
        Ok(opened)
    }
}

fn repeats_a_key(operations: &[BatchOperation]) -> bool {
    let mut keys = BTreeSet::new();
    !operations.iter().all(|operation| keys.insert(operation.key()))
}

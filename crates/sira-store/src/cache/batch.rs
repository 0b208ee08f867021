//! Batches: those that only read are answered from memory as far as that shows one moment, the rest
//! goes to the primary at once; those that write go there whole.

use super::CacheBackend;
use super::lease::Lease;
use super::memory::Place;
use super::read::{Kept, entry};
use super::space::Verdict;
use crate::backend::{BatchOperation, BatchResult, ReadOptions};
use crate::error::{Result, StorageError};
use crate::key::{check_batch, check_key};
use crate::transaction::{PreparedPart, TransactionPart};

impl CacheBackend {
    pub(super) async fn run_batch(
        &self,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchResult>> {
        check_batch(operations.len())?;
        self.settle_all().await?;
        let written: Vec<_> = operations
            .iter()
            .filter(|operation| operation.is_write())
            .map(|operation| operation.key().to_owned())
            .collect();
        let checked: Vec<_> = operations
            .iter()
            .filter(|operation| operation.decides() && !operation.is_write())
            .map(|operation| operation.key().to_owned())
            .collect();
        if written.is_empty() {
            // What memory has may be behind what a check must be told.
            return match checked.is_empty() {
                true => self.read_batch(operations).await,
                false => {
                    self.forget_refused(checked, self.space.primary.batch(operations).await).await
                }
            };
        }
        let keys: Vec<_> = written.iter().map(String::as_str).collect();
        let guarded = self.begin(&keys).await;
        let results = self.space.primary.batch(operations).await;
        for result in results.iter().flatten() {
            if let BatchResult::Success { version } = result {
                self.observe(*version);
            }
        }
        self.end(guarded, &results);
        self.forget_refused(checked, results).await
    }

    /// Forgets the keys of checks where one was refused: what is kept of them may be what the caller
    /// had read, and would be what it reads again.
    async fn forget_refused(
        &self,
        checked: Vec<String>,
        results: Result<Vec<BatchResult>>,
    ) -> Result<Vec<BatchResult>> {
        let failed = |error: &StorageError| matches!(error, StorageError::PreconditionFailed(_));
        let refused = match &results {
            Ok(results) => results
                .iter()
                .any(|result| matches!(result, BatchResult::Error(error) if failed(error))),
            Err(error) => failed(error),
        };
        if refused && !checked.is_empty() {
            let keys: Vec<_> = checked.iter().map(String::as_str).collect();
            let guarded = self.begin(&keys).await;
            self.end(guarded, &results);
        }
        results
    }

    /// Takes the keys of a transaction's part out of the cache for as long as it may write to them.
    pub(super) async fn prepare_part(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.settle_all().await?;
        let keys = |of: fn(&BatchOperation) -> bool| -> Vec<String> {
            let chosen = part.operations.iter().filter(|operation| of(operation));
            chosen.map(|operation| operation.key().to_owned()).collect()
        };
        let written = keys(BatchOperation::is_write);
        let checked = keys(|operation| operation.decides() && !operation.is_write());
        let written: Vec<_> = written.iter().map(String::as_str).collect();
        let guarded = self.begin(&written).await;
        let prepared = self.space.primary.prepare(part).await?;
        Ok(prepared.then(move |results| async move {
            for result in results.iter().flatten() {
                if let BatchResult::Success { version } = result {
                    self.observe(*version);
                }
            }
            self.end(guarded, &results);
            self.forget_refused(checked, results).await
        }))
    }

    async fn read_batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let core = &self.core;
        let keys: Vec<_> = operations.iter().map(|operation| operation.key().to_owned()).collect();
        let read_at_ms = core.clock.monotonic_ms();
        let asked: Vec<(Place<'_>, Lease)> = keys
            .iter()
            .map(|key| (core.place(self.space.id, key), core.leases.lease(core.hash_key(key))))
            .collect();
        let mut answers: Vec<_> = asked.iter().map(|(place, _)| self.answer_kept(*place)).collect();
        let missing = answers.iter().zip(&operations).filter(|(answer, _)| answer.is_none());
        let missing: Vec<_> = missing.map(|(_, operation)| operation.clone()).collect();
        let partly = missing.len() < operations.len();

        let mut loaded = match missing.is_empty() {
            true => Vec::new(),
            false => self.space.primary.batch(missing).await?,
        }
        .into_iter();
        // What memory had is still current now that the rest is read: all of it held at one moment.
        let now_ms = core.clock.monotonic_ms();
        let kept = answers.iter().zip(&asked).filter(|(answer, _)| answer.is_some());
        if partly
            && !kept.map(|(_, (_, lease))| *lease).all(|lease| core.leases.holds(lease, now_ms))
        {
            answers.iter_mut().for_each(|answer| *answer = None);
            loaded = self.space.primary.batch(operations).await?.into_iter();
        }
        let mut results = Vec::with_capacity(answers.len());
        for (answer, (place, lease)) in answers.into_iter().zip(asked) {
            if let Some(answer) = answer {
                results.push(answer);
                continue;
            }
            let Some(result) = loaded.next() else { break };
            if let BatchResult::Value(object) = &result {
                core.counters.loads.add();
                self.keep(place, lease, entry(object.clone(), read_at_ms), Kept::default());
            }
            results.push(result);
        }
        Ok(results)
    }

    /// The answer to a read of a batch, if memory may give it.
    fn answer_kept(&self, place: Place<'_>) -> Option<BatchResult> {
        check_key(place.key).ok()?;
        let hit = self.space.pool.get(place, true)?;
        if self.space.judge(&hit.entry, &self.core.clock) != Verdict::Serve {
            return None;
        }
        self.core.counters.memory_hits.add();
        hit.entry.answer(&ReadOptions::default()).ok().map(BatchResult::Value)
    }
}

//! Several changes as one transaction.
//!
//! etcd takes 128 comparisons or operations on all nested levels of a transaction together: 64
//! comparisons over transactions of up to 64 operations each. Up to 64 keys are compared one by one.
//! Of more, neighbours are compared as a range in which nothing was written since, which other
//! writers between them refuse as well; a range does not tell that a key in it was removed, so keys
//! whose condition wants them to be there are compared by themselves all the same.

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use sira_store::driver::{Change, CommitError, Guard, Place};
use sira_store::{Condition, Result, StorageError, Version};

use super::change::{self, Seen, puts, removals, unchanged};
use super::error::Effect;
use super::layout::Names;
use super::patience::{RETRIES, contended, give_way};
use super::{EtcdDriver, unexpected};

/// Most changes of one commit, with three operations each.
pub(super) const CHANGES_MAX: usize = 1024;

/// Most comparisons, and most operations of one nested transaction.
const LEVEL: usize = 64;

impl EtcdDriver {
    /// Makes all changes or none.
    pub(super) async fn commit_all(
        &self,
        place: &Place,
        mut changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        let names: Vec<_> = changes.iter().map(|change| self.names(place, change.key())).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        for attempt in 0..RETRIES {
            give_way(attempt).await;
            let (seen, revision) = self.look(&names).await?;
            admit(&mut changes, &seen)?;
            let txn = transaction(&names, &changes, &seen, revision)?;
            if self.link.txn(txn, Effect::Write).await?.succeeded() {
                return Ok(versions(&changes));
            }
        }
        Err(contended().into())
    }

    /// What several keys hold at one moment, and the revision that it has.
    pub(super) async fn look(&self, names: &[Names]) -> Result<(Vec<Seen>, i64)> {
        let response = self.link.txn(change::look_at_all(names), Effect::Read).await?;
        let seen = change::seen(&response)?;
        match response.header() {
            Some(header) if seen.len() == names.len() => Ok((seen, header.revision())),
            _ => Err(unexpected()),
        }
    }
}

/// Judges the changes by what their keys hold, and sets the versions to write.
fn admit(changes: &mut [Change], seen: &[Seen]) -> Result<(), CommitError> {
    for (index, (change, seen)) in changes.iter_mut().zip(seen).enumerate() {
        let admitted = match change {
            Change::Put { record, guard, .. } => {
                guard.admit(seen.held, record.version).map(|version| record.version = version)
            }
            Change::Remove { guard, .. } | Change::Check { guard, .. } => {
                guard.admit_removal(seen.held).map(drop)
            }
        };
        admitted.map_err(|error| CommitError { index: Some(index), error })?;
    }
    Ok(())
}

/// The versions that are written.
fn versions(changes: &[Change]) -> Vec<Option<Version>> {
    let version = |change: &Change| match change {
        Change::Put { record, .. } => Some(record.version),
        Change::Remove { .. } | Change::Check { .. } => None,
    };
    changes.iter().map(version).collect()
}

/// Makes the changes if the keys still hold what was seen at this revision.
///
/// # Errors
/// [`StorageError::TooLarge`] for more conditions than etcd compares.
fn transaction(names: &[Names], changes: &[Change], seen: &[Seen], revision: i64) -> Result<Txn> {
    let ops: Vec<TxnOp> = names
        .iter()
        .zip(changes)
        .flat_map(|(names, change)| match change {
            Change::Put { record, .. } => puts(names, record),
            Change::Remove { .. } => removals(names),
            Change::Check { .. } => Vec::new(),
        })
        .collect();
    let parts = ops.chunks(LEVEL).map(|part| TxnOp::txn(Txn::new().and_then(part)));
    let compares = compares(names, changes, seen, revision)?;
    Ok(Txn::new().when(compares).and_then(parts.collect::<Vec<_>>()))
}

fn compares(
    names: &[Names],
    changes: &[Change],
    seen: &[Seen],
    revision: i64,
) -> Result<Vec<Compare>> {
    let all_alone = names.len() <= LEVEL;
    let (mut compares, mut ranged) = (Vec::new(), Vec::new());
    for ((names, change), seen) in names.iter().zip(changes).zip(seen) {
        if all_alone || wants_presence(change.guard()) {
            compares.push(unchanged(names, seen));
        } else {
            ranged.push(names.head.as_slice());
        }
    }
    if ranged.is_empty() && compares.len() <= LEVEL {
        return Ok(compares);
    }
    let room = LEVEL.saturating_sub(compares.len());
    if room == 0 {
        return Err(StorageError::too_large(format!(
            "etcd checks fewer than {LEVEL} conditions that want a key to be there in a batch of \
             more than {LEVEL} changes, this one has {}; split it",
            compares.len()
        )));
    }
    ranged.sort_unstable();
    for range in ranged.chunks(ranged.len().div_ceil(room)) {
        if let (Some(first), Some(last)) = (range.first(), range.last()) {
            let behind = [last, &b"\0"[..]].concat();
            let older = Compare::mod_revision(*first, CompareOp::Less, revision + 1);
            compares.push(older.with_range(behind));
        }
    }
    Ok(compares)
}

/// Whether the condition fails when what was seen is removed.
fn wants_presence(guard: &Guard) -> bool {
    match guard.condition {
        Condition::Always | Condition::IfAbsent | Condition::IfNoneMatch(_) => false,
        Condition::IfPresent | Condition::IfMatch(_) => true,
    }
}

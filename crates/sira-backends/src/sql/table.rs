//! Names of tables, and how the changes of a batch are spread over statements.

use bytes::Bytes;
use sira_store::driver::Change;
use sira_store::{Condition, Result, StorageError};

/// Longest name of a table, in bytes: names of its indexes still fit into what engines allow.
const TABLE_NAME_BYTES_MAX: usize = 50;

/// Largest body of a put that shares a statement with others, in bytes.
const SHARED_BODY_BYTES_MAX: usize = 64 * 1024;

/// How often a guarded write is tried again because another one came between.
pub(crate) const TRIES_MAX: usize = 16;

/// The error of a write that others came before, again and again.
pub(crate) fn overtaken() -> StorageError {
    StorageError::conflict("other writers changed the key again and again; retry later")
}

/// Checks the name of a table: a letter or underscore, then letters, digits and underscores.
pub(crate) fn check_table_name(name: &str) -> Result<()> {
    let first = name.bytes().next();
    let fine = first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.len() <= TABLE_NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fine {
        return Ok(());
    }
    Err(StorageError::invalid_input(format!(
        "a table cannot be named {name:?}: use up to {TABLE_NAME_BYTES_MAX} letters, digits and \
         underscores, with no digit first"
    )))
}

/// Changes of a batch that go into one statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Small puts without a guard.
    Puts(Vec<usize>),
    /// Small puts of given versions, without a condition.
    ExactPuts(Vec<usize>),
    /// Removals without a guard.
    Removals(Vec<usize>),
    /// One change.
    One(usize),
}

/// Orders the changes of a batch by key, so that batches that run at once lock rows in one order, and
/// joins neighbours that one statement can do, up to `changes_max` of them with `bytes_max` bytes.
pub(crate) fn plan(changes: &[Change], changes_max: usize, bytes_max: usize) -> Vec<Step> {
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_unstable_by_key(|&index| changes.get(index).map(Change::key));
    let mut steps = Vec::new();
    let mut bytes = 0;
    for index in order {
        let Some(change) = changes.get(index) else { continue };
        let size = match change {
            Change::Put { key, record, .. } => key.len() + payload(&record.envelope, &record.body),
            Change::Remove { key, .. } | Change::Check { key, .. } => key.len(),
        };
        bytes += size;
        let fits = |run: &Vec<usize>| run.len() < changes_max && bytes <= bytes_max;
        match (change, steps.last_mut()) {
            (Change::Put { record, guard, .. }, last)
                if guard.condition == Condition::Always
                    && record.body.len() <= SHARED_BODY_BYTES_MAX =>
            {
                match (last, guard.exact) {
                    (Some(Step::Puts(run)), false) | (Some(Step::ExactPuts(run)), true)
                        if fits(run) =>
                    {
                        run.push(index);
                    }
                    (_, exact) => {
                        bytes = size;
                        let run = vec![index];
                        steps.push(if exact { Step::ExactPuts(run) } else { Step::Puts(run) });
                    }
                }
            }
            (Change::Remove { guard, .. }, last) if guard.is_blind() => match last {
                Some(Step::Removals(run)) if fits(run) => run.push(index),
                _ => {
                    bytes = size;
                    steps.push(Step::Removals(vec![index]));
                }
            },
            _ => steps.push(Step::One(index)),
        }
    }
    steps
}

fn payload(envelope: &Bytes, body: &Bytes) -> usize {
    envelope.len() + body.len()
}

#[cfg(test)]
mod tests;

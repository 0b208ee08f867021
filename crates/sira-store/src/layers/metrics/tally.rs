//! What the namespaces of a backend do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::layers::around::{Operation, OperationKind};

/// Namespaces that are counted apart; what further ones do counts with the backend alone.
const NAMESPACES_MAX: usize = 10_000;

/// Counts what a namespace does.
#[derive(Debug, Default)]
pub struct NamespaceTally {
    reads: AtomicU64,
    writes: AtomicU64,
    read_bytes: AtomicU64,
}

/// What a namespace of a backend has done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceFigures {
    /// Reads of objects and of what describes them.
    pub reads: u64,
    /// Writes, removals and pages of listings.
    pub writes: u64,
    /// Bytes of values that were read.
    pub read_bytes: u64,
}

impl NamespaceFigures {
    /// Adds others.
    pub fn add(&mut self, more: Self) {
        self.reads += more.reads;
        self.writes += more.writes;
        self.read_bytes += more.read_bytes;
    }
}

impl NamespaceTally {
    /// Counts an operation that ended, by an answer of so many bytes or by an error.
    pub(super) fn count(&self, operation: &Operation<'_>, read_bytes: u64) {
        let (reads, writes) = match operation.kind {
            OperationKind::Read | OperationKind::Head => (1, 0),
            OperationKind::Put
            | OperationKind::PutStream
            | OperationKind::Remove
            | OperationKind::List => (0, 1),
            OperationKind::Batch => operation.batched,
            OperationKind::Stats | OperationKind::Flush | OperationKind::Namespace => return,
        };
        for (counter, more) in
            [(&self.reads, reads), (&self.writes, writes), (&self.read_bytes, read_bytes)]
        {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    fn figures(&self) -> NamespaceFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NamespaceFigures {
            reads: load(&self.reads),
            writes: load(&self.writes),
            read_bytes: load(&self.read_bytes),
        }
    }
}

/// The tallies of a backend.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_namespace: RwLock<BTreeMap<String, Arc<NamespaceTally>>>,
    /// Transactions, and namespaces that are not counted apart.
    others: NamespaceTally,
}

impl Tallies {
    /// The tally of a namespace, made if it is not there.
    pub(super) fn of(&self, namespace: &str) -> Option<Arc<NamespaceTally>> {
        if let Some(tally) = self.by_namespace.read().get(namespace) {
            return Some(Arc::clone(tally));
        }
        let mut tallies = self.by_namespace.write();
        if tallies.len() >= NAMESPACES_MAX && !tallies.contains_key(namespace) {
            return None;
        }
        Some(Arc::clone(tallies.entry(namespace.to_owned()).or_default()))
    }

    /// Counts an operation with its namespace, or else with the backend.
    pub(super) fn count(&self, operation: &Operation<'_>, read_bytes: u64) {
        operation.tally.unwrap_or(&self.others).count(operation, read_bytes);
    }

    /// What every namespace has done, and what counts with none of them.
    pub(super) fn figures(&self) -> (BTreeMap<String, NamespaceFigures>, NamespaceFigures) {
        let tallies = self.by_namespace.read();
        let named = tallies.iter().map(|(name, tally)| (name.clone(), tally.figures()));
        (named.collect(), self.others.figures())
    }
}

#[cfg(test)]
mod tests;

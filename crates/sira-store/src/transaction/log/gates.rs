//! Who writes to a key now: single writes together, a commit alone.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Gates; keys share them.
const GATES: usize = 256;

/// Gates that writes go through. Who needs several takes them in ascending order, so that nobody
/// waits in a circle.
#[derive(Debug)]
pub(super) struct Gates {
    gates: Vec<Arc<RwLock<()>>>,
    hasher: FixedState,
}

/// A single write goes on.
pub(super) type Passage = OwnedRwLockReadGuard<()>;

/// Nobody else writes.
pub(super) type Closure = Vec<OwnedRwLockWriteGuard<()>>;

impl Default for Gates {
    fn default() -> Self {
        let gates = std::iter::repeat_with(Arc::default).take(GATES).collect();
        Self { gates, hasher: FixedState::default() }
    }
}

impl Gates {
    fn number(&self, key: (&str, &str)) -> usize {
        self.hasher.hash_one(key) as usize % GATES
    }

    fn of<'k>(
        &self,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> impl Iterator<Item = &Arc<RwLock<()>>> {
        let numbers: BTreeSet<usize> = keys.into_iter().map(|key| self.number(key)).collect();
        numbers.into_iter().filter_map(|number| self.gates.get(number))
    }

    /// Lets a single write through once no commit is about its key.
    pub(super) async fn pass(&self, namespace: &str, key: &str) -> Passage {
        // There are as many gates as numbers.
        Arc::clone(&self.gates[self.number((namespace, key))]).read_owned().await
    }

    /// The same for writes to several keys.
    pub(super) async fn pass_all<'k>(
        &self,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> Vec<Passage> {
        let mut held = Vec::new();
        for gate in self.of(keys) {
            held.push(Arc::clone(gate).read_owned().await);
        }
        held
    }

    /// Keeps single writes and other commits away from these keys.
    pub(super) async fn close<'k>(
        &self,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> Closure {
        let mut held = Vec::new();
        for gate in self.of(keys) {
            held.push(Arc::clone(gate).write_owned().await);
        }
        held
    }

    /// Keeps them away from every key.
    pub(super) async fn close_all(&self) -> Closure {
        let mut held = Vec::with_capacity(GATES);
        for gate in &self.gates {
            held.push(Arc::clone(gate).write_owned().await);
        }
        held
    }
}

//! Locks for keys: what a write read does not change until it is applied.

use parking_lot::{Mutex, MutexGuard};

use super::NamespaceId;

/// Number of locks; a power of two.
const STRIPES: usize = 1024;

/// A fixed set of locks that keys are hashed to.
#[derive(Debug)]
pub(super) struct Stripes {
    locks: Box<[Mutex<()>]>,
}

/// The locks of some keys, taken in ascending order, so that nobody waits in a circle.
#[derive(Debug)]
pub(super) enum Held<'a> {
    One { _guard: MutexGuard<'a, ()> },
    Many { _guards: Vec<MutexGuard<'a, ()>> },
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self { locks: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }

    fn stripe(namespace: NamespaceId, key: &[u8]) -> usize {
        crc32c::crc32c_append(namespace.0, key) as usize % STRIPES
    }

    pub(super) fn lock_one(&self, namespace: NamespaceId, key: &[u8]) -> MutexGuard<'_, ()> {
        self.locks[Self::stripe(namespace, key)].lock()
    }

    pub(super) fn lock(&self, keys: &[(NamespaceId, &[u8])]) -> Held<'_> {
        if let [(namespace, key)] = keys {
            return Held::One { _guard: self.lock_one(*namespace, key) };
        }
        let mut stripes: Vec<_> =
            keys.iter().map(|(namespace, key)| Self::stripe(*namespace, key)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        Held::Many { _guards: stripes.into_iter().map(|n| self.locks[n].lock()).collect() }
    }

    pub(super) fn lock_all(&self) -> Held<'_> {
        Held::Many { _guards: self.locks.iter().map(|lock| lock.lock()).collect() }
    }

    /// Waits until every write that began before this call has been applied.
    pub(super) fn drain(&self) {
        for lock in &self.locks {
            drop(lock.lock());
        }
    }
}

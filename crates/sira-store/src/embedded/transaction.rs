//! Stand-in with the final interface.
#![allow(missing_docs)]
use bytes::Bytes;

use super::engine::Engine;
use super::*;
use crate::error::Result;

/// Reads and writes of some keys as one step: what it read does not change until it ends, and its
/// writes become visible and durable together or not at all. Dropped without commit, it does
/// nothing.
#[derive(Debug)]
pub struct Transaction<'a> {
    engine: &'a Engine,
    _guard: parking_lot::MutexGuard<'a, ()>,
    staged: Vec<(NamespaceId, Bytes, Option<StoredObject>)>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, _guard: engine.writer.lock(), staged: Vec::new() }
    }
    /// The object under a key, the transaction's own writes included.
    pub fn get(&self, ns: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        if let Some((_, _, o)) = self.staged.iter().rev().find(|s| s.0 == ns && s.1 == key) {
            return Ok(o.clone());
        }
        Ok(self.engine.live(ns, key))
    }
    /// All but the bytes.
    pub fn head(&self, ns: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        self.get(ns, key)
    }
    /// Stages a write.
    pub fn put(
        &mut self,
        ns: NamespaceId,
        key: &[u8],
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> Result<()> {
        let o = StoredObject {
            version: Version::default(),
            expires_at_ms: options.expires_at_ms,
            metadata: Bytes::copy_from_slice(options.metadata),
            size: value.len() as u64,
            value,
        };
        self.staged.push((ns, Bytes::copy_from_slice(key), Some(o)));
        Ok(())
    }
    /// Stages a removal; says whether an object is there.
    pub fn delete(&mut self, ns: NamespaceId, key: &[u8]) -> Result<bool> {
        let there = self.get(ns, key)?.is_some();
        if there {
            self.staged.push((ns, Bytes::copy_from_slice(key), None));
        }
        Ok(there)
    }
    /// Whether anything is staged.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }
    /// Applies the staged writes in one atomic frame. With none, nothing is written and the commit
    /// names the last durable ticket.
    pub fn commit(self) -> Result<Commit> {
        let version = self.engine.clock.next(self.engine.env.now_ms());
        let mut map = self.engine.map.write();
        for (ns, key, object) in self.staged {
            match object {
                Some(mut object) => {
                    object.version = version;
                    map.insert((ns.0, key.to_vec()), object);
                }
                None => {
                    map.remove(&(ns.0, key.to_vec()));
                }
            }
        }
        let ticket = self.engine.log.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1;
        Ok(Commit { version, ticket: Ticket(ticket) })
    }
}

//! What the memory backend holds: ordered entries, their bytes, and when they expire.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{Object, ObjectHead};
use crate::error::{Result, StorageError};
use crate::limits::NAMESPACES_MAX;
use crate::metadata::Metadata;
use crate::version::Version;

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Metadata,
    /// Size of the encoded metadata.
    pub(super) metadata_bytes: usize,
}

/// A new entry of a key in a namespace, or its removal.
pub(super) type Change<'a> = (&'a str, &'a [u8], Option<&'a Entry>);

impl Entry {
    pub(super) fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| at > now_ms)
    }

    pub(super) fn head(&self) -> ObjectHead {
        ObjectHead {
            version: self.version,
            size: self.value.len() as u64,
            expires_at_ms: self.expires_at_ms,
            metadata: self.metadata.clone(),
        }
    }

    pub(super) fn object(&self) -> Object {
        Object { head: self.head(), value: self.value.clone(), range: 0..self.value.len() as u64 }
    }

    fn bytes(&self, key: &[u8]) -> u64 {
        (key.len() + self.value.len() + self.metadata_bytes) as u64
    }
}

/// Objects of one namespace, in byte order of their keys.
pub(super) type Space = BTreeMap<Box<[u8]>, Entry>;

/// Everything that a store holds. `bytes` is the sum over all entries of all spaces, and `expiries`
/// names exactly the entries that expire. A space without entries is not kept.
#[derive(Debug)]
pub(super) struct State {
    spaces: BTreeMap<Arc<str>, Space>,
    expiries: BTreeSet<(u64, Arc<str>, Box<[u8]>)>,
    keys: u64,
    bytes: u64,
    bytes_max: u64,
}

impl State {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { spaces: BTreeMap::new(), expiries: BTreeSet::new(), keys: 0, bytes: 0, bytes_max }
    }

    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn namespaces(&self) -> Vec<String> {
        self.spaces.keys().map(|name| name.to_string()).collect()
    }

    /// The entry under a key, expired or not.
    pub(super) fn get(&self, space: &str, key: &[u8]) -> Option<&Entry> {
        self.spaces.get(space)?.get(key)
    }

    /// The version that a key holds, if it has not expired.
    pub(super) fn version(&self, space: &str, key: &[u8], now_ms: u64) -> Option<Version> {
        self.get(space, key).filter(|entry| entry.lives(now_ms)).map(|entry| entry.version)
    }

    /// Entries whose keys begin with `prefix` and come after `after`, expired ones included.
    pub(super) fn scan<'a>(
        &'a self,
        space: &str,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a Entry)> + use<'a> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range =
            self.spaces.get(space).map(|space| space.range::<[u8], _>((from, Bound::Unbounded)));
        range
            .into_iter()
            .flatten()
            .map(|(key, entry)| (&**key, entry))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Puts one entry in the place of what the key holds, if there is room.
    pub(super) fn put(
        &mut self,
        space: &Arc<str>,
        key: &[u8],
        entry: Entry,
        now_ms: u64,
    ) -> Result<()> {
        self.reserve([(&**space, key, Some(&entry))].into_iter(), now_ms)?;
        self.insert(space, key.into(), entry);
        Ok(())
    }

    /// Makes sure that the changes (an entry of a key in a namespace, or its removal with `None`) of
    /// distinct keys fit together, collecting expired objects if they do not at first.
    pub(super) fn reserve<'a>(
        &mut self,
        changes: impl Iterator<Item = Change<'a>> + Clone,
        now_ms: u64,
    ) -> Result<()> {
        if self.spaces_after(changes.clone()) > NAMESPACES_MAX {
            self.collect(now_ms, usize::MAX);
            if self.spaces_after(changes.clone()) > NAMESPACES_MAX {
                return Err(StorageError::out_of_space(format!(
                    "{NAMESPACES_MAX} namespaces hold objects, and no more can: empty one first"
                )));
            }
        }
        let mut needed = self.after(changes.clone());
        if needed > self.bytes_max {
            self.collect(now_ms, usize::MAX);
            needed = self.after(changes);
        }
        if needed > self.bytes_max && needed > self.bytes {
            return Err(StorageError::out_of_space(format!(
                "the write needs {} bytes and {} of {} are free: delete objects or raise the limit",
                needed - self.bytes,
                self.bytes_max.saturating_sub(self.bytes),
                self.bytes_max,
            )));
        }
        Ok(())
    }

    /// Namespaces that hold objects once the changes are made.
    fn spaces_after<'a>(&self, changes: impl Iterator<Item = Change<'a>>) -> usize {
        let new: BTreeSet<&str> = changes
            .filter(|(space, _, entry)| entry.is_some() && !self.spaces.contains_key(*space))
            .map(|(space, _, _)| space)
            .collect();
        if new.is_empty() { 0 } else { self.spaces.len() + new.len() }
    }

    /// Bytes held once the changes are made.
    fn after<'a>(&self, changes: impl Iterator<Item = Change<'a>>) -> u64 {
        let (mut added, mut freed) = (0, 0);
        for (space, key, entry) in changes {
            let held = self.spaces.get(space).and_then(|space| space.get(key));
            added += entry.map_or(0, |entry| entry.bytes(key));
            freed += held.map_or(0, |entry| entry.bytes(key));
        }
        self.bytes + added - freed
    }

    /// Puts one entry in the place of what the key holds; the room is reserved.
    pub(super) fn insert(&mut self, space: &Arc<str>, key: Box<[u8]>, entry: Entry) {
        self.bytes += entry.bytes(&key);
        self.keys += 1;
        if let Some(at) = entry.expires_at_ms {
            self.expiries.insert((at, Arc::clone(space), key.clone()));
        }
        let entries = self.spaces.entry(Arc::clone(space)).or_default();
        match entries.entry(key) {
            Place::Vacant(vacant) => {
                vacant.insert(entry);
            }
            Place::Occupied(mut occupied) => {
                let expires_at_ms = entry.expires_at_ms;
                let old = occupied.insert(entry);
                self.bytes -= old.bytes(occupied.key());
                self.keys -= 1;
                if let Some(at) = old.expires_at_ms.filter(|at| Some(*at) != expires_at_ms) {
                    self.expiries.remove(&(at, Arc::clone(space), occupied.key().clone()));
                }
            }
        }
    }

    /// Takes out what a key holds, expired or not.
    pub(super) fn remove(&mut self, space: &str, key: &[u8]) -> Option<Entry> {
        let (name, _) = self.spaces.get_key_value(space)?;
        let name = Arc::clone(name);
        let entries = self.spaces.get_mut(space)?;
        let (key, entry) = entries.remove_entry(key)?;
        if entries.is_empty() {
            self.spaces.remove(space);
        }
        self.bytes -= entry.bytes(&key);
        self.keys -= 1;
        if let Some(at) = entry.expires_at_ms {
            self.expiries.remove(&(at, name, key));
        }
        Some(entry)
    }

    /// Takes out a namespace with all its entries.
    pub(super) fn drop_namespace(&mut self, name: &str) -> Option<Space> {
        let space = self.spaces.remove(name)?;
        self.keys -= space.len() as u64;
        self.bytes -= space.iter().map(|(key, entry)| entry.bytes(key)).sum::<u64>();
        self.expiries.retain(|(_, space, _)| &**space != name);
        Some(space)
    }

    /// Takes out up to `most` objects that have expired.
    pub(super) fn collect(&mut self, now_ms: u64, most: usize) {
        for _ in 0..most {
            match self.expiries.first() {
                Some((at, _, _)) if *at <= now_ms => {}
                _ => return,
            }
            if let Some((_, space, key)) = self.expiries.pop_first() {
                self.remove(&space, &key);
            }
        }
    }
}

#[cfg(test)]
impl State {
    /// Whether the sums and the order of expiry agree with the entries.
    pub(super) fn is_consistent(&self) -> bool {
        let mut expiries = BTreeSet::new();
        let (mut keys, mut bytes) = (0, 0);
        for (name, space) in &self.spaces {
            for (key, entry) in space {
                keys += 1;
                bytes += entry.bytes(key);
                expiries.extend(entry.expires_at_ms.map(|at| (at, Arc::clone(name), key.clone())));
            }
        }
        let none_empty = self.spaces.values().all(|space| !space.is_empty());
        none_empty && (keys, bytes) == (self.keys, self.bytes) && expiries == self.expiries
    }
}

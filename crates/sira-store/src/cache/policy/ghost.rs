//! A cache of hashes alone, which tells how often a policy would have hit.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::s3_fifo::IdentityHasher;
use super::{EvictionPolicy, Item, Policy, policy};

/// A policy over hashes without keys and values.
#[derive(Debug)]
pub(in crate::cache) struct GhostCache {
    slots: HashMap<u64, u32, BuildHasherDefault<IdentityHasher>>,
    items: Vec<Item>,
    free: Vec<u32>,
    policy: Box<dyn Policy>,
    weight: u64,
    capacity: u64,
}

impl GhostCache {
    pub(in crate::cache) fn new(kind: EvictionPolicy, capacity: u64) -> Self {
        Self {
            slots: HashMap::default(),
            items: Vec::new(),
            free: Vec::new(),
            policy: policy(kind, capacity),
            weight: 0,
            capacity,
        }
    }

    /// Entries that it holds.
    pub(in crate::cache) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Reads an entry, which is taken in if it is not there, and says whether it was.
    pub(in crate::cache) fn access(&mut self, item: Item) -> bool {
        if let Some(slot) = self.slots.get(&item.hash) {
            self.policy.access(*slot);
            return true;
        }
        if item.weight > self.capacity {
            return false;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.items.get_mut(slot as usize) {
                    *place = item;
                }
                slot
            }
            None => {
                self.items.push(item);
                (self.items.len() - 1) as u32
            }
        };
        self.slots.insert(item.hash, slot);
        self.policy.insert(slot, item);
        self.weight += item.weight;
        while self.weight > self.capacity {
            let Some(slot) = self.policy.evict() else { break };
            if let Some(gone) = self.items.get(slot as usize) {
                self.weight -= gone.weight;
                self.slots.remove(&gone.hash);
            }
            self.free.push(slot);
        }
        false
    }
}

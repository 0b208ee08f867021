//! Least frequently used, with dynamic aging (Arlitt and others, "Evaluating content management
//! techniques for web proxy caches", 2000): what was popular long ago goes in the end.

use std::collections::BTreeSet;

use super::{Item, Policy};

/// Place of an entry in the order: the lowest priority goes first, the oldest among equals.
type Rank = (u64, u64);

#[derive(Debug, Default)]
pub(super) struct Lfu {
    ranks: Vec<Rank>,
    order: BTreeSet<(Rank, u32)>,
    /// Priority of the last entry that went: what is new begins above it.
    age: u64,
    turn: u64,
}

impl Lfu {
    fn rank(&mut self, priority: u64) -> Rank {
        self.turn += 1;
        (priority, self.turn)
    }
}

impl Policy for Lfu {
    fn insert(&mut self, slot: u32, _: Item) {
        let rank = self.rank(self.age + 1);
        let at = slot as usize;
        if at >= self.ranks.len() {
            self.ranks.resize(at + 1, rank);
        }
        if let Some(place) = self.ranks.get_mut(at) {
            *place = rank;
        }
        self.order.insert((rank, slot));
    }

    fn access(&mut self, slot: u32) {
        let Some(&old) = self.ranks.get(slot as usize) else { return };
        if !self.order.remove(&(old, slot)) {
            return;
        }
        let new = self.rank(old.0 + 1);
        if let Some(place) = self.ranks.get_mut(slot as usize) {
            *place = new;
        }
        self.order.insert((new, slot));
    }

    fn remove(&mut self, slot: u32) {
        if let Some(&rank) = self.ranks.get(slot as usize) {
            self.order.remove(&(rank, slot));
        }
    }

    fn evict(&mut self) -> Option<u32> {
        let ((priority, _), slot) = self.order.pop_first()?;
        self.age = priority;
        Some(slot)
    }
}

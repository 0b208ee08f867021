//! What expires first goes first; the oldest among those that never do.

use std::collections::BTreeSet;

use super::{Item, Policy};

#[derive(Debug, Default)]
pub(super) struct Ttl {
    ranks: Vec<(u64, u64)>,
    order: BTreeSet<((u64, u64), u32)>,
    turn: u64,
}

impl Policy for Ttl {
    fn insert(&mut self, slot: u32, item: Item) {
        self.turn += 1;
        let rank = (item.until_ms, self.turn);
        let at = slot as usize;
        if at >= self.ranks.len() {
            self.ranks.resize(at + 1, rank);
        }
        if let Some(place) = self.ranks.get_mut(at) {
            *place = rank;
        }
        self.order.insert((rank, slot));
    }

    fn access(&mut self, _: u32) {}

    fn remove(&mut self, slot: u32) {
        if let Some(&rank) = self.ranks.get(slot as usize) {
            self.order.remove(&(rank, slot));
        }
    }

    fn evict(&mut self) -> Option<u32> {
        self.order.pop_first().map(|(_, slot)| slot)
    }
}

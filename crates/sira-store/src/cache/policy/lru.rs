//! Least recently used.

use super::queue::{Nodes, Queue};
use super::{Item, Policy};

#[derive(Debug)]
pub(super) struct Lru {
    nodes: Nodes,
    queue: Queue,
}

impl Default for Lru {
    fn default() -> Self {
        Self { nodes: Nodes::default(), queue: Queue::new(0) }
    }
}

impl Policy for Lru {
    fn insert(&mut self, slot: u32, item: Item) {
        self.nodes.set(slot, item);
        self.queue.push(&mut self.nodes, slot);
    }

    fn access(&mut self, slot: u32) {
        self.queue.renew(&mut self.nodes, slot);
    }

    fn remove(&mut self, slot: u32) {
        self.queue.take(&mut self.nodes, slot);
    }

    fn evict(&mut self) -> Option<u32> {
        let slot = self.queue.oldest()?;
        self.queue.take(&mut self.nodes, slot);
        Some(slot)
    }
}

//! Doubly linked queues over one array of nodes, addressed by slot.

use super::Item;

const NONE: u32 = u32::MAX;

/// What a queue keeps of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) item: Item,
    /// Tag of the queue that the node stands in.
    pub(super) queue: u8,
    /// For the policy's own use.
    pub(super) frequency: u8,
    older: u32,
    newer: u32,
}

/// Nodes by slot.
#[derive(Debug, Default)]
pub(super) struct Nodes(Vec<Node>);

impl Nodes {
    /// Makes the node of a slot, in no queue yet.
    pub(super) fn set(&mut self, slot: u32, item: Item) {
        let node = Node { item, queue: 0, frequency: 0, older: NONE, newer: NONE };
        let at = slot as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, node);
        }
        if let Some(place) = self.0.get_mut(at) {
            *place = node;
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Node> {
        self.0.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Node> {
        self.0.get_mut(slot as usize)
    }
}

/// A queue of nodes, from the oldest to the newest.
#[derive(Debug)]
pub(super) struct Queue {
    tag: u8,
    oldest: u32,
    newest: u32,
    weight: u64,
    len: usize,
}

impl Queue {
    pub(super) fn new(tag: u8) -> Self {
        Self { tag, oldest: NONE, newest: NONE, weight: 0, len: 0 }
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Puts a node that is in no queue at the new end.
    pub(super) fn push(&mut self, nodes: &mut Nodes, slot: u32) {
        let newest = self.newest;
        let Some(node) = nodes.get_mut(slot) else { return };
        node.queue = self.tag;
        node.older = newest;
        node.newer = NONE;
        self.weight += node.item.weight;
        self.len += 1;
        match nodes.get_mut(newest) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// Takes a node of this queue out.
    pub(super) fn take(&mut self, nodes: &mut Nodes, slot: u32) {
        let Some(&node) = nodes.get(slot) else { return };
        match nodes.get_mut(node.older) {
            Some(older) => older.newer = node.newer,
            None => self.oldest = node.newer,
        }
        match nodes.get_mut(node.newer) {
            Some(newer) => newer.older = node.older,
            None => self.newest = node.older,
        }
        self.weight = self.weight.saturating_sub(node.item.weight);
        self.len = self.len.saturating_sub(1);
    }

    /// Moves a node of this queue to the new end.
    pub(super) fn renew(&mut self, nodes: &mut Nodes, slot: u32) {
        if self.newest != slot {
            self.take(nodes, slot);
            self.push(nodes, slot);
        }
    }
}

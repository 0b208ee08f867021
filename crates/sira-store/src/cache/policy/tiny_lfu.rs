//! W-TinyLFU (Einziger and others, "TinyLFU", 2017): a small window for what is new, and a main part
//! that takes in only what was seen more often than what would have to go.

use super::queue::{Nodes, Queue};
use super::sketch::Sketch;
use super::{Item, Policy};

const WINDOW: u8 = 0;
const PROBATION: u8 = 1;
const PROTECTED: u8 = 2;

#[derive(Debug)]
pub(super) struct TinyLfu {
    nodes: Nodes,
    window: Queue,
    /// Read once in the main part.
    probation: Queue,
    /// Read again there.
    protected: Queue,
    window_max: u64,
    main_max: u64,
    protected_max: u64,
    sketch: Sketch,
}

impl TinyLfu {
    /// The window takes a hundredth, what is protected four fifths of the rest.
    pub(super) fn new(capacity: u64) -> Self {
        let window_max = (capacity / 100).max(1);
        let main_max = capacity.saturating_sub(window_max);
        Self {
            nodes: Nodes::default(),
            window: Queue::new(WINDOW),
            probation: Queue::new(PROBATION),
            protected: Queue::new(PROTECTED),
            window_max,
            main_max,
            protected_max: main_max / 5 * 4,
            sketch: Sketch::new(0),
        }
    }

    fn count(&self, slot: u32) -> u8 {
        self.nodes.get(slot).map_or(0, |node| self.sketch.count(node.item.hash))
    }

    fn evict_main(&mut self) -> Option<u32> {
        if let Some(slot) = self.probation.oldest() {
            self.probation.take(&mut self.nodes, slot);
            return Some(slot);
        }
        let slot = self.protected.oldest()?;
        self.protected.take(&mut self.nodes, slot);
        Some(slot)
    }

    fn admit(&mut self, candidate: u32) {
        self.window.take(&mut self.nodes, candidate);
        self.probation.push(&mut self.nodes, candidate);
    }
}

impl Policy for TinyLfu {
    fn insert(&mut self, slot: u32, item: Item) {
        let entries = self.window.len() + self.probation.len() + self.protected.len() + 1;
        self.sketch.reserve(entries);
        self.sketch.add(item.hash);
        self.nodes.set(slot, item);
        self.window.push(&mut self.nodes, slot);
    }

    fn access(&mut self, slot: u32) {
        let Some(&node) = self.nodes.get(slot) else { return };
        self.sketch.add(node.item.hash);
        match node.queue {
            WINDOW => self.window.renew(&mut self.nodes, slot),
            PROTECTED => self.protected.renew(&mut self.nodes, slot),
            _ => {
                self.probation.take(&mut self.nodes, slot);
                self.protected.push(&mut self.nodes, slot);
                while self.protected.weight() > self.protected_max {
                    let Some(oldest) = self.protected.oldest() else { break };
                    self.protected.take(&mut self.nodes, oldest);
                    self.probation.push(&mut self.nodes, oldest);
                }
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        let queue = match self.nodes.get(slot).map(|node| node.queue) {
            Some(WINDOW) => &mut self.window,
            Some(PROTECTED) => &mut self.protected,
            Some(_) => &mut self.probation,
            None => return,
        };
        queue.take(&mut self.nodes, slot);
    }

    fn evict(&mut self) -> Option<u32> {
        loop {
            if self.window.weight() <= self.window_max {
                return self.evict_main().or_else(|| {
                    let slot = self.window.oldest()?;
                    self.window.take(&mut self.nodes, slot);
                    Some(slot)
                });
            }
            let Some(candidate) = self.window.oldest() else { continue };
            let weight = self.nodes.get(candidate).map_or(0, |node| node.item.weight);
            let main = self.probation.weight() + self.protected.weight();
            let victim = self.probation.oldest().or_else(|| self.protected.oldest());
            match victim {
                Some(victim) if main + weight > self.main_max => {
                    if self.count(candidate) <= self.count(victim) {
                        self.window.take(&mut self.nodes, candidate);
                        return Some(candidate);
                    }
                    let victim = self.evict_main();
                    self.admit(candidate);
                    return victim;
                }
                _ => self.admit(candidate),
            }
        }
    }
}

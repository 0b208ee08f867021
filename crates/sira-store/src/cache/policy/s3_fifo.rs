//! S3-FIFO (Yang and others, "FIFO queues are all you need for cache eviction", 2023): a small queue
//! for what is new, a main queue for what was read again, and a memory of what left the small one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::queue::{Nodes, Queue};
use super::{Item, Policy};

const SMALL: u8 = 0;
const MAIN: u8 = 1;

/// Share of the capacity that the small queue may take: one in this many bytes. The paper takes ten,
/// with three counted reads and a memory as large as the main queue; on skewed loads that do not
/// drift these sizes hit more often, and drifting ones are what the adaptive policy is for.
const SMALL_SHARE: u64 = 20;

/// Share of the capacity that the memory of what left the small queue stands for.
const GONE_SHARE: u64 = 10;

/// Reads that are counted of an entry.
const FREQUENCY_MAX: u8 = 7;

/// Reads in the small queue that bring an entry to the main one.
const PROMOTION: u8 = 2;

#[derive(Debug)]
pub(super) struct S3Fifo {
    nodes: Nodes,
    small: Queue,
    main: Queue,
    small_max: u64,
    gone: Gone,
}

impl S3Fifo {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            nodes: Nodes::default(),
            small: Queue::new(SMALL),
            main: Queue::new(MAIN),
            small_max: capacity / SMALL_SHARE,
            gone: Gone::new(capacity / GONE_SHARE),
        }
    }

    /// Takes the oldest out of the small queue; answers it unless it goes on to the main queue.
    fn evict_small(&mut self) -> Option<u32> {
        while let Some(slot) = self.small.oldest() {
            self.small.take(&mut self.nodes, slot);
            let node = self.nodes.get(slot)?;
            if node.frequency < PROMOTION {
                self.gone.add(node.item);
                return Some(slot);
            }
            self.main.push(&mut self.nodes, slot);
        }
        None
    }

    fn evict_main(&mut self) -> Option<u32> {
        while let Some(slot) = self.main.oldest() {
            self.main.take(&mut self.nodes, slot);
            let node = self.nodes.get_mut(slot)?;
            if node.frequency == 0 {
                return Some(slot);
            }
            node.frequency -= 1;
            self.main.push(&mut self.nodes, slot);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: u32, item: Item) {
        let queue = if self.gone.take(item.hash) { &mut self.main } else { &mut self.small };
        self.nodes.set(slot, item);
        queue.push(&mut self.nodes, slot);
    }

    fn access(&mut self, slot: u32) {
        if let Some(node) = self.nodes.get_mut(slot) {
            node.frequency = (node.frequency + 1).min(FREQUENCY_MAX);
        }
    }

    fn remove(&mut self, slot: u32) {
        let queue = match self.nodes.get(slot).map(|node| node.queue) {
            Some(SMALL) => &mut self.small,
            Some(_) => &mut self.main,
            None => return,
        };
        queue.take(&mut self.nodes, slot);
    }

    fn evict(&mut self) -> Option<u32> {
        if self.small.weight() > self.small_max || self.main.is_empty() {
            self.evict_small().or_else(|| self.evict_main())
        } else {
            self.evict_main().or_else(|| self.evict_small())
        }
    }
}

/// Hashes of what left the small queue lately, as many as weighed `weight_max` bytes together.
#[derive(Debug)]
struct Gone {
    order: VecDeque<(u64, u64)>,
    /// Turn and weight by hash; a place in `order` of another turn stands for nothing.
    items: HashMap<u64, (u64, u64), BuildHasherDefault<IdentityHasher>>,
    weight: u64,
    weight_max: u64,
    turn: u64,
}

impl Gone {
    fn new(weight_max: u64) -> Self {
        Self { order: VecDeque::new(), items: HashMap::default(), weight: 0, weight_max, turn: 0 }
    }

    fn add(&mut self, item: Item) {
        self.take(item.hash);
        self.turn += 1;
        self.items.insert(item.hash, (self.turn, item.weight));
        self.order.push_back((item.hash, self.turn));
        self.weight += item.weight;
        while self.weight > self.weight_max || self.order.len() > 2 * self.items.len() + 16 {
            let Some((hash, turn)) = self.order.pop_front() else { break };
            if self.items.get(&hash).is_none_or(|(current, _)| *current != turn) {
                continue;
            }
            if self.weight > self.weight_max {
                self.take(hash);
            } else {
                self.order.push_back((hash, turn));
            }
        }
    }

    /// Forgets a hash, and says whether it was there.
    fn take(&mut self, hash: u64) -> bool {
        let Some((_, weight)) = self.items.remove(&hash) else { return false };
        self.weight -= weight;
        true
    }
}

/// For keys that are hashes already.
#[derive(Debug, Default)]
pub(in crate::cache) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

//! Which policy would hit most often: every candidate runs as a ghost over a sample of the keys.

use super::{CANDIDATES, GhostCache, Item};
use crate::cache::options::EvictionPolicy;

/// Most entries of one ghost: past them, half of the keys leave the sample.
const GHOST_ENTRIES_MAX: usize = 16 * 1024;

/// Fewest sampled reads between two looks at the ghosts.
const WINDOW_READS_MIN: u64 = 512;

/// Entries of a ghost for each read of a window.
const ENTRIES_PER_READ: u64 = 4;

/// What was counted before a window counts this many parts in [`MEMORY_WHOLE`] after it.
const MEMORY_PART: u64 = 15;
const MEMORY_WHOLE: u64 = 16;

/// A candidate must hit this much more often than the live policy, in parts of a thousand reads.
const MARGIN_PER_MILLE: u64 = 3;

/// What one read or hit counts, so that small shares of it are whole numbers.
const UNIT: u64 = 256;

/// Ghosts of all candidates over a sample of the keys by hash (Waldspurger and others, "Efficient
/// MRC construction with SHARDS", 2015): a key is in the sample always or never, and a ghost of a
/// share of the keys has that share of the capacity.
#[derive(Debug)]
pub(in crate::cache) struct Chooser {
    ghosts: Vec<Ghost>,
    live: usize,
    capacity: u64,
    /// One key in two to this power is in the sample.
    sample: u32,
    reads: u64,
    window: u64,
    in_window: u64,
}

#[derive(Debug)]
struct Ghost {
    kind: EvictionPolicy,
    cache: GhostCache,
    /// Hits of late, windows long past counting less and less.
    hits: u64,
}

impl Chooser {
    /// For a cache of this many bytes.
    pub(in crate::cache) fn new(capacity: u64) -> Self {
        let mut chooser = Self {
            ghosts: Vec::new(),
            live: 0,
            capacity,
            sample: 0,
            reads: 0,
            window: WINDOW_READS_MIN,
            in_window: 0,
        };
        chooser.restart();
        chooser
    }

    /// The policy that the cache should run.
    pub(in crate::cache) fn live(&self) -> EvictionPolicy {
        self.ghosts.get(self.live).map_or(EvictionPolicy::Lru, |ghost| ghost.kind)
    }

    /// Whether reads of this hash are to be told.
    pub(in crate::cache) fn samples(sample: u32, hash: u64) -> bool {
        hash.leading_zeros() >= sample
    }

    /// How many leading zeros a hash of the sample has.
    pub(in crate::cache) fn sample(&self) -> u32 {
        self.sample
    }

    /// Makes empty ghosts for the sample as it is; nothing is known any more but which is live.
    fn restart(&mut self) {
        let capacity = self.capacity >> self.sample;
        self.ghosts = CANDIDATES
            .into_iter()
            .map(|kind| Ghost { kind, cache: GhostCache::new(kind, capacity), hits: 0 })
            .collect();
        self.reads = 0;
        self.in_window = 0;
    }

    /// Tells a read of a hash of the sample, hit or miss.
    pub(in crate::cache) fn read(&mut self, item: Item) {
        let mut largest = 0;
        for ghost in &mut self.ghosts {
            ghost.hits += u64::from(ghost.cache.access(item)) * UNIT;
            largest = largest.max(ghost.cache.len());
        }
        if largest > GHOST_ENTRIES_MAX {
            self.sample += 1;
            self.restart();
            return;
        }
        self.reads += UNIT;
        self.in_window += 1;
        if self.in_window < self.window {
            return;
        }
        self.in_window = 0;
        self.window = WINDOW_READS_MIN.max(largest as u64 / ENTRIES_PER_READ);
        self.choose();
        self.reads = self.reads / MEMORY_WHOLE * MEMORY_PART;
        for ghost in &mut self.ghosts {
            ghost.hits = ghost.hits / MEMORY_WHOLE * MEMORY_PART;
        }
    }

    fn choose(&mut self) {
        let live = self.ghosts.get(self.live).map_or(0, |ghost| ghost.hits);
        let margin = self.reads / 1000 * MARGIN_PER_MILLE;
        let best = self.ghosts.iter().enumerate().max_by_key(|(_, ghost)| ghost.hits);
        if let Some((at, best)) = best
            && best.hits > live + margin
        {
            self.live = at;
        }
    }
}

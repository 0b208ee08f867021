//! The memory tier: shards of a bounded number of bytes.

mod shard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::entry::Entry;
use super::options::EvictionPolicy;
use super::policy::{CANDIDATES, Chooser, Item};
use shard::Shard;

/// Most shards of a pool, and least bytes of one.
const SHARDS_MAX: u64 = 16;
const SHARD_BYTES_MIN: u64 = 1 << 20;

/// The largest entries that are kept fit this often into a shard.
const ENTRIES_PER_SHARD_MIN: u64 = 4;

/// A key of a space, with its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) space: u32,
    pub(super) key: &'a str,
    /// Of both, all of whose bits are good.
    pub(super) hash: u64,
}

/// Entries in memory, which never take more than `capacity` bytes together.
#[derive(Debug)]
pub(super) struct Pool {
    shards: Box<[Mutex<Shard>]>,
    capacity: u64,
    weight_max: u64,
    adaptive: Option<Adaptive>,
    evictions: AtomicU64,
    refused: AtomicU64,
    /// Entries that were read ahead and went before they were read.
    unread: AtomicU64,
}

#[derive(Debug)]
struct Adaptive {
    chooser: Mutex<Chooser>,
    /// What the chooser says, for the shards to look at: an index of [`CANDIDATES`].
    live: AtomicU8,
    sample: AtomicU32,
}

/// Figures of a pool.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PoolFigures {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) evictions: u64,
    pub(super) refused: u64,
    pub(super) unread: u64,
}

impl Pool {
    /// A pool that keeps no entry larger than one in `value_share` parts of it.
    pub(super) fn new(capacity: u64, value_share: u64, eviction: EvictionPolicy) -> Self {
        let value_share = value_share.max(1);
        let most = SHARDS_MAX
            .min(capacity / SHARD_BYTES_MIN)
            .min(value_share / ENTRIES_PER_SHARD_MIN)
            .max(1);
        let shards = 1 << most.ilog2();
        let share = capacity / shards;
        let adaptive = (eviction == EvictionPolicy::Adaptive).then(|| {
            let chooser = Chooser::new(capacity);
            Adaptive {
                live: AtomicU8::new(index(chooser.live())),
                sample: AtomicU32::new(chooser.sample()),
                chooser: Mutex::new(chooser),
            }
        });
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(eviction, share))).collect(),
            capacity,
            weight_max: capacity / value_share,
            adaptive,
            evictions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        }
    }

    /// Whether an entry of this weight is kept.
    pub(super) fn admits(&self, weight: u64) -> bool {
        let admitted = weight <= self.weight_max;
        if !admitted {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether a value of this size is kept.
    pub(super) fn fits(&self, value_bytes: u64) -> bool {
        value_bytes <= self.weight_max
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        // The low bits choose within a shard's table, the highest what is sampled.
        self.shards.get((hash >> 32) as usize & (self.shards.len() - 1))
    }

    /// The entry under a key, whether it is good any more or not. A `reader` counts as a read.
    pub(super) fn get(&self, place: Place<'_>, reader: bool) -> Option<Hit> {
        let shard = self.shard(place.hash)?;
        let (hit, item) = {
            let mut shard = shard.lock();
            self.follow(&mut shard);
            shard.get(place, reader)?
        };
        if reader {
            self.tell(item);
        }
        Some(hit)
    }

    /// Whether an entry is there.
    pub(super) fn contains(&self, place: Place<'_>) -> bool {
        self.shard(place.hash).is_some_and(|shard| shard.lock().contains(place))
    }

    /// Keeps an entry, and drops others until it fits. The caller asks [`Pool::admits`] before.
    pub(super) fn insert(&self, place: Place<'_>, entry: Arc<Entry>, ahead: bool, until_ms: u64) {
        let Some(shard) = self.shard(place.hash) else { return };
        let item = Item { hash: place.hash, weight: entry.weight(place.key), until_ms };
        // Dropped after the lock is.
        let gone = {
            let mut shard = shard.lock();
            self.follow(&mut shard);
            shard.insert(place, entry, ahead, item)
        };
        self.evictions.fetch_add(gone.evicted.len() as u64, Ordering::Relaxed);
        self.unread.fetch_add(gone.unread, Ordering::Relaxed);
        if !ahead {
            self.tell(item);
        }
    }

    /// Forgets a key.
    pub(super) fn remove(&self, place: Place<'_>) {
        let Some(shard) = self.shard(place.hash) else { return };
        // Dropped after the lock is.
        let removed = shard.lock().remove(place);
        drop(removed);
    }

    /// Forgets all keys of a space.
    pub(super) fn clear(&self, space: u32) {
        for shard in &self.shards {
            let removed = shard.lock().clear(space);
            drop(removed);
        }
    }

    pub(super) fn figures(&self) -> PoolFigures {
        let mut figures = PoolFigures {
            evictions: self.evictions.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unread: self.unread.load(Ordering::Relaxed),
            ..PoolFigures::default()
        };
        for shard in &self.shards {
            let shard = shard.lock();
            figures.entries += shard.len();
            figures.bytes += shard.bytes();
        }
        figures
    }

    /// Most bytes that the pool takes.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The policy that is followed now, where it is adaptive.
    pub(super) fn live(&self) -> Option<EvictionPolicy> {
        let adaptive = self.adaptive.as_ref()?;
        CANDIDATES.get(usize::from(adaptive.live.load(Ordering::Relaxed))).copied()
    }

    /// Has a shard run the policy that was chosen.
    fn follow(&self, shard: &mut Shard) {
        if let Some(live) = self.live() {
            shard.switch(live);
        }
    }

    /// Tells the ghosts of a read, if the key is one of the sample.
    fn tell(&self, item: Item) {
        let Some(adaptive) = &self.adaptive else { return };
        if !Chooser::samples(adaptive.sample.load(Ordering::Relaxed), item.hash) {
            return;
        }
        // A read that comes while another is told is left out: the sample is one of many.
        let Some(mut chooser) = adaptive.chooser.try_lock() else { return };
        chooser.read(item);
        adaptive.live.store(index(chooser.live()), Ordering::Relaxed);
        adaptive.sample.store(chooser.sample(), Ordering::Relaxed);
    }
}

/// What a look at a pool found.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) entry: Arc<Entry>,
    /// The entry was read ahead, and this is the first read of it.
    pub(super) ahead: bool,
}

fn index(live: EvictionPolicy) -> u8 {
    CANDIDATES.iter().position(|kind| *kind == live).unwrap_or(0) as u8
}

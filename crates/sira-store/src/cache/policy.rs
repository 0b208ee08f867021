//! Which entry of a full cache goes next. A policy knows slots, hashes and weights; keys and values
//! lie elsewhere.

mod adaptive;
mod ghost;
mod lfu;
mod lru;
mod queue;
mod s3_fifo;
mod sketch;
mod tiny_lfu;
mod ttl;

use std::fmt;

pub(super) use adaptive::Chooser;
use ghost::GhostCache;
pub(super) use s3_fifo::IdentityHasher;

use super::options::EvictionPolicy;

/// What a policy knows of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Hash of the key, all of whose bits are good.
    pub(super) hash: u64,
    /// Bytes that the entry takes.
    pub(super) weight: u64,
    /// When the entry is worth nothing any more, in milliseconds since the Unix epoch; `u64::MAX`
    /// for never.
    pub(super) until_ms: u64,
}

/// The order in which entries go. Slots are small numbers that the owner gives out and uses again.
pub(super) trait Policy: Send + fmt::Debug {
    /// Takes in an entry, under a slot that is not in use.
    fn insert(&mut self, slot: u32, item: Item);

    /// Notes that an entry was read.
    fn access(&mut self, slot: u32);

    /// Forgets an entry that its owner took out.
    fn remove(&mut self, slot: u32);

    /// Picks the entry to go and forgets it; `None` when there is none. To be called while the
    /// entries weigh more than the capacity.
    fn evict(&mut self) -> Option<u32>;
}

/// The policies that [`EvictionPolicy::Adaptive`] chooses among; the first is the one it begins
/// with.
pub(super) const CANDIDATES: [EvictionPolicy; 4] =
    [EvictionPolicy::Lru, EvictionPolicy::S3Fifo, EvictionPolicy::WTinyLfu, EvictionPolicy::Lfu];

/// An empty policy of a kind, for entries of `capacity` bytes together.
pub(super) fn policy(kind: EvictionPolicy, capacity: u64) -> Box<dyn Policy> {
    match kind {
        EvictionPolicy::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity)),
        EvictionPolicy::WTinyLfu => Box::new(tiny_lfu::TinyLfu::new(capacity)),
        EvictionPolicy::Lru | EvictionPolicy::Adaptive => Box::new(lru::Lru::default()),
        EvictionPolicy::Lfu => Box::new(lfu::Lfu::default()),
        EvictionPolicy::Ttl => Box::new(ttl::Ttl::default()),
    }
}

/// Moves the entries from one policy to another: what would have gone first is the first to come,
/// and what was read counts as read. `describe` tells what is known of a slot, and how often it was
/// read.
pub(super) fn hand_over(
    from: &mut dyn Policy,
    to: &mut dyn Policy,
    describe: impl Fn(u32) -> Option<(Item, u8)>,
) {
    while let Some(slot) = from.evict() {
        let Some((item, reads)) = describe(slot) else { continue };
        to.insert(slot, item);
        for _ in 0..reads {
            to.access(slot);
        }
    }
}

#[cfg(test)]
mod tests;

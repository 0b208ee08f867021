//! Figures of a cache.

use std::sync::atomic::{AtomicU64, Ordering};

use super::options::EvictionPolicy;

/// Figures of a cache, since it was made, over all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct CacheStats {
    /// Reads answered from memory without asking the primary.
    pub memory_hits: u64,
    /// Reads answered from the disk tier without asking the primary.
    pub disk_hits: u64,
    /// Reads answered from the remote tier without asking the primary.
    pub remote_hits: u64,
    /// Reads answered from a tier after the primary confirmed the version.
    pub validated_hits: u64,
    /// Of the hits in memory, those that told that there is no object.
    pub negative_hits: u64,
    /// Whole objects read from the primary.
    pub loads: u64,
    /// Reads that another reader's load answered.
    pub coalesced: u64,
    /// Reads that went to the primary as they were: ranges and conditions over what is not kept.
    pub passed: u64,
    /// Entries that the primary did not confirm, because another process wrote the object.
    pub outdated: u64,
    /// Entries in memory.
    pub memory_entries: u64,
    /// Bytes that they take.
    pub memory_bytes: u64,
    /// Most bytes that they may take.
    pub memory_bytes_max: u64,
    /// Entries that went from memory to make room.
    pub evictions: u64,
    /// Entries too large to be kept in memory.
    pub refused: u64,
    /// Policies that adaptive memory follows now, the shared memory's first.
    pub policies: Vec<EvictionPolicy>,
    /// The disk tier, where there is one.
    pub disk: Option<TierStats>,
    /// The remote tier, where there is one.
    pub remote: Option<TierStats>,
    /// Keys read ahead.
    pub prefetched: u64,
    /// Of those, how many were read later.
    pub prefetched_read: u64,
    /// Of those, how many went before anyone read them.
    pub prefetched_unread: u64,
    /// Keys loaded at the start from the log of hot keys.
    pub warmed: u64,
    /// Writes that are kept back.
    pub write_back_queued: u64,
    /// Bytes of those.
    pub write_back_bytes: u64,
    /// Writes that were answered and never reached the primary, because it refused them.
    pub write_back_lost: u64,
}

/// Figures of a tier below the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct TierStats {
    /// Looks that found an entry.
    pub hits: u64,
    /// Looks that found none.
    pub misses: u64,
    /// Operations that failed or took too long.
    pub errors: u64,
    /// Entries that did not verify, and were dropped.
    pub corrupt: u64,
    /// The tier is off, and tried again in a few seconds.
    pub off: bool,
}

/// Counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) memory_hits: Counter,
    pub(super) disk_hits: Counter,
    pub(super) remote_hits: Counter,
    pub(super) validated_hits: Counter,
    pub(super) negative_hits: Counter,
    pub(super) loads: Counter,
    pub(super) coalesced: Counter,
    pub(super) passed: Counter,
    pub(super) outdated: Counter,
    pub(super) prefetched: Counter,
    pub(super) prefetched_read: Counter,
    pub(super) warmed: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

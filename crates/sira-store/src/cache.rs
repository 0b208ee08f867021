//! Tiers in front of a backend: memory, then disk, then another backend such as Redis.
//!
//! [`CacheBackend`] wraps any [`StorageBackend`], the primary, and is one itself. The primary always
//! has the truth: whatever happens to a tier costs time, never data, and never an error.
//!
//! What a read may see follows from [`CachePolicy::consistency`]:
//!
//! - `strong` and [`CachePolicy::exclusive`]: every write goes through this cache, so what it keeps
//!   is current, and hits ask nobody. Reads and writes of a key are linearizable: a read returns what
//!   the key held at some moment between its begin and its end. If another process writes all the
//!   same, its writes may stay unseen for as long as entries live.
//! - `strong` without `exclusive`: a kept body is served after the primary has confirmed its version
//!   by [`StorageBackend::head`], asked after the read began. The same guarantee holds whoever writes;
//!   the cache saves the transfer of bodies, not the round trip.
//! - `eventual`: a read returns what the key held no longer than [`CachePolicy::max_staleness`]
//!   before the read began. Writes through this cache are seen at once by later reads through it.
//! - `weak`: as `eventual` without a bound.
//!
//! In all of them an object that has expired is not there, by the clock of this process.
//!
//! ```
//! use std::sync::Arc;
//! use sira_store::cache::{CacheBackend, CacheOptions, CachePolicy};
//! use sira_store::{MemoryBackend, StorageBackend, StorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let primary = Arc::new(MemoryBackend::new(64 << 20));
//! let policy = CachePolicy { exclusive: true, ..CachePolicy::default() };
//! let cache = CacheBackend::new(primary, CacheOptions { policy, ..CacheOptions::default() })?;
//! cache.put("greeting", "hello".into(), StorageOptions::default()).await?;
//! assert_eq!(cache.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//! assert_eq!(cache.cache_stats().memory_hits, 1);
//! # Ok::<_, sira_store::StorageError>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod batch;
mod entry;
mod lease;
mod memory;
mod options;
mod policy;
mod prefetch;
mod read;
mod space;
mod stats;
mod tier;
mod warm_up;
mod write;
mod write_back;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use options::{
    CacheOptions, CachePolicy, DiskTierOptions, EvictionPolicy, HotKeysPlace, RemoteTierOptions,
    WarmUpOptions, WriteMode,
};
pub use stats::{CacheStats, TierStats};

use crate::backend::StorageBackend;
use crate::env::Env;
use crate::error::Result;
use lease::Leases;
use memory::{Place, Pool};
use prefetch::Prefetch;
use space::Space;
use stats::Counters;
use tier::Tier;
use warm_up::HotKeys;
use write_back::WriteBack;

/// Namespace that most engines show outside of any namespace. The two share their policy and their
/// memory, and a write to a key of either makes the cache forget the key in both.
const NAMESPACE_DEFAULT: &str = "default";

/// Entries that are put into the tiers below the memory at a time; what comes beyond is left out.
const FILLS_MAX: u32 = 32;

/// Tiers in front of a backend. See the [module](self).
///
/// Views of namespaces share the tiers. The tiers below the memory, reading ahead and write-back
/// need a tokio runtime with its timer enabled.
#[derive(Debug, Clone)]
pub struct CacheBackend {
    core: Arc<Core>,
    space: Arc<Space>,
}

/// What all namespaces share.
struct Core {
    primary: Arc<dyn StorageBackend>,
    options: CacheOptions,
    clock: Clock,
    hasher: SeedableRandomState,
    leases: Arc<Leases>,
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
    shared: Arc<Pool>,
    spaces: Mutex<BTreeMap<String, Arc<Space>>>,
    disk: Option<Tier>,
    remote: Option<Tier>,
    fills: Arc<Semaphore>,
    counters: Counters,
    prefetch: Prefetch,
    hot: Option<HotKeys>,
    write_back: WriteBack,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("primary", &self.primary)
            .field("disk", &self.disk)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl CacheBackend {
    /// A cache in front of `primary`. A tier that cannot be opened is left out with a warning.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`](crate::StorageError::InvalidInput) and
    /// [`StorageError::Unsupported`](crate::StorageError::Unsupported) for a policy that contradicts
    /// itself or the primary.
    pub fn new(primary: Arc<dyn StorageBackend>, options: CacheOptions) -> Result<Self> {
        let capabilities = primary.capabilities();
        for policy in options.namespaces.values().chain([&options.policy]) {
            policy.check(&capabilities)?;
        }
        let clock = Clock(Arc::clone(&options.env));
        let shared = Pool::new(options.memory_bytes, options.value_share, options.policy.eviction);
        let core = Arc::new(Core {
            hasher: SeedableRandomState::with_seed(clock.random(), SharedSeed::global_fixed()),
            leases: Arc::new(Leases::new()),
            pools: Mutex::default(),
            shared: Arc::new(shared),
            spaces: Mutex::default(),
            disk: options.disk.as_ref().map(|disk| Tier::disk(disk, &clock)),
            remote: options.remote.as_ref().map(|remote| Tier::remote(remote, &clock)),
            fills: Arc::new(Semaphore::new(FILLS_MAX as usize)),
            counters: Counters::default(),
            prefetch: Prefetch::new(options.prefetch_per_second),
            hot: options.warm_up.as_ref().map(HotKeys::new),
            write_back: WriteBack::default(),
            primary: Arc::clone(&primary),
            clock,
            options,
        });
        let space = Arc::new(Space::root(&core, primary));
        Ok(Self { core, space })
    }

    /// The backend underneath.
    #[must_use]
    pub fn primary(&self) -> &Arc<dyn StorageBackend> {
        &self.space.primary
    }

    /// The same cache, outside of any namespace.
    fn root(&self) -> Self {
        let primary = Arc::clone(&self.core.primary);
        Self { core: Arc::clone(&self.core), space: Arc::new(Space::root(&self.core, primary)) }
    }

    /// Forgets what is kept of this namespace, as is needed when its objects were changed as a whole
    /// past the cache: dropped, restored from a backup, exchanged for another's.
    pub fn clear(&self) {
        self.core.leases.interrupt();
        self.space.clear(&self.core.clock);
        for tier in self.core.tiers() {
            tier.distrust();
        }
    }

    /// Figures of the whole cache.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.core.stats()
    }
}

impl Core {
    fn tiers(&self) -> impl Iterator<Item = &Tier> {
        self.disk.iter().chain(&self.remote)
    }

    /// The hash by which stripes are chosen: of the key alone, as two names may stand for one
    /// namespace.
    fn hash_key(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn place<'a>(&self, space: u32, key: &'a str) -> Place<'a> {
        Place { space, key, hash: self.hasher.hash_one((space, key)) }
    }

    /// The memory of a namespace.
    fn pool(&self, name: &str) -> Arc<Pool> {
        let Some((policy, bytes)) = self
            .options
            .namespaces
            .get(name)
            .and_then(|policy| policy.memory_bytes.map(|bytes| (policy, bytes)))
        else {
            return Arc::clone(&self.shared);
        };
        let mut pools = self.pools.lock();
        let pool = pools.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Pool::new(bytes, self.options.value_share, policy.eviction))
        });
        Arc::clone(pool)
    }

    fn stats(&self) -> CacheStats {
        let counters = &self.counters;
        let mut stats = CacheStats {
            memory_hits: counters.memory_hits.get(),
            disk_hits: counters.disk_hits.get(),
            remote_hits: counters.remote_hits.get(),
            validated_hits: counters.validated_hits.get(),
            negative_hits: counters.negative_hits.get(),
            loads: counters.loads.get(),
            coalesced: counters.coalesced.get(),
            passed: counters.passed.get(),
            outdated: counters.outdated.get(),
            prefetched: counters.prefetched.get(),
            prefetched_read: counters.prefetched_read.get(),
            warmed: counters.warmed.get(),
            disk: self.disk.as_ref().map(Tier::stats),
            remote: self.remote.as_ref().map(Tier::stats),
            ..CacheStats::default()
        };
        (stats.write_back_queued, stats.write_back_bytes) = self.write_back.queued();
        stats.write_back_lost = self.write_back.lost.get();
        let pools = self.pools.lock();
        for pool in [&self.shared].into_iter().chain(pools.values()) {
            let figures = pool.figures();
            stats.memory_entries += figures.entries;
            stats.memory_bytes += figures.bytes;
            stats.memory_bytes_max += pool.capacity();
            stats.evictions += figures.evictions;
            stats.refused += figures.refused;
            stats.prefetched_unread += figures.unread;
            stats.policies.extend(pool.live());
        }
        stats
    }
}

/// The clocks and random numbers of an environment.
#[derive(Debug, Clone)]
struct Clock(Arc<dyn Env>);

impl Clock {
    /// Wall clock, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    /// Monotonic clock, in milliseconds.
    fn monotonic_ms(&self) -> u64 {
        millis(self.0.monotonic())
    }

    fn random(&self) -> u64 {
        self.0.random_u64()
    }
}

/// A duration in milliseconds.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

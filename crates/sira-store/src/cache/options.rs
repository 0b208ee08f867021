//! How a cache is set up, and what each namespace may ask of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Capabilities, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::options::ConsistencyLevel;

/// Which entry of a full memory tier goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvictionPolicy {
    /// A small queue for what is new, a main queue for what was read again: good where few keys are
    /// read most of the time, and where scans pass by.
    S3Fifo,
    /// Lets in only what was seen more often than what would have to go: best where popularity does
    /// not change.
    WTinyLfu,
    /// Least recently used: good where what was read lately is read again.
    Lru,
    /// Least frequently used, with aging.
    Lfu,
    /// What expires first goes first.
    Ttl,
    /// Runs the first four as ghosts over a sample of the keys, and follows the one that hits most.
    #[default]
    Adaptive,
}

/// What a write does with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// The primary takes the write, then the cache keeps it. Objects with a time to live are kept
    /// from their first read on: only the primary knows when exactly they expire.
    #[default]
    Through,
    /// The primary takes the write; the cache only forgets what it had.
    Around,
    /// The write is answered from a queue in memory and reaches the primary later. What is queued is
    /// lost with the process, so it is refused unless [`CachePolicy::allow_loss`] is set.
    Back,
}

/// What the cache does for a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// Which entry goes next.
    pub eviction: EvictionPolicy,
    /// Memory of this namespace alone, in bytes; `None` shares [`CacheOptions::memory_bytes`], under
    /// the policy of [`CacheOptions::policy`], with the other namespaces that name none.
    pub memory_bytes: Option<u64>,
    /// What a read may see: see the [module](super) for what each level guarantees.
    pub consistency: ConsistencyLevel,
    /// No other process writes to this namespace, nor does this one past the cache.
    pub exclusive: bool,
    /// Oldest value that [`ConsistencyLevel::Eventual`] serves without asking the primary.
    pub max_staleness: Duration,
    /// Longest time that an entry is kept; `None` for as long as there is room.
    pub entry_ttl: Option<Duration>,
    /// Longest time that the absence of an object is remembered; zero for not at all.
    pub negative_ttl: Duration,
    /// What writes do.
    pub write: WriteMode,
    /// Acknowledged writes of [`WriteMode::Back`] may be lost.
    pub allow_loss: bool,
    /// Whether the tiers below the memory are used.
    pub tiers: bool,
    /// Whether keys that usually follow are read ahead.
    pub prefetch: bool,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            eviction: EvictionPolicy::default(),
            memory_bytes: None,
            consistency: ConsistencyLevel::Strong,
            exclusive: false,
            max_staleness: Duration::from_secs(5),
            entry_ttl: None,
            negative_ttl: Duration::from_secs(5),
            write: WriteMode::Through,
            allow_loss: false,
            tiers: true,
            prefetch: false,
        }
    }
}

impl CachePolicy {
    /// Checks that what is asked goes together, and that the primary can do it.
    pub(super) fn check(&self, primary: &Capabilities) -> Result<()> {
        if self.write != WriteMode::Back {
            return Ok(());
        }
        if !self.allow_loss {
            return Err(StorageError::invalid_input(
                "write-back loses what is queued when the process dies: set `allow_loss` for this \
                 namespace, or choose `through` or `around`",
            ));
        }
        if self.consistency == ConsistencyLevel::Strong && !self.exclusive {
            return Err(StorageError::invalid_input(
                "write-back hides writes from other processes, which `strong` rules out: set \
                 `exclusive` for this namespace, or a weaker consistency",
            ));
        }
        if !primary.exact_versions {
            return Err(StorageError::unsupported(format!(
                "write-back answers with versions before they are stored, and {} draws its own: \
                 choose `through` or `around`",
                primary.name
            )));
        }
        Ok(())
    }
}

/// A tier on a local disk: an embedded engine in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTierOptions {
    /// The folder. Nothing in it is worth a backup: it may be deleted while no process has it open.
    pub folder: PathBuf,
    /// Most bytes of live entries. While space is reclaimed the folder may take half as much again.
    pub bytes: u64,
    /// Longest time of one operation.
    pub timeout: Duration,
}

impl DiskTierOptions {
    /// A tier of up to `bytes` in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, bytes: u64) -> Self {
        Self { folder: folder.into(), bytes, timeout: Duration::from_millis(100) }
    }
}

/// A tier on another backend, such as Redis, which other processes may share.
#[derive(Debug, Clone)]
pub struct RemoteTierOptions {
    /// Where entries lie.
    pub backend: Arc<dyn StorageBackend>,
    /// Time to live of an entry.
    pub ttl: Duration,
    /// Longest time of one operation.
    pub timeout: Duration,
    /// Largest value that is put there, in bytes.
    pub value_bytes_max: u64,
}

impl RemoteTierOptions {
    /// A tier on `backend`.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>) -> Self {
        Self {
            backend,
            ttl: Duration::from_secs(3600),
            timeout: Duration::from_millis(50),
            value_bytes_max: 1 << 20,
        }
    }
}

/// Where the log of hot keys is kept between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HotKeysPlace {
    /// In the disk tier.
    DiskTier,
    /// Under a key of the primary.
    Key(String),
}

/// How a cache is filled when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmUpOptions {
    /// Where the log of hot keys is kept.
    pub place: HotKeysPlace,
    /// Keys that are logged.
    pub keys: usize,
    /// Most reads a second while the cache is filled.
    pub reads_per_second: u32,
}

impl WarmUpOptions {
    /// Up to 1,000 keys, at 200 reads a second.
    #[must_use]
    pub fn new(place: HotKeysPlace) -> Self {
        Self { place, keys: 1000, reads_per_second: 200 }
    }
}

/// How a cache is set up.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Memory of the namespaces that have none of their own, in bytes: keys, values, metadata and
    /// what it takes to keep them.
    pub memory_bytes: u64,
    /// A value larger than one in this many parts of its memory is not kept there.
    pub value_share: u64,
    /// Policy of the namespaces that have none of their own.
    pub policy: CachePolicy,
    /// Policies by name of the namespace. The backend itself, outside of any namespace, goes by
    /// `default`.
    pub namespaces: BTreeMap<String, CachePolicy>,
    /// The tier below the memory.
    pub disk: Option<DiskTierOptions>,
    /// The tier below that.
    pub remote: Option<RemoteTierOptions>,
    /// Filling at the start.
    pub warm_up: Option<WarmUpOptions>,
    /// Most keys a second that are read ahead, where a namespace asks for that.
    pub prefetch_per_second: u32,
    /// Most bytes that [`WriteMode::Back`] keeps back; a write beyond waits.
    pub write_back_bytes: u64,
    /// How long a write of [`WriteMode::Back`] is kept back.
    pub write_back_delay: Duration,
    /// After a write whose outcome is unknown, how long nothing is kept of what may be about to
    /// change.
    pub settle: Duration,
    /// Clocks and random numbers.
    pub env: Arc<dyn Env>,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            value_share: 64,
            policy: CachePolicy::default(),
            namespaces: BTreeMap::new(),
            disk: None,
            remote: None,
            warm_up: None,
            prefetch_per_second: 100,
            write_back_bytes: 16 << 20,
            write_back_delay: Duration::from_millis(100),
            settle: Duration::from_secs(10),
            env: Arc::new(SystemEnv),
        }
    }
}

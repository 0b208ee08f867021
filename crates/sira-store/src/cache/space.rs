//! A namespace as the cache sees it: its policy, its memory, and which entries are good in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entry::Entry;
use super::lease::Sharing;
use super::memory::{Place, Pool};
use super::options::CachePolicy;
use super::{Clock, Core, NAMESPACE_DEFAULT, millis};
use crate::backend::StorageBackend;
use crate::options::ConsistencyLevel;

/// The number of the backend itself, outside of any namespace.
const ROOT: u32 = 0;
/// The number of the namespace that may be the same.
const DEFAULT: u32 = 1;

/// Numbers of the others.
static NEXT: AtomicU32 = AtomicU32::new(DEFAULT + 1);

#[derive(Debug)]
pub(super) struct Space {
    pub(super) id: u32,
    /// Empty for the backend itself.
    pub(super) name: Arc<str>,
    pub(super) primary: Arc<dyn StorageBackend>,
    pub(super) policy: CachePolicy,
    pub(super) pool: Arc<Pool>,
    /// What tiers below the memory read earlier is not served, in milliseconds since the Unix epoch.
    cleared_at_ms: AtomicU64,
}

/// What may be done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be served.
    Serve,
    /// It may be served once the primary has confirmed its version.
    Check,
    /// It is of no use.
    Drop,
}

impl Space {
    /// The backend itself.
    pub(super) fn root(core: &Core, primary: Arc<dyn StorageBackend>) -> Self {
        Self::with_id(core, ROOT, "", NAMESPACE_DEFAULT, primary)
    }

    /// A namespace of it.
    pub(super) fn named(core: &Core, name: &str, primary: Arc<dyn StorageBackend>) -> Self {
        let id = match name {
            NAMESPACE_DEFAULT => DEFAULT,
            _ => NEXT.fetch_add(1, Ordering::Relaxed),
        };
        Self::with_id(core, id, name, name, primary)
    }

    fn with_id(
        core: &Core,
        id: u32,
        name: &str,
        policy: &str,
        primary: Arc<dyn StorageBackend>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            primary,
            policy: core.options.namespaces.get(policy).unwrap_or(&core.options.policy).clone(),
            pool: core.pool(policy),
            cleared_at_ms: AtomicU64::new(0),
        }
    }

    /// The places under which a key may be kept that a write to it touches.
    pub(super) fn touched<'a>(
        &self,
        core: &Core,
        key: &'a str,
    ) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let ids = match self.id {
            ROOT | DEFAULT => [Some(ROOT), Some(DEFAULT)],
            id => [Some(id), None],
        };
        let places = ids.map(|id| id.map(|id| core.place(id, key)));
        places.into_iter().flatten()
    }

    /// The names under which a key may lie in the tiers below the memory that a write to it touches.
    /// A namespace's name holds no slash.
    pub(super) fn touched_names(&self, key: &str) -> impl Iterator<Item = String> + use<> {
        let names = match self.id {
            ROOT | DEFAULT => [Some(format!("/{key}")), Some(format!("{NAMESPACE_DEFAULT}/{key}"))],
            _ => [Some(self.tier_name(key)), None],
        };
        names.into_iter().flatten()
    }

    /// The name of a key in the tiers below the memory.
    pub(super) fn tier_name(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    /// Whether hits are confirmed one by one.
    pub(super) fn is_strict(&self) -> bool {
        self.policy.consistency == ConsistencyLevel::Strong && !self.policy.exclusive
    }

    /// What a reader may share that comes at `now_ms` of the monotonic clock.
    pub(super) fn sharing(&self, now_ms: u64) -> Sharing {
        match self.policy.consistency {
            ConsistencyLevel::Strong if self.policy.exclusive => Sharing::Untouched,
            ConsistencyLevel::Strong => Sharing::NotBegun,
            ConsistencyLevel::Eventual => {
                Sharing::Since(now_ms.saturating_sub(millis(self.policy.max_staleness)))
            }
            ConsistencyLevel::Weak => Sharing::Since(0),
        }
    }

    /// What may be done with an entry that memory keeps.
    pub(super) fn judge(&self, entry: &Entry, clock: &Clock) -> Verdict {
        let policy = &self.policy;
        let age_ms = clock.monotonic_ms().saturating_sub(entry.read_at_ms);
        let too_old = policy.entry_ttl.is_some_and(|ttl| age_ms > millis(ttl));
        if too_old || !entry.lives(clock.now_ms()) {
            return Verdict::Drop;
        }
        if entry.found.is_none() && (self.is_strict() || age_ms > millis(policy.negative_ttl)) {
            return Verdict::Drop;
        }
        match policy.consistency {
            ConsistencyLevel::Strong if policy.exclusive => Verdict::Serve,
            ConsistencyLevel::Strong => Verdict::Check,
            ConsistencyLevel::Eventual if age_ms > millis(policy.max_staleness) => {
                match entry.found {
                    Some(_) => Verdict::Check,
                    None => Verdict::Drop,
                }
            }
            ConsistencyLevel::Eventual | ConsistencyLevel::Weak => Verdict::Serve,
        }
    }

    /// What may be done with an entry of a tier below, which was read from the primary at
    /// `read_at_ms` of the wall clock. One that is not trusted is confirmed, where a write must be
    /// seen at once.
    pub(super) fn judge_below(
        &self,
        entry: &Entry,
        read_at_ms: u64,
        trusted: bool,
        clock: &Clock,
    ) -> Verdict {
        if read_at_ms <= self.cleared_at_ms.load(Ordering::Acquire) {
            return Verdict::Drop;
        }
        match self.judge(entry, clock) {
            Verdict::Serve if !trusted && self.policy.consistency == ConsistencyLevel::Strong => {
                Verdict::Check
            }
            verdict => verdict,
        }
    }

    /// When an entry is worth nothing any more, in milliseconds since the Unix epoch.
    pub(super) fn until_ms(&self, entry: &Entry, now_ms: u64) -> u64 {
        let ttl = match entry.found {
            Some(_) => self.policy.entry_ttl,
            None => Some(self.policy.negative_ttl),
        };
        let ours = ttl.map_or(u64::MAX, |ttl| now_ms.saturating_add(millis(ttl)));
        ours.min(entry.expires_at_ms().unwrap_or(u64::MAX))
    }

    /// Whether the absence of an object is worth remembering.
    pub(super) fn keeps_absence(&self) -> bool {
        !self.policy.negative_ttl.is_zero() && !self.is_strict()
    }

    pub(super) fn clear(&self, clock: &Clock) {
        self.cleared_at_ms.fetch_max(clock.now_ms(), Ordering::AcqRel);
        match self.id {
            ROOT | DEFAULT => {
                self.pool.clear(ROOT);
                self.pool.clear(DEFAULT);
            }
            id => self.pool.clear(id),
        }
    }
}

//! Tiers below the memory. A tier that fails, hangs or lies costs its own short timeout and a read
//! of the next tier, never an error.

mod disk;
mod remote;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Clock;
use super::entry::Stored;
use super::options::{DiskTierOptions, RemoteTierOptions};
use super::stats::{Counter, TierStats};
use crate::error::{Result, StorageError};
use crate::limits::KEY_BYTES_MAX;

/// Failures in a row after which a tier is off.
const FAILURES_MAX: u32 = 3;

/// How long a tier is off, before one operation tries it again.
const OFF: Duration = Duration::from_secs(5);

/// Where a tier keeps bytes. The name tells namespace and key.
#[async_trait]
pub(super) trait TierStore: Send + Sync + fmt::Debug {
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()>;
    async fn remove(&self, names: &[String]) -> Result<()>;
}

/// One tier, with its timeout and its switch.
#[derive(Debug)]
pub(super) struct Tier {
    store: Box<dyn TierStore>,
    timeout: Duration,
    value_bytes_max: u64,
    clock: Clock,
    /// Entries with another one were put here by other processes, by earlier runs of this one, or
    /// before a removal may have been missed.
    token: AtomicU64,
    failures: AtomicU32,
    /// Until when the tier is off, on the monotonic clock; 0 for on.
    off_until_ms: AtomicU64,
    /// Someone is trying whether the tier works again.
    trying: AtomicBool,
    hits: Counter,
    misses: Counter,
    errors: Counter,
    corrupt: Counter,
}

/// What an operation on a tier does to the trust in its entries when its outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Nothing: it changes nothing.
    None,
    /// It may leave an old entry, now or later.
    Stale,
}

impl Tier {
    /// The tier on a disk; off where its folder cannot be opened.
    pub(super) fn disk(options: &DiskTierOptions, clock: &Clock) -> Self {
        let store = disk::Disk::open(options);
        Self::new(Box::new(store), options.timeout, options.bytes / 8, clock)
    }

    /// The tier on another backend.
    pub(super) fn remote(options: &RemoteTierOptions, clock: &Clock) -> Self {
        let store = remote::Remote::new(options);
        Self::new(Box::new(store), options.timeout, options.value_bytes_max, clock)
    }

    fn new(
        store: Box<dyn TierStore>,
        timeout: Duration,
        value_bytes_max: u64,
        clock: &Clock,
    ) -> Self {
        Self {
            store,
            timeout,
            value_bytes_max,
            clock: clock.clone(),
            token: AtomicU64::new(clock.random()),
            failures: AtomicU32::new(0),
            off_until_ms: AtomicU64::new(0),
            trying: AtomicBool::new(false),
            hits: Counter::default(),
            misses: Counter::default(),
            errors: Counter::default(),
            corrupt: Counter::default(),
        }
    }

    /// Whether an entry is as good as one in memory: this process put it there, and has removed it
    /// with every write since.
    pub(super) fn trusts(&self, stored: &Stored) -> bool {
        stored.token == self.token.load(Ordering::Acquire)
    }

    /// Trusts no entry that is there now.
    pub(super) fn distrust(&self) {
        self.token.store(self.clock.random(), Ordering::Release);
    }

    pub(super) fn stats(&self) -> TierStats {
        TierStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            errors: self.errors.get(),
            corrupt: self.corrupt.get(),
            off: self.is_off(),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off_until_ms.load(Ordering::Acquire) != 0
    }

    /// The entry under a name.
    pub(super) async fn get(&self, name: &str) -> Option<Stored> {
        if name.len() > KEY_BYTES_MAX {
            return None;
        }
        let bytes = self.run(Doubt::None, self.store.get(name)).await.flatten();
        let Some(bytes) = bytes else {
            self.misses.add();
            return None;
        };
        let stored = Stored::decode(&bytes, name);
        if stored.is_some() {
            self.hits.add();
        } else {
            self.misses.add();
            self.corrupt.add();
            tracing::warn!(name, "an entry of a cache tier does not verify; it is dropped");
            self.remove(&[name.to_owned()]).await;
        }
        stored
    }

    /// Puts an entry under a name, with this tier's token.
    pub(super) async fn put(&self, name: &str, mut stored: Stored) {
        if stored.value.len() as u64 > self.value_bytes_max || name.len() > KEY_BYTES_MAX {
            return;
        }
        stored.token = self.token.load(Ordering::Acquire);
        let Ok(bytes) = stored.encode(name) else { return };
        self.run(Doubt::Stale, self.store.put(name, bytes)).await;
    }

    /// Removes what lies under the names, each of which is given once.
    pub(super) async fn remove(&self, names: &[String]) {
        let long = |name: &String| name.len() > KEY_BYTES_MAX;
        if names.iter().any(long) {
            let kept: Vec<_> = names.iter().filter(|name| !long(name)).cloned().collect();
            return Box::pin(self.remove(&kept)).await;
        }
        if names.is_empty() {
            return;
        }
        if self.run(Doubt::Stale, self.store.remove(names)).await.is_none() {
            // Also where the tier is off and was not asked: what is there outlives this write.
            self.distrust();
        }
    }

    /// Runs an operation within the timeout, unless the tier is off.
    async fn run<T>(&self, doubt: Doubt, operation: impl Future<Output = Result<T>>) -> Option<T> {
        let trial = self.admit()?;
        let mut guard = Guard { tier: self, doubt, trial };
        let result = if tokio::runtime::Handle::try_current().is_ok() {
            match tokio::time::timeout(self.timeout, operation).await {
                Ok(result) => result,
                Err(_) => Err(StorageError::timeout("the cache tier did not answer in time")),
            }
        } else {
            operation.await
        };
        match result {
            Ok(value) => {
                guard.doubt = Doubt::None;
                self.failures.store(0, Ordering::Release);
                if trial && self.off_until_ms.swap(0, Ordering::AcqRel) != 0 {
                    tracing::info!("a cache tier works again");
                }
                Some(value)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Whether an operation may go ahead, and whether it is the one that tries a tier that was off.
    fn admit(&self) -> Option<bool> {
        match self.off_until_ms.load(Ordering::Acquire) {
            0 => Some(false),
            until if self.clock.monotonic_ms() < until => None,
            _ => (!self.trying.swap(true, Ordering::AcqRel)).then_some(true),
        }
    }

    fn failed(&self, error: &StorageError) {
        self.errors.add();
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let was_off = self.is_off();
        if failures < FAILURES_MAX && !was_off {
            return;
        }
        let off_ms = u64::try_from(OFF.as_millis()).unwrap_or(u64::MAX);
        let until = self.clock.monotonic_ms().saturating_add(off_ms).max(1);
        self.off_until_ms.store(until, Ordering::Release);
        if !was_off {
            tracing::warn!(%error, "a cache tier is off; reads go past it");
        }
    }
}

/// Notes what an operation that failed, or whose future was dropped, leaves behind.
struct Guard<'a> {
    tier: &'a Tier,
    doubt: Doubt,
    trial: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.doubt == Doubt::Stale {
            self.tier.distrust();
        }
        if self.trial {
            self.tier.trying.store(false, Ordering::Release);
        }
    }
}

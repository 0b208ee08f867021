//! Two backends that are brought to the same state.

mod apply;
mod decide;
mod report;
mod stamp;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use crate::backend::{Capabilities, ListOptions, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::pattern::KeyPattern;
use crate::seal::Keyring;
use crate::version::HybridClock;

use super::ledger::{Ledger, OpenLedger};
use super::{ConflictRule, Side, Verify};
use report::Meter;
use stamp::Stamp;
use walk::Walk;

pub use report::{SyncProgress, SyncReport};

/// How two sides are brought level.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Which keys.
    pub pattern: KeyPattern,
    /// What to do with an object that both sides have changed. It is about two objects: where one
    /// side has removed what the other one has changed, the change is kept under every rule.
    pub conflict: ConflictRule,
    /// What is read back.
    pub verify: Verify,
    /// Reports what would be done, and does nothing.
    pub dry_run: bool,
    /// Goes on although one side has none of the keys that both had, which is more often the wrong
    /// or an empty store than a removal of everything. It is refused otherwise.
    pub may_empty: bool,
    /// Objects that are under way at once.
    pub concurrency: usize,
    /// Bytes of values that are under way at once; one larger value goes alone.
    pub bytes_in_flight_max: u64,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            pattern: KeyPattern::any(),
            conflict: ConflictRule::default(),
            verify: Verify::default(),
            dry_run: false,
            may_empty: false,
            concurrency: 32,
            bytes_in_flight_max: 256 * 1024 * 1024,
            bytes_per_second_max: None,
        }
    }
}

/// Brings two backends to the same state while both are in use.
///
/// What one side has changed, added or removed since the last time goes to the other one. To tell
/// what is new here from what was removed there, a [`Ledger`] remembers what both had. Without one,
/// or with an empty one, nothing is removed.
///
/// Every write and removal is on the condition that the key still holds what was seen there, so
/// nothing that is written meanwhile is lost: it goes over the next time. A sync may die at any
/// moment and run again: what it was about to write is in the ledger before it is written. One case
/// cannot be told apart then: an object that a run has brought to a side for the first time before
/// it died, and that was removed from there before the next run, looks as if it had never arrived,
/// and comes back.
#[derive(Debug, Clone)]
pub struct TwoWaySync {
    source: Arc<dyn StorageBackend>,
    target: Arc<dyn StorageBackend>,
    ledger: Ledger,
    options: SyncOptions,
    stamp: Stamp,
    clock: Arc<HybridClock>,
    env: Arc<dyn Env>,
    meter: Arc<Meter>,
}

impl TwoWaySync {
    /// A sync of two backends, which remembers what they have in common in a ledger.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when one of them cannot list its keys or store given versions
    /// on conditions.
    pub fn new(
        source: Arc<dyn StorageBackend>,
        target: Arc<dyn StorageBackend>,
        ledger: Ledger,
        options: SyncOptions,
    ) -> Result<Self> {
        for side in [&source, &target] {
            let Capabilities { name, list, exact_versions, conditional, .. } = side.capabilities();
            if !(list && exact_versions && conditional) {
                return Err(StorageError::unsupported(format!(
                    "{name} cannot be kept level with another backend: it must list its keys, keep \
                     given versions and check conditions"
                )));
            }
        }
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let meter = Arc::new(Meter::new(&*env));
        let (stamp, clock) = (Stamp::default(), Arc::default());
        Ok(Self { source, target, ledger, options, stamp, clock, env, meter })
    }

    /// Knows the keys of encrypted objects of a namespace. They are needed where a conflict has
    /// such an object stored under another key or version, and not for anything else.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Arc<Keyring>, namespace: &str) -> Self {
        self.stamp = Stamp::new(keyring, namespace);
        self
    }

    /// With the clocks and random numbers of `env`.
    #[must_use]
    pub fn with_env(mut self, env: Arc<dyn Env>) -> Self {
        self.meter = Arc::new(Meter::new(&*env));
        self.env = env;
        self
    }

    /// How far it has come; to be called while it runs.
    #[must_use]
    pub fn progress(&self) -> SyncProgress {
        self.meter.progress(&*self.env)
    }

    /// Brings both sides level, and tells what was done. Where nobody writes meanwhile they are the
    /// same afterwards. Dropped, it has done what [`TwoWaySync::progress`] says, and may run again.
    ///
    /// # Errors
    /// Those of the backends, after what was under way has ended;
    /// [`StorageError::PreconditionFailed`] when one side has none of the keys that both had, see
    /// [`SyncOptions::may_empty`]; [`StorageError::Conflict`] when another sync has taken the ledger
    /// over; [`StorageError::Corrupt`] for a ledger that cannot be read.
    pub async fn run(&self) -> Result<SyncReport> {
        self.meter.begin(&*self.env);
        let mut ledger = OpenLedger::open(&self.ledger, self.options.dry_run).await?;
        if !self.options.may_empty && !ledger.is_empty(self.options.pattern.prefix()).await? {
            for (side, name) in [(&self.source, "source"), (&self.target, "target")] {
                self.check_not_empty(side, name).await?;
            }
        }
        Walk::new(self, ledger).run().await?;
        Ok(self.meter.report())
    }

    async fn check_not_empty(&self, side: &Arc<dyn StorageBackend>, name: &str) -> Result<()> {
        let mut start_after = None;
        loop {
            let prefix = self.options.pattern.prefix().to_owned();
            let page =
                side.list(ListOptions { prefix, start_after, delimiter: None, limit: 1 }).await?;
            match page.next {
                _ if !page.entries.is_empty() => return Ok(()),
                Some(next) => start_after = Some(next),
                None => break,
            }
        }
        Err(StorageError::precondition_failed(format!(
            "the {name} ({}) holds no such key any more, so everything would be removed from the \
             other side: allow that if it is meant, or delete the ledger to bring everything back",
            side.capabilities().name
        )))
    }

    fn side(&self, side: Side) -> &Arc<dyn StorageBackend> {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}

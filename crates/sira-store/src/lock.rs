//! Locks on keys: who may read or write them now, told apart from what they hold.
//!
//! A [`LockManager`] is of one process. Whoever asks it waits in turn for who holds what it wants;
//! those who wait in a circle are told at once, and the youngest of them gives way. A lock may have a
//! lease, after which it is free whatever became of its owner; what such an owner does late is kept
//! out by the token of its lock, which is greater than that of every lock before (Kleppmann, "How to
//! do distributed locking", 2016). Locks do not hold up writers that take none.

mod fence;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::backend::StorageBackend;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::layers::MetricFamilies;
use crate::layers::metrics::MetricKind as Kind;
use fence::Fence;
use table::{Request, Requested, Table};

/// How long an owner waits that says nothing else.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// Owners with names after which those are forgotten that hold and wait for nothing.
const NAMED_MAX: usize = 4096;

/// Whether others may hold the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Others may hold it shared.
    Shared,
    /// Nobody else holds it.
    Exclusive,
}

impl LockMode {
    /// Whether two owners may not hold the lock in these modes at once.
    #[must_use]
    pub const fn excludes(self, other: Self) -> bool {
        matches!((self, other), (Self::Exclusive, _) | (_, Self::Exclusive))
    }
}

/// What is locked: a key of a namespace, whether or not it holds an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockName {
    /// Name of the namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
}

impl LockName {
    /// The lock of a key.
    #[must_use]
    pub fn new(namespace: &str, key: &str) -> Self {
        Self { namespace: namespace.to_owned(), key: key.to_owned() }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.key)
    }
}

/// Somebody who holds locks. Clones are the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOwner {
    /// Smaller is older.
    age: u64,
    label: Arc<str>,
}

impl LockOwner {
    /// What others are told of it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// How a lock is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockOptions {
    /// How long to wait for others; zero does not wait.
    pub wait: Duration,
    /// How long the lock is held unless it is renewed; `None` holds it until it is released.
    pub lease: Option<Duration>,
}

impl Default for LockOptions {
    /// Waits up to 10 s, and holds until released.
    fn default() -> Self {
        Self { wait: WAIT_DEFAULT, lease: None }
    }
}

/// A lock that somebody holds or waits for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LockStatus {
    /// Name of the namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// Whose it is.
    pub owner: String,
    /// Whether others may hold it too.
    pub mode: LockMode,
    /// The token, where it is held; `None` where it is waited for.
    pub token: Option<u64>,
    /// For how long it has been held or waited for, in milliseconds.
    pub since_ms: u64,
    /// Milliseconds until its lease ends, where it has one.
    pub lease_left_ms: Option<u64>,
}

/// What came of locks since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct LockFigures {
    /// Locks that are held now.
    pub held: u64,
    /// Owners that wait now.
    pub waiting: u64,
    /// Locks that were given.
    pub granted: u64,
    /// Circles that were broken.
    pub deadlocks: u64,
    /// Leases that ended before the lock was released.
    pub expired: u64,
    /// Waits that ended without the lock.
    pub timeouts: u64,
}

impl LockFigures {
    /// Writes them as metrics.
    pub fn write(&self, out: &mut MetricFamilies) {
        for (name, kind, help, value) in [
            ("sira_locks_held", Kind::Gauge, "Locks that are held.", self.held),
            ("sira_locks_waiting", Kind::Gauge, "Owners that wait for a lock.", self.waiting),
            ("sira_locks_granted_total", Kind::Counter, "Locks that were given.", self.granted),
            (
                "sira_lock_deadlocks_total",
                Kind::Counter,
                "Circles of owners that waited for each other, of which one gave way.",
                self.deadlocks,
            ),
            (
                "sira_lock_leases_expired_total",
                Kind::Counter,
                "Leases that ended before the lock was released.",
                self.expired,
            ),
            (
                "sira_lock_timeouts_total",
                Kind::Counter,
                "Times that others held a lock for as long as was to be waited.",
                self.timeouts,
            ),
        ] {
            out.family(name, kind, help);
            out.sample(&[], value as f64);
        }
    }
}

/// The locks of a process. Clones share them.
///
/// ```
/// use sira_store::lock::{LockManager, LockMode, LockName, LockOptions};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let locks = LockManager::default();
/// let (one, other) = (locks.owner("one"), locks.owner("other"));
/// let name = LockName::new("default", "job");
/// let at_once = LockOptions { wait: Default::default(), lease: None };
/// let first = locks.acquire(&one, &name, LockMode::Exclusive, at_once).await?;
/// assert!(locks.acquire(&other, &name, LockMode::Shared, at_once).await.is_err());
/// assert!(locks.release(&one, &name));
/// assert!(locks.acquire(&other, &name, LockMode::Shared, at_once).await? > first);
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LockManager {
    shared: Arc<Shared>,
}

struct Shared {
    env: Arc<dyn Env>,
    table: Mutex<Table>,
    fence: Fence,
    owners: AtomicU64,
    named: Mutex<HashMap<String, LockOwner>>,
    timeouts: AtomicU64,
}

impl Default for LockManager {
    fn default() -> Self {
        Self::with_env(Arc::new(SystemEnv))
    }
}

impl LockManager {
    /// Locks whose tokens grow as long as the clock of `env` does from one start to the next.
    #[must_use]
    pub fn with_env(env: Arc<dyn Env>) -> Self {
        let fence = Fence::of_clock(&*env);
        Self::over(env, fence)
    }

    /// Locks whose tokens grow from one start to the next, whatever the clock does: `backend` keeps
    /// which may have been given.
    #[must_use]
    pub fn durable(backend: Arc<dyn StorageBackend>, env: Arc<dyn Env>) -> Self {
        let fence = Fence::kept_in(backend, Arc::clone(&env));
        Self::over(env, fence)
    }

    fn over(env: Arc<dyn Env>, fence: Fence) -> Self {
        let shared = Shared {
            env,
            table: Mutex::default(),
            fence,
            owners: AtomicU64::new(1),
            named: Mutex::default(),
            timeouts: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Somebody new, younger than all before.
    #[must_use]
    pub fn owner(&self, label: &str) -> LockOwner {
        LockOwner { age: self.shared.owners.fetch_add(1, Ordering::Relaxed), label: label.into() }
    }

    /// The owner of this name, for those who are known by a name alone: the same one as long as it
    /// holds or waits for something, and most likely after.
    #[must_use]
    pub fn named_owner(&self, name: &str) -> LockOwner {
        let mut named = self.shared.named.lock();
        if let Some(owner) = named.get(name) {
            return owner.clone();
        }
        if named.len() >= NAMED_MAX {
            let table = self.shared.table.lock();
            named.retain(|_, owner| !table.is_idle(owner));
        }
        let owner = self.owner(name);
        named.insert(name.to_owned(), owner.clone());
        owner
    }

    /// Waits for a lock, and answers its token. An owner that holds it already, in this mode or
    /// exclusively, gets the same token and a new lease; one that holds it shared and wants it
    /// exclusively goes before others that wait. Dropped before it answers, nothing is held.
    ///
    /// Must be called from a tokio runtime with its timer enabled, where it may wait.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when others held it for as long as was to be waited;
    /// [`StorageError::Conflict`] when the wait was part of a circle, and this owner the youngest in
    /// it: release what is held, and begin again. Those of the backend that keeps tokens.
    pub async fn acquire(
        &self,
        owner: &LockOwner,
        name: &LockName,
        mode: LockMode,
        options: LockOptions,
    ) -> Result<u64> {
        self.shared.fence.ensure().await?;
        let begun = self.shared.env.monotonic();
        let request = Request {
            owner: owner.clone(),
            mode,
            lease: options.lease,
            waits: options.wait > Duration::ZERO,
        };
        let asked = self.shared.table.lock().request(name, request, begun, &self.shared.fence);
        let (id, answer) = match asked {
            Requested::Granted(token) => return Ok(token),
            Requested::Waits(id, answer) => (id, answer),
            Requested::Refused(holders) => return Err(self.timed_out(name, &holders)),
        };
        let mut waiting = Waiting { manager: self, owner, name, id, answer: Some(answer) };
        let until = begun + options.wait;
        loop {
            let Some(answer) = waiting.answer.as_mut() else { return Err(closed()) };
            let now = self.shared.env.monotonic();
            let next = self.shared.table.lock().next_expiry(name);
            let wake = next.map_or(until, |at| until.min(at));
            if let Ok(answered) = tokio::time::timeout(wake.saturating_sub(now), answer).await {
                waiting.answer = None;
                return answered.unwrap_or_else(|_| Err(closed()));
            }
            let now = self.shared.env.monotonic();
            let mut table = self.shared.table.lock();
            table.expire(name, now, &self.shared.fence);
            if now >= until && table.is_waiting(name, id) {
                let holders = table.holders(name);
                drop(table);
                return Err(self.timed_out(name, &holders));
            }
        }
    }

    fn timed_out(&self, name: &LockName, holders: &[String]) -> StorageError {
        self.shared.timeouts.fetch_add(1, Ordering::Relaxed);
        StorageError::locked(format!("the lock is held by {}; try again later", holders.join(", ")))
            .with_retry(crate::Retry::Temporary)
            .with_namespace(&*name.namespace)
            .with_key(&*name.key)
    }

    /// Holds a lock for `lease` from now on, and answers its token.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the owner does not hold it any more.
    pub fn renew(&self, owner: &LockOwner, name: &LockName, lease: Duration) -> Result<u64> {
        let now = self.shared.env.monotonic();
        self.shared.table.lock().renew(owner, name, lease, now, &self.shared.fence).ok_or_else(
            || {
                StorageError::not_found("the lock is not held any more: its lease has ended")
                    .with_namespace(&*name.namespace)
                    .with_key(&*name.key)
            },
        )
    }

    /// Releases a lock, and says whether the owner held it.
    pub fn release(&self, owner: &LockOwner, name: &LockName) -> bool {
        let now = self.shared.env.monotonic();
        self.shared.table.lock().release(owner, name, now, &self.shared.fence)
    }

    /// Releases everything that an owner holds.
    pub fn release_all(&self, owner: &LockOwner) {
        let now = self.shared.env.monotonic();
        self.shared.table.lock().release_all(owner, now, &self.shared.fence);
    }

    /// Everything that is held and waited for, by name; those who wait come after those who hold, in
    /// the order of their turns.
    #[must_use]
    pub fn locks(&self) -> Vec<LockStatus> {
        let now = self.shared.env.monotonic();
        self.shared.table.lock().list(now, &self.shared.fence)
    }

    /// What came of locks since the start.
    #[must_use]
    pub fn figures(&self) -> LockFigures {
        let now = self.shared.env.monotonic();
        let figures = self.shared.table.lock().figures(now, &self.shared.fence);
        LockFigures { timeouts: self.shared.timeouts.load(Ordering::Relaxed), ..figures }
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// A wait that ends with whoever waits.
struct Waiting<'a> {
    manager: &'a LockManager,
    owner: &'a LockOwner,
    name: &'a LockName,
    id: u64,
    /// `None` once it was taken.
    answer: Option<oneshot::Receiver<Result<u64>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        let shared = &self.manager.shared;
        let now = shared.env.monotonic();
        let mut table = shared.table.lock();
        table.cancel(self.name, self.id, now, &shared.fence);
        if let Ok(Ok(_)) = answer.try_recv() {
            table.release(self.owner, self.name, now, &shared.fence);
        }
    }
}

fn closed() -> StorageError {
    StorageError::unavailable("the lock's turn was lost")
}

#[cfg(test)]
mod tests;

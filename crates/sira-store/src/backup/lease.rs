//! Who may write to a repository: one process at a time, under a lease that it renews.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::{AbortHandle, JoinHandle};

use super::codec::{close, open};
use crate::backend::{ReadOptions, StorageBackend};
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::options::{Condition, Durability, StorageOptions};
use crate::version::Version;

/// Key of the lease.
const KEY: &str = "lock";

/// Times that a lease is taken anew because another one went meanwhile.
const ATTEMPTS: usize = 4;

/// What stands under the key. It is not encrypted: who writes is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    owner: String,
    /// Tells apart those who hold it.
    token: String,
    until_ms: u64,
}

/// Takes leases for the work of one process, which share one.
#[derive(Debug)]
pub(super) struct LeaseHolder {
    store: Arc<dyn StorageBackend>,
    env: Arc<dyn Env>,
    owner: String,
    length: Duration,
    held: tokio::sync::Mutex<Weak<Lease>>,
    ending: Ending,
}

/// The task that gives a lease back.
type Ending = Arc<Mutex<Option<JoinHandle<()>>>>;

/// The right to write. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Lease {
    state: Arc<State>,
    renewal: AbortHandle,
    ending: Ending,
}

#[derive(Debug)]
struct State {
    store: Arc<dyn StorageBackend>,
    env: Arc<dyn Env>,
    document: Document,
    length: Duration,
    now: Mutex<Now>,
}

/// What is known of a lease.
#[derive(Debug, Clone, Copy)]
struct Now {
    version: Version,
    /// By the monotonic clock, begun before the write that says so.
    until: Duration,
    lost: bool,
}

impl LeaseHolder {
    pub(super) fn new(
        store: Arc<dyn StorageBackend>,
        env: Arc<dyn Env>,
        owner: String,
        length: Duration,
    ) -> Self {
        Self {
            store,
            env,
            owner,
            length,
            held: tokio::sync::Mutex::default(),
            ending: Ending::default(),
        }
    }

    /// The lease, taken if it is not held.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process has it, which passes.
    pub(super) async fn take(&self) -> Result<Arc<Lease>> {
        let mut held = self.held.lock().await;
        if let Some(lease) = held.upgrade().filter(|lease| lease.check().is_ok()) {
            return Ok(lease);
        }
        for _ in 0..ATTEMPTS {
            // The one before is given back by a task.
            self.settle().await;
            if let Some(lease) = self.take_new().await? {
                let lease = Arc::new(lease);
                *held = Arc::downgrade(&lease);
                return Ok(lease);
            }
        }
        Err(taken())
    }

    /// A new lease; `None` when what was there has changed meanwhile.
    async fn take_new(&self) -> Result<Option<Lease>> {
        let found = self.store.read(KEY, ReadOptions::default()).await?;
        let condition = match &found {
            None => Condition::IfAbsent,
            Some(object) => {
                // One that cannot be read says nothing of whose it is, and has to lapse by its age.
                let held = open(&object.value)
                    .ok()
                    .and_then(|body| serde_json::from_slice::<Document>(body).ok());
                let until_ms = held.as_ref().map_or_else(
                    || object.head.version.time_ms() + self.length.as_millis() as u64,
                    |held| held.until_ms,
                );
                let own =
                    held.is_some_and(|held| !held.owner.is_empty() && held.owner == self.owner);
                let left_ms = until_ms.saturating_sub(self.env.now_ms());
                if !own && left_ms > 0 {
                    return Err(StorageError::locked(format!(
                        "another process writes to these backups, or died less than {} s ago: try \
                         again then",
                        left_ms.div_ceil(1000)
                    ))
                    .with_retry(crate::error::Retry::Temporary));
                }
                Condition::IfMatch(object.head.version)
            }
        };
        let token = format!("{:016x}{:016x}", self.env.random_u64(), self.env.random_u64());
        let document = Document { owner: self.owner.clone(), token, until_ms: 0 };
        let begun = self.env.monotonic();
        let (store, env) = (Arc::clone(&self.store), Arc::clone(&self.env));
        let written = write(&*store, &*env, &document, self.length, condition).await;
        let version = match written {
            Err(StorageError::Locked(_)) => return Ok(None),
            written => written?,
        };
        let now = Now { version, until: begun + self.length, lost: false };
        let now = Mutex::new(now);
        let state = Arc::new(State { store, env, document, length: self.length, now });
        let renewing = Arc::clone(&state);
        let renewal = tokio::spawn(async move { renewing.renew().await }).abort_handle();
        Ok(Some(Lease { state, renewal, ending: Arc::clone(&self.ending) }))
    }

    /// Waits until a lease that was dropped is given back.
    pub(super) async fn settle(&self) {
        let ending = self.ending.lock().take();
        if let Some(ending) = ending {
            // One that was given up lapses.
            let _ = ending.await;
        }
    }
}

/// Writes the lease for its length from now on.
async fn write(
    store: &dyn StorageBackend,
    env: &dyn Env,
    document: &Document,
    length: Duration,
    condition: Condition,
) -> Result<Version> {
    let until_ms = env.now_ms() + length.as_millis() as u64;
    let document = Document { until_ms, ..document.clone() };
    let json = serde_json::to_vec(&document).map_err(|error| {
        StorageError::invalid_input("the lease of the backup cannot be written").with_source(error)
    })?;
    let durability = Some(Durability::Sync);
    let options = StorageOptions { condition, durability, ..StorageOptions::default() };
    match store.put(KEY, Bytes::from(close(json)), options).await {
        Err(StorageError::PreconditionFailed(_)) => Err(taken()),
        result => result,
    }
}

fn taken() -> StorageError {
    StorageError::locked("another process has begun to write to these backups; nothing was added")
        .with_retry(crate::error::Retry::Temporary)
}

impl State {
    /// Renews the lease in time, without end, until it is lost.
    async fn renew(&self) {
        let mut pause = self.length / 3;
        loop {
            tokio::time::sleep(pause).await;
            pause = self.length / 3;
            let begun = self.env.monotonic();
            let condition = Condition::IfMatch(self.now.lock().version);
            let length = self.length;
            let renewed = write(&*self.store, &*self.env, &self.document, length, condition).await;
            match renewed {
                Ok(version) => {
                    let until = begun + self.length;
                    *self.now.lock() = Now { version, until, lost: false };
                }
                Err(StorageError::Locked(_)) => {
                    // An answer that was lost leaves another version under the own token.
                    if !self.find_own().await {
                        self.now.lock().lost = true;
                        return;
                    }
                    pause = Duration::ZERO;
                }
                // It may pass before the lease ends.
                Err(error) => tracing::warn!(%error, "the lease of the backup was not renewed"),
            }
        }
    }

    async fn find_own(&self) -> bool {
        let Ok(Some(object)) = self.store.read(KEY, ReadOptions::default()).await else {
            return false;
        };
        let held = open(&object.value).ok();
        let held = held.and_then(|body| serde_json::from_slice::<Document>(body).ok());
        let own = held.is_some_and(|held| held.token == self.document.token);
        if own {
            self.now.lock().version = object.head.version;
        }
        own
    }
}

impl Lease {
    /// Checks that it is still held.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when it is not.
    pub(super) fn check(&self) -> Result<()> {
        let now = *self.state.now.lock();
        if now.lost || self.state.env.monotonic() >= now.until {
            return Err(taken());
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        // A renewal that was under way leaves it to lapse.
        let state = Arc::clone(&self.state);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let ending = runtime.spawn(async move {
                let version = state.now.lock().version;
                let _ = state.store.remove(KEY, Condition::IfMatch(version)).await;
            });
            *self.ending.lock() = Some(ending);
        }
    }
}

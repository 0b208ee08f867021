//! Keys that transactions have written and whose backends do not hold it yet.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;

use super::record::Write;
use crate::error::{Result, Retry, StorageError};

/// How long a write waits for the transaction before it to reach the key's backend.
const WAIT: Duration = Duration::from_secs(10);

/// What a transaction has made of a key.
#[derive(Debug, Clone)]
enum Held {
    /// It is being committed.
    Committing,
    /// It is committed, and the key holds this whatever the backend says.
    Committed(Arc<Write>),
    /// Nobody knows whether it was committed, until the log is opened again.
    Unknown,
}

/// Keys of transactions that are not written through.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: RwLock<HashMap<Arc<str>, BTreeMap<String, Held>>>,
    /// Keys in it.
    count: AtomicUsize,
    /// Told of every change but a new key.
    changed: Notify,
}

impl Table {
    /// Whether no key is held, so that nothing needs to be looked up.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Whether keys of a namespace are held.
    pub(super) fn has(&self, namespace: &str) -> bool {
        !self.is_empty() && self.held.read().contains_key(namespace)
    }

    /// Namespaces of which keys are held.
    pub(super) fn namespaces(&self) -> Vec<Arc<str>> {
        self.held.read().keys().cloned().collect()
    }

    fn set(&self, writes: &[Arc<Write>], held: impl Fn(&Arc<Write>) -> Held) {
        let mut table = self.held.write();
        for write in writes {
            let keys = table.entry(Arc::clone(&write.namespace)).or_default();
            if keys.insert(write.key.clone(), held(write)).is_none() {
                self.count.fetch_add(1, Ordering::SeqCst);
            }
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// From now on who reads the keys waits for the outcome.
    pub(super) fn begin(&self, writes: &[Arc<Write>]) {
        self.set(writes, |_| Held::Committing);
    }

    /// The keys hold what was written.
    pub(super) fn commit(&self, writes: &[Arc<Write>]) {
        self.set(writes, |write| Held::Committed(Arc::clone(write)));
    }

    /// Nobody knows what the keys hold.
    pub(super) fn lose(&self, writes: &[Arc<Write>]) {
        self.set(writes, |_| Held::Unknown);
    }

    /// The keys hold what their backends say.
    pub(super) fn release(&self, writes: &[Arc<Write>]) {
        let mut table = self.held.write();
        for write in writes {
            let Some(keys) = table.get_mut(&write.namespace) else { continue };
            if keys.remove(&write.key).is_some() {
                self.count.fetch_sub(1, Ordering::SeqCst);
            }
            if keys.is_empty() {
                table.remove(&write.namespace);
            }
        }
        drop(table);
        self.changed.notify_waiters();
    }

    fn look(&self, namespace: &str, key: &str) -> Option<Held> {
        match self.is_empty() {
            true => None,
            false => self.held.read().get(namespace)?.get(key).cloned(),
        }
    }

    /// What a committed transaction has made of a key, if its backend may not hold it yet.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the outcome is not known.
    pub(super) async fn written(&self, namespace: &str, key: &str) -> Result<Option<Arc<Write>>> {
        let mut answer = Ok(None);
        self.until(|| {
            answer = match self.look(namespace, key) {
                None => Ok(None),
                Some(Held::Committed(write)) => Ok(Some(write)),
                Some(Held::Unknown) => Err(unknown().with_namespace(namespace).with_key(key)),
                Some(Held::Committing) => return false,
            };
            true
        })
        .await;
        answer
    }

    /// The same of all keys of a namespace that begin with `prefix` and come after `start_after`, in
    /// byte order.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the outcome of one is not known.
    pub(super) async fn written_after(
        &self,
        namespace: &str,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<Vec<Arc<Write>>> {
        let from = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut answer = Ok(Vec::new());
        self.until(|| {
            answer = Ok(Vec::new());
            if self.is_empty() {
                return true;
            }
            let table = self.held.read();
            let Some(keys) = table.get(namespace) else { return true };
            let mut found = Vec::new();
            let range = keys.range::<str, _>((from, Bound::Unbounded));
            for (key, held) in range.take_while(|(key, _)| key.starts_with(prefix)) {
                match held {
                    Held::Committing => return false,
                    Held::Committed(write) => found.push(Arc::clone(write)),
                    Held::Unknown => {
                        answer = Err(unknown().with_namespace(namespace).with_key(key));
                        return true;
                    }
                }
            }
            answer = Ok(found);
            true
        })
        .await;
        answer
    }

    /// Whether none of these keys is held.
    pub(super) fn are_free<'k>(&self, keys: impl IntoIterator<Item = (&'k str, &'k str)>) -> bool {
        if self.is_empty() {
            return true;
        }
        let table = self.held.read();
        keys.into_iter().all(|(namespace, key)| {
            !table.get(namespace).is_some_and(|keys| keys.contains_key(key))
        })
    }

    /// Waits until none of these keys is held.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when that takes too long.
    pub(super) async fn freed<'k>(
        &self,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> Result<()> {
        let keys: Vec<_> = keys.into_iter().collect();
        let freed = self.until(|| self.are_free(keys.iter().copied()));
        tokio::time::timeout(WAIT, freed).await.map_err(|_| {
            let held = keys.into_iter().find(|key| !self.are_free([*key]));
            let error = StorageError::unavailable(
                "a committed transaction has written the key, and its backend does not take it yet; \
                 see to the backend, and try again",
            )
            .with_retry(Retry::Temporary);
            match held {
                Some((namespace, key)) => error.with_namespace(namespace).with_key(key),
                None => error,
            }
        })
    }

    /// Asks again after each change, until it holds.
    async fn until(&self, mut holds: impl FnMut() -> bool) {
        while !holds() {
            let mut changed = pin!(self.changed.notified());
            // What changes from here on is heard of.
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

fn unknown() -> StorageError {
    StorageError::unavailable(
        "whether a transaction over the key was committed is not known until the store is opened \
         again; restart the server",
    )
    .with_retry(Retry::Permanent)
}

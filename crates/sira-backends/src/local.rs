//! The driver of ordered stores that run within this process.
//!
//! | map | key | value |
//! |---|---|---|
//! | heads | `a` `NAMESPACE` `/` `KEY` | a record as [`Record::encode`] gives it, or head and envelope alone |
//! | bodies | the same | the body, where it is too large to lie with its head |
//! | expiries | expiry, 8 bytes big-endian, then the same | empty |
//!
//! `a` is the code of the area. All of a record changes in one transaction, in which the guard is
//! judged as well. Stores block, so they are called on threads that may.

mod change;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::driver::{
    Change, CommitError, Driver, DriverProfile, Guard, Listed, Part, Place, Record, RecordHead,
    Scan,
};
use sira_store::{HealthStatus, Result, StorageError, StorageStats, Version};

use change::Entry;

/// Changes, each by itself, that are made in one transaction and so with one fsync.
const CHANGES_TOGETHER: usize = 1_000;

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    Heads,
    Bodies,
    Expiries,
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Another transaction was in the way: to be run again.
    Again,
    /// The store failed.
    Failed(StorageError),
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

/// What the work of a transaction found.
#[derive(Debug)]
pub(crate) enum Verdict<R> {
    /// To be made durable.
    Commit(R),
    /// To be undone.
    Abort(R),
}

/// One transaction: reads see its own writes, and what it has read does not change before it ends.
pub(crate) trait Transaction {
    fn read(&self, map: Map, key: &[u8]) -> Result<Option<Bytes>, Fault>;
    fn write(&self, map: Map, key: &[u8], value: Bytes) -> Result<(), Fault>;
    fn remove(&self, map: Map, key: &[u8]) -> Result<(), Fault>;
}

/// Called with each key and value of a walk; says whether it goes on.
pub(crate) type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool> + 'a;

/// An ordered store with transactions. All methods but the first two block.
pub(crate) trait Store: Send + Sync + std::fmt::Debug + 'static {
    fn profile(&self) -> DriverProfile;

    /// What the store can tell of a key of the heads without blocking: the value, or `None` for a
    /// key that is not there.
    fn head_at_hand(&self, key: &[u8]) -> Option<Option<Bytes>>;

    /// Largest body that lies with its head, in bytes.
    fn body_with_head_max(&self) -> usize;

    /// Runs work in a transaction, again while others are in the way.
    fn transact<R>(
        &self,
        work: impl Fn(&dyn Transaction) -> Result<Verdict<R>, Fault>,
    ) -> Result<R>;

    /// Runs reads that see one moment.
    fn view<R>(&self, work: impl Fn(&dyn Transaction) -> Result<R, Fault>) -> Result<R>;

    /// Visits keys and values from a key on, in order, until the visitor says that it has enough.
    fn visit(&self, map: Map, from: &[u8], visitor: &mut Visitor<'_>) -> Result<()>;

    fn stats(&self) -> Result<StorageStats>;

    fn health(&self) -> HealthStatus;
}

/// Records in a store within this process.
#[derive(Debug)]
pub(crate) struct LocalDriver<S> {
    store: Arc<S>,
}

impl<S: Store> LocalDriver<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store: Arc::new(store) }
    }

    /// Runs what blocks.
    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&S) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let store = Arc::clone(&self.store);
        let task = tokio::task::spawn_blocking(move || work(&store));
        task.await.unwrap_or_else(|error| {
            Err(StorageError::io("the store's thread ended early").with_source(error))
        })
    }
}

#[async_trait]
impl<S: Store> Driver for LocalDriver<S> {
    fn profile(&self) -> DriverProfile {
        self.store.profile()
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let key = key_of(place, key);
        self.run(move |store| {
            let with_head_max = store.body_with_head_max();
            store.transact(|txn| {
                let put = change::put(txn, &key, record.clone(), &guard, with_head_max)?;
                Ok(Verdict::Commit(put))
            })?
        })
        .await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let key = key_of(place, key);
        if let Some(value) = self.store.head_at_hand(&key) {
            let Some(value) = value else { return Ok(None) };
            let entry = Entry::decode(value)?;
            if part == Part::Head || entry.body.is_some() {
                return entry.into_record(&part, None).map(Some);
            }
        }
        self.run(move |store| store.view(|txn| change::read(txn, &key, &part))).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let key = key_of(place, key);
        self.run(move |store| {
            store.transact(|txn| Ok(Verdict::Commit(change::remove(txn, &key, &guard)?)))?
        })
        .await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let root = key_of(place, "");
        let begin = [&root[..], scan.prefix.as_bytes()].concat();
        let after = scan.after.as_ref().map(|after| [&root[..], &after.to_bytes(), b"\0"].concat());
        let from = after.filter(|after| *after >= begin).unwrap_or_else(|| begin.clone());
        self.run(move |store| {
            let mut listed = Vec::new();
            store.visit(Map::Heads, &from, &mut |key, value| {
                if !key.starts_with(&begin) {
                    return Ok(false);
                }
                let name = key.get(root.len()..).and_then(|name| std::str::from_utf8(name).ok());
                let Some(name) = name else {
                    return Err(StorageError::corrupt("the store holds a key that is not UTF-8"));
                };
                let head = RecordHead::decode(value)?;
                listed.push(Listed {
                    key: name.to_owned(),
                    size: head.size,
                    version: Some(head.version),
                    expiry: head.expires_at_ms.into(),
                });
                Ok(listed.len() < scan.limit)
            })?;
            Ok(listed)
        })
        .await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let keys: Vec<_> = keys.iter().map(|key| key_of(place, key)).collect();
        self.run(move |store| {
            store.view(|txn| keys.iter().map(|key| change::read(txn, key, &Part::Whole)).collect())
        })
        .await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        let count = changes.len();
        let place = place.clone();
        let results = self.run(move |store| {
            let with_head_max = store.body_with_head_max();
            let mut results = Vec::with_capacity(changes.len());
            for part in changes.chunks(CHANGES_TOGETHER) {
                let made = store.transact(|txn| {
                    let made = part.iter().cloned();
                    let made = made.map(|change| change::apply(txn, &place, change, with_head_max));
                    made.collect::<Result<Vec<_>, _>>().map(Verdict::Commit)
                });
                match made {
                    Ok(made) => results.extend(made),
                    Err(error) => results.extend(copies(error, part.len())),
                }
            }
            Ok(results)
        });
        results.await.unwrap_or_else(|error| copies(error, count))
    }

    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        let place = place.clone();
        self.run(move |store| {
            let with_head_max = store.body_with_head_max();
            store.transact(|txn| {
                let mut versions = Vec::with_capacity(changes.len());
                for (index, change) in changes.iter().enumerate() {
                    match change::apply(txn, &place, change.clone(), with_head_max)? {
                        Ok(version) => versions.push(version),
                        Err(error) => {
                            let refused = CommitError { index: Some(index), error };
                            return Ok(Verdict::Abort(Err(refused)));
                        }
                    }
                }
                Ok(Verdict::Commit(Ok(versions)))
            })
        })
        .await?
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        self.run(move |store| {
            let mut expired = Vec::new();
            store.visit(Map::Expiries, b"", &mut |key, _| {
                let at = change::expiry_of(key).map(|(at, _)| at);
                if expired.len() >= limit || at.is_none_or(|at| at > now_ms) {
                    return Ok(false);
                }
                expired.push(key.to_vec());
                Ok(true)
            })?;
            store.transact(|txn| {
                let mut collected = 0;
                for entry in &expired {
                    collected += u64::from(change::collect(txn, entry, now_ms)?);
                }
                Ok(Verdict::Commit(collected))
            })
        })
        .await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.run(Store::stats).await
    }

    async fn health_check(&self) -> HealthStatus {
        let health = self.run(|store| Ok(store.health())).await;
        health.unwrap_or_else(|error| HealthStatus::Critical(error.to_string()))
    }
}

/// The same error for each of several changes.
fn copies<T>(error: StorageError, count: usize) -> Vec<Result<T>> {
    let again =
        |error: &StorageError| StorageError::io(error.to_string()).with_retry(error.retry());
    let mut copies: Vec<_> = (1..count).map(|_| Err(again(&error))).collect();
    if count > 0 {
        copies.push(Err(error));
    }
    copies
}

/// The key of a record in heads and bodies.
fn key_of(place: &Place, key: &str) -> Vec<u8> {
    format!("{}{}/{key}", place.area.code(), place.namespace).into_bytes()
}

/// Bytes that can still be written to the file system of a folder.
pub(crate) fn available_bytes(folder: &std::path::Path) -> Option<u64> {
    let room = rustix::fs::statvfs(folder).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

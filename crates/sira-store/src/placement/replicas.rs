//! Objects that several backends hold alike.
//!
//! The entry of an object is the arbiter. It names the replica that the object lies on and, of each
//! other one, the version that it is known to have; so one catalog decides what is newest, and no
//! read has to ask a majority. A write says in the entry that it begins, goes to all replicas at once
//! under one version, and says which of them hold it before it is acknowledged. If the replica that
//! the object lay on is not among them, the object lies on another from then on: that is all that a
//! failover is, and it is as quick as one write. What was missed is made up for by the mender, which
//! also lets objects lie on the first replica again.
//!
//! A replica that lost what it had acknowledged (a disk that was replaced, a cache that was emptied)
//! is found out by its answer: the entry knows a newer version, and when the object would expire.

mod answers;
mod erase;
mod read;
mod repair;
mod write;

pub use repair::{RepairOptions, RepairReport, RepairRule};

use std::collections::BTreeSet;

use super::backend::{Found, PlacedBackend};
use super::entry::{Copies, Entry};
use super::mender::Behind;
use super::replication::{Consistency, Replication};
use crate::backend::ListOptions;
use crate::error::{Result, Retry, StorageError};
use crate::version::Version;

impl PlacedBackend {
    /// The same, with every object on each of these backends.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a set of replicas that cannot be, and
    /// [`StorageError::NotFound`] for one that is not among the backends; the catalog's own.
    pub async fn replicated(mut self, replication: Replication) -> Result<Self> {
        replication.check()?;
        for name in &replication.replicas {
            self.backend(name)?;
        }
        let before = self.newest_record().await?;
        let fresh = before.used == BTreeSet::from([before.home.clone()])
            && before.mirrors.is_empty()
            && self.is_empty(&before.home).await?;
        let record = self.entries.replicate(&replication.replicas, fresh).await?;
        *self.record.write() = record;
        self.replication = Some(replication);
        Ok(self)
    }

    /// The same, where objects are not replicated, or no longer.
    ///
    /// # Errors
    /// The catalog's own.
    pub async fn unreplicated(self) -> Result<Self> {
        if self.record.read().complete {
            let record = self.entries.unreplicate().await?;
            *self.record.write() = record;
        }
        Ok(self)
    }

    /// What is promised of the namespace, where it is replicated.
    #[must_use]
    pub fn replication(&self) -> Option<&Replication> {
        self.replication.as_ref()
    }

    /// How far copies are behind.
    #[must_use]
    pub fn behind(&self) -> Behind {
        self.mender.behind(self.env.monotonic())
    }

    /// Whether nothing was ever put into the namespace.
    async fn is_empty(&self, home: &str) -> Result<bool> {
        let one = || ListOptions { limit: 1, ..ListOptions::default() };
        let entries = self.entries.keys(one()).await?;
        if !entries.entries.is_empty() {
            return Ok(false);
        }
        let backend = self.backend(home)?;
        if !backend.capabilities().list {
            return Ok(false);
        }
        // One that does not answer may hold something.
        Ok(backend.list(one()).await.is_ok_and(|page| page.entries.is_empty()))
    }

    /// Whether a key is known to hold nothing, without a look at a backend.
    pub(super) fn is_known_gone(&self, found: &Found) -> bool {
        let copies = &found.entry.copies;
        match found.version {
            None => self.replication.is_some() && self.record.read().complete,
            Some(_) => {
                copies.writing.is_none()
                    && found.entry.moving.is_none()
                    && copies.is_gone(self.env.now_ms())
            }
        }
    }

    /// The entry of a key as it was before a write that had no effect. What had none holds nothing.
    pub(super) fn entry_before(&self, before: &Found) -> Entry {
        let mut entry = before.entry.clone();
        entry.copies.absent |= before.version.is_none() && self.is_known_gone(before);
        entry
    }

    /// Whether a replica that answers with this version has lost a newer one.
    fn has_lost(&self, found: &Found, held: Option<Version>) -> bool {
        let copies = &found.entry.copies;
        copies.version() > held && !copies.is_gone(self.env.now_ms())
    }

    /// Whether reads may see what is not the newest.
    fn may_be_stale(&self) -> bool {
        let strong = |replication: &Replication| replication.consistency == Consistency::Strong;
        self.replication.as_ref().is_some_and(|replication| !strong(replication))
    }

    /// Notes an object whose replicas are not all as they are to be.
    pub(super) fn note(&self, key: &str) {
        self.mender.note(key, self.env.monotonic());
    }

    /// The other replicas of an object that lies on one, without versions.
    fn unknown(replication: &Replication, at: &str) -> Copies {
        let others = replication.replicas.iter().filter(|name| *name != at);
        Copies { on: others.map(|name| (name.clone(), None)).collect(), ..Copies::default() }
    }
}

/// Whether an error is about the backend, so that another one may do better, and not about what was
/// asked.
pub(super) fn is_of_backend(error: &StorageError) -> bool {
    !matches!(
        error,
        StorageError::InvalidInput(_)
            | StorageError::TooLarge(_)
            | StorageError::Unsupported(_)
            | StorageError::PreconditionFailed(_)
            | StorageError::Conflict(_)
    )
}

/// An error of which it is known that nothing was written.
fn without_effect(error: StorageError) -> StorageError {
    match error.retry() {
        Retry::Ambiguous => error.with_retry(Retry::Temporary),
        _ => error,
    }
}

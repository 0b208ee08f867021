//! Moves of objects from one backend to another.

use std::time::Duration;

use super::MOVE_LEASE_MS;
use super::backend::{Found, PlacedBackend};
use super::entry::{Entry, Moving};
use crate::backend::ReadOptions;
use crate::error::{Result, Retry, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Times that a copy begins again because the object was written meanwhile.
const COPY_ATTEMPTS: usize = 64;

/// First wait for a move of another process; it doubles.
const WAIT: Duration = Duration::from_millis(2);

/// Longest wait between two looks.
const WAIT_MAX: Duration = Duration::from_millis(500);

impl PlacedBackend {
    /// Whether what began then counts as given up.
    pub(super) fn is_over(&self, since_ms: u64) -> bool {
        since_ms.saturating_add(MOVE_LEASE_MS) <= self.env.now_ms()
    }

    /// Where a key's object lies once no move of it goes on, and no write of another process to one
    /// that has copies. Under the key's lock.
    pub(super) async fn settled(&self, key: &str) -> Result<Found> {
        let mut wait = WAIT;
        loop {
            let mut found = self.find(key).await?;
            if let Some(writing) = &found.entry.copies.writing
                && writing.writer != self.mover
                && !self.is_over(writing.since_ms)
            {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(WAIT_MAX);
                continue;
            }
            let Some(moving) = &mut found.entry.moving else { return Ok(found) };
            let over = self.is_over(moving.since_ms);
            // A move of this process that goes on would hold the lock.
            if moving.mover == self.mover {
                self.finish_move(key, found).await?;
            } else if over {
                (moving.mover, moving.since_ms) = (self.mover, self.env.now_ms());
                self.entries.replace(key, &found.entry, found.version).await?;
            } else {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(WAIT_MAX);
            }
        }
    }

    /// Takes the right to move a key's object, if the entry is still as it was found.
    async fn claim(&self, key: &str, found: &Found, to: &str) -> Result<Option<Found>> {
        let moving = Moving {
            to: to.to_owned(),
            mover: self.mover,
            since_ms: self.env.now_ms(),
            copied: None,
        };
        // A move changes no version, so copies stay what they are, but for one at the new place.
        let mut copies = found.entry.copies.clone();
        copies.writing = None;
        copies.forget(to);
        let entry = Entry { at: found.entry.at.clone(), moving: Some(moving), copies };
        let version = self.entries.replace(key, &entry, found.version).await?;
        Ok(version.map(|version| Found { entry, version: Some(version) }))
    }

    /// Moves a key's object, which need not be there, from where it was found.
    pub(super) async fn begin_move(&self, key: &str, found: &Found, to: &str) -> Result<Found> {
        self.backend(to)?;
        if !self.record.read().used.contains(to) {
            let record = self.entries.use_backend(to).await?;
            *self.record.write() = record;
        }
        match self.claim(key, found, to).await? {
            Some(claimed) => self.finish_move(key, claimed).await,
            None => Err(self.restless()),
        }
    }

    /// Removes what a write left at a place that the object had been moved from; false when it is
    /// not there.
    pub(super) async fn drop_stray(
        &self,
        key: &str,
        now: &Found,
        name: &str,
        version: Version,
    ) -> Result<bool> {
        // Moves wait meanwhile, so that this cannot meet the object itself.
        let Some(claimed) = self.claim(key, now, &now.entry.at).await? else {
            return Err(self.restless().with_retry(Retry::Ambiguous));
        };
        let removed = self.backend(name)?.remove(key, Condition::IfMatch(version)).await;
        self.release(key, claimed, None).await?;
        match removed {
            Ok(there) => Ok(there),
            Err(StorageError::PreconditionFailed(_)) => Ok(false),
            Err(error) => Err(error.with_retry(Retry::Ambiguous).with_backend(name)),
        }
    }

    /// Ends a move: the object is at the new place, or where it was.
    async fn release(&self, key: &str, claimed: Found, at: Option<String>) -> Result<Found> {
        let Entry { at: before, copies, .. } = claimed.entry;
        let entry = Entry { at: at.unwrap_or(before), moving: None, copies };
        match self.entries.replace(key, &entry, claimed.version).await? {
            Some(version) => Ok(Found { entry, version: Some(version) }),
            None => Err(self.restless()),
        }
    }

    /// Ends a move of this process.
    async fn finish_move(&self, key: &str, mut found: Found) -> Result<Found> {
        let Some(moving) = &found.entry.moving else { return Ok(found) };
        let to = moving.to.clone();
        if to == found.entry.at {
            return self.release(key, found, None).await;
        }
        match self.copy(key, &mut found, &to).await {
            Ok(()) => self.release(key, found, Some(to)).await,
            // Who ends the move will see where the object is.
            Err(error) if error.retry() == Retry::Ambiguous => {
                Err(error.with_retry(Retry::Temporary))
            }
            Err(error) => {
                // The object is where it was.
                self.release(key, found, None).await?;
                Err(error)
            }
        }
    }

    /// Copies an object under its version and removes it from where it was; if it is written
    /// meanwhile, again.
    async fn copy(&self, key: &str, found: &mut Found, to: &str) -> Result<()> {
        let from = found.entry.at.clone();
        let (source, target) = (self.backend(&from)?, self.backend(to)?);
        for _ in 0..COPY_ATTEMPTS {
            let copied = found.entry.moving.as_ref().and_then(|moving| moving.copied);
            let read = source.read(key, ReadOptions::default()).await;
            // Where the copy may be all that there is, the old place is not gone back to.
            let unknown = |error: StorageError| match copied {
                Some(_) => error.with_retry(Retry::Ambiguous),
                None => error,
            };
            let read = read.map_err(|error| unknown(error.with_backend(&from)));
            let Some(object) = read? else {
                if copied.is_none() {
                    self.clear(key, to, None).await?;
                }
                return Ok(());
            };
            let version = object.head.version;
            if copied != Some(version.as_u64()) {
                // What lies there is not the object: an older copy, or a write that came too late.
                self.clear(key, to, Some(version)).await?;
                let options = StorageOptions {
                    expires_at_ms: object.head.expires_at_ms,
                    metadata: object.head.metadata,
                    version: Some(version),
                    ..StorageOptions::default()
                };
                match target.put(key, object.value, options).await {
                    Ok(_) => {}
                    Err(StorageError::Conflict(_)) => continue,
                    Err(error) => return Err(error.with_backend(to)),
                }
                if let Some(moving) = &mut found.entry.moving {
                    moving.copied = Some(version.as_u64());
                }
                let noted = self.entries.replace(key, &found.entry, found.version).await?;
                let Some(noted) = noted else {
                    return Err(self.restless().with_retry(Retry::Ambiguous));
                };
                found.version = Some(noted);
            }
            match source.remove(key, Condition::IfMatch(version)).await {
                Ok(_) => return Ok(()),
                Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error.with_backend(&from)),
            }
        }
        Err(self.restless().with_retry(Retry::Ambiguous))
    }

    /// Removes what lies at the new place of a move, if it is not older than what comes.
    pub(super) async fn clear(&self, key: &str, to: &str, comes: Option<Version>) -> Result<()> {
        let target = self.backend(to)?;
        loop {
            let head = target.head(key).await.map_err(|error| error.with_backend(to))?;
            let Some(head) = head.filter(|head| comes.is_none_or(|comes| head.version >= comes))
            else {
                return Ok(());
            };
            match target.remove(key, Condition::IfMatch(head.version)).await {
                Ok(_) => return Ok(()),
                Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error.with_backend(to)),
            }
        }
    }
}

//! Copies of objects on mirrors: written with the object, read where its backend does not answer.
//!
//! A write to an object that has copies, or is to have some, says so in the entry first; from then
//! on no copy counts. It writes the object, then the copies under the same version, and says in the
//! entry which of them hold it. If the entry changed in between, nothing is said. So an entry that
//! gives a copy a version was true of the object when it was written, and of every later time at
//! which it is read: whoever changes the object changes the entry before.
//!
//! One process at a time writes to such an object. A write that was given up is taken over like a
//! move: at once by the process whose write it was, else when its lease is over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::backend::{Found, PlacedBackend};
use super::entry::{Copies, Entry, Writing};
use super::replicas::is_of_backend;
use crate::backend::{Object, ObjectHead, StorageBackend};
use crate::error::{Result, Retry, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Time for which what is told once is not told again, in milliseconds.
const NEWS_MS: u64 = 10_000;

/// Times that a removal begins again because the object was written meanwhile.
const ATTEMPTS: usize = 32;

/// What a backend answers that has a version.
pub(super) trait Versioned {
    fn version(&self) -> Version;
}

impl Versioned for Object {
    fn version(&self) -> Version {
        self.head.version
    }
}

impl Versioned for ObjectHead {
    fn version(&self) -> Version {
        self.version
    }
}

impl PlacedBackend {
    /// Says that a write to an object with copies begins, which is to have copies on these backends;
    /// `None` when another process was quicker.
    pub(super) async fn begin_write(
        &self,
        key: &str,
        found: &Found,
        mirrors: &[String],
    ) -> Result<Option<Found>> {
        if mirrors.iter().any(|name| !self.record.read().mirrors.contains(name)) {
            let record = self.entries.use_mirrors(mirrors).await?;
            *self.record.write() = record;
        }
        let before = &found.entry.copies;
        let wanted = |name: &&String| !mirrors.contains(name);
        let copies = Copies {
            on: mirrors.iter().map(|name| (name.clone(), None)).collect(),
            left: before.on.keys().chain(&before.left).filter(wanted).cloned().collect(),
            writing: Some(Writing { writer: self.mover, since_ms: self.env.now_ms() }),
            ..Copies::default()
        };
        let entry = Entry { copies, ..found.entry.clone() };
        let version = self.entries.replace(key, &entry, found.version).await?;
        Ok(version.map(|version| Found { entry, version: Some(version) }))
    }

    /// Ends a write that failed: where it had no effect, copies count as they did before.
    pub(super) async fn abandon_write(
        &self,
        key: &str,
        begun: &Found,
        before: &mut Found,
        error: &StorageError,
    ) {
        // One that may still take effect keeps its lease.
        if error.retry() != Retry::Ambiguous {
            let entry = self.entry_before(before);
            if let Ok(Some(version)) = self.entries.replace(key, &entry, begun.version).await {
                (before.entry, before.version) = (entry, Some(version));
                return;
            }
        }
        self.note(key);
    }

    /// Brings the copies to what a write has stored, and says so in the entry; false when the entry
    /// was changed by others meanwhile.
    pub(super) async fn end_write(
        &self,
        key: &str,
        begun: Found,
        value: &Bytes,
        options: &StorageOptions,
        version: Version,
    ) -> Result<bool> {
        let mut copies = begun.entry.copies.clone();
        let exactly = StorageOptions {
            version: Some(version),
            condition: Condition::Always,
            ..options.clone()
        };
        let puts = copies.on.keys().map(|name| self.put_copy(key, name, value, &exactly));
        let put = together(puts).await;
        for ((name, held), result) in copies.on.iter_mut().zip(put) {
            match result {
                Ok(()) => *held = Some(version.as_u64()),
                Err(error) => self.fell_behind(name, &error),
            }
        }
        self.remove_left_now(key, &mut copies).await;
        self.say(key, begun, copies).await
    }

    /// Removes an object that has copies, and them; `None` when it must be tried again.
    pub(super) async fn erase_copied(
        &self,
        key: &str,
        mut found: Found,
        condition: Condition,
        removed: &mut bool,
    ) -> Result<Option<bool>> {
        let writing = self.mender.while_writing(key, &*self.env);
        let Some(begun) = self.begin_write(key, &found, &[]).await? else { return Ok(None) };
        let name = &found.entry.at;
        let result = self.remove_exactly(key, name, condition).await;
        let mut copies = begun.entry.copies.clone();
        match result {
            Ok(there) => *removed |= there,
            // The object was written after it was removed here, and its copies may have been.
            Err(StorageError::PreconditionFailed(_)) if *removed => {
                (copies.on, copies.left) =
                    (found.entry.copies.on.clone(), found.entry.copies.left.clone());
                copies.distrust();
                let said = self.say(key, begun, copies).await?;
                writing.ended();
                return Ok(said.then_some(true));
            }
            Err(error) => {
                let name = name.clone();
                self.abandon_write(key, &begun, &mut found, &error).await;
                writing.ended();
                return Err(error.with_backend(name));
            }
        }
        self.remove_left_now(key, &mut copies).await;
        let said = self.say(key, begun, copies).await;
        writing.ended();
        let said = said.map_err(|error| error.with_retry(Retry::Ambiguous))?;
        Ok(said.then_some(*removed))
    }

    /// No copy of an object counts any more but of this version, which a write left that had not
    /// said so before.
    pub(super) async fn distrust(&self, key: &str, now: Found, version: Version) -> Result<()> {
        let mut now = now;
        for _ in 0..ATTEMPTS {
            let held = now.entry.copies.on.values().flatten();
            if held.copied().all(|held| held == version.as_u64()) {
                return Ok(());
            }
            let mut copies = now.entry.copies.clone();
            copies.distrust();
            if self.say(key, now, copies).await? {
                return Ok(());
            }
            now = self.settled(key).await?;
        }
        Err(self.restless())
    }

    /// Asks the copies that hold what was last acknowledged, where the object's backend fails.
    pub(super) async fn read_copy<T, F>(
        &self,
        key: &str,
        found: &Found,
        error: &StorageError,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Option<Result<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        let copies = &found.entry.copies;
        if copies.is_empty() || !is_of_backend(error) {
            return None;
        }
        for (name, version) in &copies.on {
            let (Some(version), Ok(backend)) = (version, self.backend(name)) else { continue };
            let is_it = |found: Version| found.as_u64() == *version;
            let answer = match read(Arc::clone(backend)).await {
                Ok(Some(answer)) if is_it(answer.version()) => Ok(answer),
                // The condition was not about another version than the object's.
                Err(refused @ StorageError::PreconditionFailed(_)) => {
                    match backend.head(key).await {
                        Ok(Some(head)) if is_it(head.version) => Err(refused.with_backend(name)),
                        _ => continue,
                    }
                }
                _ => continue,
            };
            tracing::debug!(%error, backend = %name, "a copy is read");
            self.figures.served();
            return Some(answer);
        }
        self.figures.not_served();
        None
    }

    /// Writes a copy, which others than the one that writes the object do not.
    pub(super) async fn put_copy(
        &self,
        key: &str,
        name: &str,
        value: &Bytes,
        options: &StorageOptions,
    ) -> Result<()> {
        let backend = self.backend(name)?;
        match backend.put(key, value.clone(), options.clone()).await {
            Ok(_) => {}
            Err(StorageError::Conflict(error)) => {
                // An attempt of this write may have come through before.
                let head = backend.head(key).await?;
                if head.map(|head| head.version) != options.version {
                    return Err(StorageError::Conflict(error));
                }
            }
            Err(error) => return Err(error),
        }
        self.figures.mirrored();
        Ok(())
    }

    /// Removes copies that are wanted no more, forgets those that are gone, and gives the errors of
    /// the others.
    pub(super) async fn remove_left(
        &self,
        key: &str,
        copies: &mut Copies,
    ) -> Vec<(String, StorageError)> {
        let names: Vec<String> = copies.left.iter().cloned().collect();
        let removals = names.iter().map(|name| self.clear(key, name, None));
        let results = together(removals).await;
        let mut failed = Vec::new();
        for (name, result) in names.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.figures.mirrored();
                    copies.left.remove(&name);
                }
                Err(error) => failed.push((name, error)),
            }
        }
        failed
    }

    pub(super) async fn remove_left_now(&self, key: &str, copies: &mut Copies) {
        for (name, error) in self.remove_left(key, copies).await {
            self.fell_behind(&name, &error);
        }
    }

    pub(super) fn fell_behind(&self, name: &str, error: &StorageError) {
        self.figures.fell_behind();
        match self.is_news(&self.told_behind_ms) {
            true => tracing::warn!(%error, backend = name, "a copy is left behind"),
            false => tracing::debug!(%error, backend = name, "a copy is left behind"),
        }
    }

    /// Whether what happens to many objects at once, while a backend is away, has not been told for
    /// a while.
    pub(super) fn is_news(&self, told_ms: &AtomicU64) -> bool {
        let now_ms = u64::try_from(self.env.monotonic().as_millis()).unwrap_or(u64::MAX);
        let told = told_ms.load(Ordering::Relaxed);
        (told == 0 || now_ms.saturating_sub(told) >= NEWS_MS)
            && told_ms
                .compare_exchange(told, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Says in the entry what the copies are, and that no write to them goes on; false when the
    /// entry was changed by others meanwhile.
    pub(super) async fn say(&self, key: &str, held: Found, copies: Copies) -> Result<bool> {
        let at = held.entry.at.clone();
        self.conclude(key, held, &at, copies).await
    }

    /// Says the same and that the object lies on this backend, and notes what is not as it is to be.
    pub(super) async fn conclude(
        &self,
        key: &str,
        held: Found,
        at: &str,
        copies: Copies,
    ) -> Result<bool> {
        let said = self.say_at(key, held, at, copies).await;
        if !matches!(said, Ok(Some(true))) {
            self.note(key);
        }
        Ok(said?.is_some())
    }

    /// Says where an object lies and what its copies are, and tells whether all is as it is to be;
    /// `None` when the entry was changed by others meanwhile.
    pub(super) async fn say_at(
        &self,
        key: &str,
        held: Found,
        at: &str,
        mut copies: Copies,
    ) -> Result<Option<bool>> {
        copies.writing = None;
        let entry = Entry { at: at.to_owned(), copies, ..held.entry.clone() };
        let level = !self.is_behind(&entry);
        // Where the object stays, an entry that says that it is being written leads to it, too, and
        // is ended by the mender.
        let is_written = held.entry.copies.writing.is_some();
        let said = match entry.at == held.entry.at && is_written {
            true => self.entries.replace_soon(key, &entry, held.version).await?,
            false => self.entries.replace(key, &entry, held.version).await?,
        };
        Ok(said.map(|_| level))
    }

    /// Removes the object of a version that was looked at, so that a removal that comes late takes
    /// no newer one along, and says whether one was there.
    async fn remove_exactly(&self, key: &str, name: &str, condition: Condition) -> Result<bool> {
        let backend = self.backend(name)?;
        if let Condition::IfMatch(_) = condition {
            return backend.remove(key, condition).await;
        }
        for _ in 0..ATTEMPTS {
            let version = backend.head(key).await?.map(|head| head.version);
            condition.require(version)?;
            let Some(version) = version else { return Ok(false) };
            match backend.remove(key, Condition::IfMatch(version)).await {
                Err(StorageError::PreconditionFailed(_)) => {}
                result => return result,
            }
        }
        Err(self.restless())
    }
}

/// Waits for some futures at once, and gives their answers in order.
pub(crate) async fn together<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    type Slot<T, F> = (Pin<Box<F>>, Option<T>);
    let mut slots: Vec<Slot<T, _>> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut done = true;
        for (future, answer) in slots.iter_mut().filter(|(_, answer)| answer.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(value) => *answer = Some(value),
                std::task::Poll::Pending => done = false,
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    slots.into_iter().filter_map(|(_, answer)| answer).collect()
}

//! Making copies level that a write, a removal or the end of a process left behind.

mod notes;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

pub use notes::Behind;
pub(super) use notes::Mender;

use super::MOVE_LEASE_MS;
use super::backend::{Found, PlacedBackend};
use super::copies::together;
use super::entry::{Copies, Entry, Writing};
use crate::backend::{ListOptions, Object, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::limits::LIST_LIMIT_MAX;
use crate::options::{Condition, StorageOptions};

/// Objects that are mended at the same time.
const AT_ONCE: usize = 16;

/// Failures after which the rest waits for better times.
const FAILURES_MAX: usize = 64;

/// Times that an object is tried again because it was written meanwhile.
const ATTEMPTS: usize = 8;

/// Time for which keys are gathered before they are mended.
const BATCH: Duration = Duration::from_millis(20);

/// First wait before what failed is tried again; it doubles.
const WAIT: Duration = Duration::from_millis(500);

/// Longest such wait.
const WAIT_MAX: Duration = Duration::from_millis(MOVE_LEASE_MS);

/// Longest such wait where objects are replicated, so that a replica that is back is soon level.
const WAIT_MAX_REPLICATED: Duration = Duration::from_secs(2);

impl PlacedBackend {
    /// Makes the copies of an object what its entry wants them to be, and says whether they are. An
    /// object that is being written or moved is left alone.
    ///
    /// # Errors
    /// Those of the backends; then the entry still says which copies are behind.
    pub async fn mend(&self, key: &str) -> Result<bool> {
        check_key(key)?;
        let _turn = self.turn(key).await;
        let suspect = self.mender.clear_suspicion(key);
        let mended = self.mend_in_turn(key, suspect).await;
        if !matches!(mended, Ok(true)) {
            self.mender.remember(key, suspect, self.env.monotonic());
        }
        mended
    }

    async fn mend_in_turn(&self, key: &str, suspect: bool) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let found = self.find(key).await?;
            let copies = &found.entry.copies;
            let writing = copies.writing.as_ref();
            if found.entry.moving.is_some()
                || writing.is_some_and(|writing| !self.is_over(writing.since_ms))
            {
                return Ok(false);
            }
            if !self.is_behind(&found.entry) && !suspect {
                return Ok(true);
            }
            if !suspect && let Some(entry) = self.have_come(key, &found.entry).await {
                let said = self.entries.replace_soon(key, &entry, found.version).await?;
                if said.is_some() && !self.is_behind(&entry) {
                    return Ok(true);
                }
                continue;
            }
            // Nobody writes to the object meanwhile, so copies that count go on to.
            let writing = Some(Writing { writer: self.mover, since_ms: self.env.now_ms() });
            let copies = Copies { writing, ..copies.clone() };
            let entry = Entry { copies, ..found.entry.clone() };
            if let Some(version) = self.entries.replace(key, &entry, found.version).await? {
                let begun = Found { entry, version: Some(version) };
                if let Some(level) = self.mend_once(key, begun, &found).await? {
                    return Ok(level);
                }
            }
        }
        Err(self.restless())
    }

    /// The entry with those copies that were written, but not waited for, and have come since;
    /// `None` when there are none. Whoever changes them changes the entry first.
    async fn have_come(&self, key: &str, entry: &Entry) -> Option<Entry> {
        let version = entry.copies.version().filter(|_| entry.copies.writing.is_none())?;
        let mut entry = entry.clone();
        let missing = entry.copies.on.iter_mut().filter(|(_, held)| held.is_none());
        let mut come = false;
        for (name, held) in missing {
            let head = self.backend(name).ok()?.head(key).await;
            if let Ok(Some(head)) = head
                && head.version == version
            {
                *held = Some(version.as_u64());
                come = true;
            }
        }
        come.then_some(entry)
    }

    /// One look at the object and its copies; `None` when the entry was changed by others meanwhile.
    async fn mend_once(&self, key: &str, begun: Found, before: &Found) -> Result<Option<bool>> {
        let (at, object) = match self.object_of(key, before).await {
            Ok(object) => object,
            Err(error) => {
                // As nothing was done; if that fails, the lease ends it.
                let entry = self.entry_before(before);
                let _ = self.entries.replace(key, &entry, begun.version).await;
                return Err(error);
            }
        };
        let mut copies = begun.entry.copies.clone();
        if at != begun.entry.at {
            self.failed_over(key, &begun.entry.at, &at);
            copies.on.remove(&at);
            copies.on.insert(begun.entry.at.clone(), None);
        }
        if let Some(replication) = self.replication.as_ref().filter(|_| object.is_some()) {
            for name in replication.replicas.iter().filter(|name| **name != at) {
                copies.on.entry(name.clone()).or_insert(None);
                copies.left.remove(name);
            }
        }
        let mut failure = None;
        match &object {
            None => {
                copies.left.extend(std::mem::take(&mut copies.on).into_keys());
                copies.absent |= self.replication.is_some();
            }
            Some(object) => {
                let names: Vec<String> = copies.on.keys().cloned().collect();
                let levelled = names.iter().map(|name| self.level(key, name, object));
                for (name, result) in names.iter().zip(together(levelled).await) {
                    let version = object.head.version.as_u64();
                    copies.on.insert(name.clone(), result.is_ok().then_some(version));
                    failure = result.err().map(|error| error.with_backend(name)).or(failure);
                }
                copies.expires_at_ms =
                    object.head.expires_at_ms.filter(|_| self.replication.is_some());
            }
        }
        for (name, error) in self.remove_left(key, &mut copies).await {
            failure = failure.or(self.backends.contains_key(&name).then_some(error));
        }
        copies.writing = None;
        let at = self.give_back(at, &mut copies, object.as_ref());
        let Some(level) = self.say_at(key, begun, &at, copies).await? else { return Ok(None) };
        match failure {
            Some(error) => Err(error),
            None => Ok(Some(level)),
        }
    }

    /// The object by its entry before, and where it is.
    async fn object_of(&self, key: &str, before: &Found) -> Result<(String, Option<Object>)> {
        let at = &before.entry.at;
        let read = |backend: Arc<dyn StorageBackend>| async move {
            backend.read(key, ReadOptions::default()).await
        };
        if self.replication.is_none() {
            let object = read(Arc::clone(self.backend(at)?)).await;
            return Ok((at.clone(), object.map_err(|error| error.with_backend(at))?));
        }
        if before.entry.copies.absent {
            return Ok((at.clone(), None));
        }
        let Some((name, object)) = self.newest_for_sure(key, before, &read).await? else {
            return Ok((at.clone(), None));
        };
        if name != *at
            && let Err(StorageError::Corrupt(_)) = read(Arc::clone(self.backend(at)?)).await
        {
            // What is damaged would be taken for the object by its version.
            self.backend(at)?.remove(key, Condition::Always).await?;
        }
        Ok((name, Some(object)))
    }

    /// Lets an object lie on its first replica, where that has it.
    fn give_back(&self, at: String, copies: &mut Copies, object: Option<&Object>) -> String {
        let Some(replication) = &self.replication else { return at };
        let preferred = replication.preferred();
        let has_it = match object {
            None => !copies.left.contains(preferred),
            Some(object) => copies.on.get(preferred) == Some(&Some(object.head.version.as_u64())),
        };
        if at == preferred || !has_it {
            return at;
        }
        if let Some(object) = object {
            copies.on.remove(preferred);
            copies.on.insert(at, Some(object.head.version.as_u64()));
        }
        self.figures.returned();
        preferred.to_owned()
    }

    /// Whether there is something to be done about an object's copies. Nothing can be about those on
    /// backends that are not there now.
    pub(super) fn is_behind(&self, entry: &Entry) -> bool {
        let copies = &entry.copies;
        let is_here = |name: &&String| self.backends.contains_key(*name);
        let behind = copies.on.iter().filter(|(_, version)| version.is_none());
        let mut behind = behind.map(|(name, _)| name).chain(&copies.left);
        let strays = self
            .replication
            .as_ref()
            .is_some_and(|replication| entry.at != replication.preferred() && !copies.is_empty());
        copies.writing.is_some() || strays || behind.any(|name| is_here(&name))
    }

    /// Makes a copy what the object is.
    async fn level(&self, key: &str, name: &str, object: &Object) -> Result<()> {
        let backend = self.backend(name)?;
        let head = &object.head;
        for _ in 0..ATTEMPTS {
            let held = backend.head(key).await?.map(|held| held.version);
            if held == Some(head.version) {
                return Ok(());
            }
            if let Some(newer) = held.filter(|held| *held > head.version) {
                // It was never acknowledged, or its object is gone.
                match backend.remove(key, Condition::IfMatch(newer)).await {
                    Ok(_) | Err(StorageError::PreconditionFailed(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let options = StorageOptions {
                expires_at_ms: head.expires_at_ms,
                metadata: head.metadata.clone(),
                version: Some(head.version),
                ..StorageOptions::default()
            };
            match backend.put(key, object.value.clone(), options).await {
                Ok(_) => return Ok(()),
                Err(StorageError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.restless())
    }

    /// Mends every object whose entry says that a copy is behind, and says how many are not level
    /// yet.
    ///
    /// # Errors
    /// Those of the catalog. What a backend refuses is left for another time.
    pub async fn mend_all(&self) -> Result<u64> {
        let (mut behind, mut start_after) = (0, None);
        loop {
            let options =
                ListOptions { start_after, limit: LIST_LIMIT_MAX, ..ListOptions::default() };
            let page = self.entries.keys(options).await?;
            for entry in page.entries {
                if self.is_behind(&self.find(&entry.key).await?.entry)
                    && !self.try_mend(&entry.key).await
                {
                    behind += 1;
                }
            }
            match page.next {
                Some(next) => start_after = Some(next),
                None => return Ok(behind),
            }
        }
    }

    /// Mends some objects until too many have failed, and says how many were tried.
    async fn mend_some(&self, keys: &[(String, u64)], failures_max: usize) -> usize {
        let (mut failures, mut tried) = (0, 0);
        for some in keys.chunks(AT_ONCE) {
            let mended = together(some.iter().map(|(key, _)| self.try_mend(key))).await;
            tried += some.len();
            for ((key, number), mended) in some.iter().zip(mended) {
                match mended {
                    true => self.mender.done(key, *number),
                    false => failures += 1,
                }
            }
            if failures >= failures_max {
                break;
            }
        }
        tried
    }

    async fn try_mend(&self, key: &str) -> bool {
        match self.mend(key).await {
            Ok(level) => {
                if level {
                    self.figures.mended();
                }
                level
            }
            Err(error) => {
                self.figures.mend_failed();
                tracing::debug!(%error, "copies stay behind");
                false
            }
        }
    }

    /// Mends what is left behind from now on, and what was before, by a task that ends with this
    /// backend. Does nothing outside of a tokio runtime.
    pub fn keep_mended(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.record.read().mirrors.is_empty() {
            self.mender.note_all(self.env.monotonic());
        }
        let (placed, mender) = (Arc::downgrade(self), Arc::clone(&self.mender));
        runtime.spawn(keep_mended(placed, mender));
    }
}

async fn keep_mended(placed: Weak<PlacedBackend>, mender: Arc<Mender>) {
    let mut wait = WAIT;
    let mut again: Option<Pin<Box<tokio::time::Sleep>>> = None;
    // Those after the one at which the last round was given up have their turn first.
    let mut last = String::new();
    loop {
        let is_time = match &mut again {
            None => {
                mender.wake.notified().await;
                false
            }
            Some(again) => {
                let mut woken = std::pin::pin!(mender.wake.notified());
                std::future::poll_fn(|cx| match again.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(true),
                    Poll::Pending => woken.as_mut().poll(cx).map(|()| false),
                })
                .await
            }
        };
        // Copies that were not waited for come meanwhile, and what is written again is noted once.
        tokio::time::sleep(BATCH).await;
        let Some(now) = placed.upgrade() else { return };
        if (is_time || again.is_none())
            && let Some(since) = mender.take_all()
            && now.mend_all().await.is_err()
        {
            mender.note_all(since);
        }
        // What is new is tried at once, however much has failed before.
        now.mend_some(&mender.take_fresh(), usize::MAX).await;
        if is_time {
            let failed = mender.failed_after(&last);
            let tried = now.mend_some(&failed, FAILURES_MAX).await;
            last = failed.into_iter().take(tried).next_back().map_or(last, |(key, _)| key);
        }
        let longest = match now.replication.is_some() {
            true => WAIT_MAX_REPLICATED,
            false => WAIT_MAX,
        };
        drop(now);
        if !mender.has_failed() {
            (wait, again) = (WAIT, None);
        } else if is_time || again.is_none() {
            wait = wait.saturating_mul(2).min(longest);
            again = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl Drop for PlacedBackend {
    /// The task that mends ends.
    fn drop(&mut self) {
        self.mender.wake.notify_one();
    }
}

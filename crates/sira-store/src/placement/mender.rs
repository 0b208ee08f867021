//! Making copies level that a write, a removal or the end of a process left behind.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::MOVE_LEASE_MS;
use super::backend::{Found, PlacedBackend};
use super::copies::together;
use super::entry::{Copies, Entry, Writing};
use crate::backend::{ListOptions, Object, ReadOptions};
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::limits::LIST_LIMIT_MAX;
use crate::options::{Condition, StorageOptions};

/// Keys that are remembered; with more, all entries are looked through.
const KEYS_MAX: usize = 10_000;

/// Times that an object is tried again because it was written meanwhile.
const ATTEMPTS: usize = 8;

/// First wait before what failed is tried again; it doubles.
const WAIT: Duration = Duration::from_millis(500);

/// Longest such wait.
const WAIT_MAX: Duration = Duration::from_millis(MOVE_LEASE_MS);

/// Keys whose copies may be behind.
#[derive(Debug, Default)]
pub(super) struct Mender {
    noted: Mutex<Noted>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    keys: BTreeSet<String>,
    /// Nobody knows which keys.
    all: bool,
}

impl Mender {
    /// Remembers a key.
    pub(super) fn note(&self, key: &str) {
        let mut noted = self.noted.lock();
        if noted.keys.len() < KEYS_MAX {
            noted.keys.insert(key.to_owned());
        } else {
            noted.all = true;
        }
        drop(noted);
        self.wake.notify_one();
    }

    /// Remembers a key, should the caller leave before it says that its write has ended.
    pub(super) fn while_writing<'a>(&'a self, key: &'a str) -> WhileWriting<'a> {
        WhileWriting { mender: self, key: Some(key) }
    }

    fn note_all(&self) {
        self.noted.lock().all = true;
        self.wake.notify_one();
    }

    fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted.lock())
    }
}

/// A write whose caller may leave.
pub(super) struct WhileWriting<'a> {
    mender: &'a Mender,
    key: Option<&'a str>,
}

impl WhileWriting<'_> {
    /// The write has ended, and its entry says what became of the copies.
    pub(super) fn ended(mut self) {
        self.key = None;
    }
}

impl Drop for WhileWriting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.mender.note(key);
        }
    }
}

impl PlacedBackend {
    /// Makes the copies of an object what its entry wants them to be, and says whether they are. An
    /// object that is being written or moved is left alone.
    ///
    /// # Errors
    /// Those of the backends; then the entry still says which copies are behind.
    pub async fn mend(&self, key: &str) -> Result<bool> {
        check_key(key)?;
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS {
            let found = self.find(key).await?;
            let copies = &found.entry.copies;
            let writing = copies.writing.as_ref();
            if found.entry.moving.is_some()
                || writing.is_some_and(|writing| !self.is_over(writing.since_ms))
            {
                return Ok(false);
            }
            if !self.is_behind(copies) {
                return Ok(true);
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

    /// One look at the object and its copies; `None` when the entry was changed by others meanwhile.
    async fn mend_once(&self, key: &str, begun: Found, before: &Found) -> Result<Option<bool>> {
        let at = &begun.entry.at;
        let object = match self.backend(at)?.read(key, ReadOptions::default()).await {
            Ok(object) => object,
            Err(error) => {
                // As nothing was done; if that fails, the lease ends it.
                let _ = self.entries.replace(key, &before.entry, begun.version).await;
                return Err(error.with_backend(at));
            }
        };
        let mut copies = begun.entry.copies.clone();
        let mut failure = None;
        match &object {
            None => copies.left.extend(std::mem::take(&mut copies.on).into_keys()),
            Some(object) => {
                let names: Vec<String> = copies.on.keys().cloned().collect();
                let levelled = names.iter().map(|name| self.level(key, name, object));
                for (name, result) in names.iter().zip(together(levelled).await) {
                    let version = object.head.version.as_u64();
                    copies.on.insert(name.clone(), result.is_ok().then_some(version));
                    failure = result.err().map(|error| error.with_backend(name)).or(failure);
                }
            }
        }
        for (name, error) in self.remove_left(key, &mut copies).await {
            failure = failure.or(self.backends.contains_key(&name).then_some(error));
        }
        copies.writing = None;
        let level = !self.is_behind(&copies);
        if !self.say(key, begun, copies).await? {
            return Ok(None);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Some(level)),
        }
    }

    /// Whether there is something to be done about copies. Nothing can be about those on backends
    /// that are not there now.
    fn is_behind(&self, copies: &Copies) -> bool {
        let is_here = |name: &&String| self.backends.contains_key(*name);
        let behind = copies.on.iter().filter(|(_, version)| version.is_none());
        let mut behind = behind.map(|(name, _)| name).chain(&copies.left);
        copies.writing.is_some() || behind.any(|name| is_here(&name))
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
                if self.is_behind(&self.find(&entry.key).await?.entry.copies)
                    && !self.try_mend(&entry.key).await
                {
                    behind += 1;
                    self.mender.note(&entry.key);
                }
            }
            match page.next {
                Some(next) => start_after = Some(next),
                None => return Ok(behind),
            }
        }
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
            self.mender.note_all();
        }
        let (placed, mender) = (Arc::downgrade(self), Arc::clone(&self.mender));
        runtime.spawn(keep_mended(placed, mender));
    }
}

async fn keep_mended(placed: Weak<PlacedBackend>, mender: Arc<Mender>) {
    let mut wait = WAIT;
    loop {
        mender.wake.notified().await;
        let Some(now) = placed.upgrade() else { return };
        let noted = mender.take();
        let mut failed = false;
        if noted.all && now.mend_all().await.is_err() {
            mender.note_all();
            failed = true;
        }
        for key in &noted.keys {
            if !now.try_mend(key).await {
                mender.note(key);
                failed = true;
            }
        }
        failed |= !mender.noted.lock().keys.is_empty();
        drop(now);
        // What failed woke this task, which is to wait for better times.
        wait = if failed { wait.saturating_mul(2).min(WAIT_MAX) } else { WAIT };
        if failed {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Drop for PlacedBackend {
    /// The task that mends ends.
    fn drop(&mut self) {
        self.mender.wake.notify_one();
    }
}

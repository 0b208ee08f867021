//! Which objects have copies that may be behind, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::env::Env;

/// Keys that are remembered; with more, all entries are looked through.
const KEYS_MAX: usize = 100_000;

/// Keys whose copies may be behind.
#[derive(Debug, Default)]
pub(in crate::placement) struct Mender {
    noted: Mutex<Noted>,
    /// Told when a key is noted.
    pub(in crate::placement) wake: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    keys: BTreeMap<String, Note>,
    /// Those of them that were not tried since they were noted.
    fresh: BTreeSet<String>,
    /// Those of them whose object may be damaged, whatever the entry says.
    suspects: BTreeSet<String>,
    /// Notes so far.
    count: u64,
    /// Since when nobody knows which keys.
    all: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    /// By the monotonic clock.
    since: Duration,
    /// Of the last time that the key was noted.
    number: u64,
}

/// Objects whose copies are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// How many are known.
    pub objects: u64,
    /// Whether there may be others.
    pub more: bool,
    /// For how long the first of them has been.
    pub lag: Duration,
}

impl Mender {
    /// Remembers a key.
    pub(in crate::placement) fn note(&self, key: &str, now: Duration) {
        let mut noted = self.noted.lock();
        noted.add(key, now);
        noted.fresh.insert(key.to_owned());
        drop(noted);
        self.wake.notify_one();
    }

    /// Remembers a key that was tried in vain, and is to wait for better times.
    pub(super) fn remember(&self, key: &str, suspect: bool, now: Duration) {
        let mut noted = self.noted.lock();
        noted.add(key, now);
        if suspect {
            noted.suspects.insert(key.to_owned());
        }
        drop(noted);
        self.wake.notify_one();
    }

    /// Remembers a key whose object is to be looked at, whatever its entry says.
    pub(in crate::placement) fn suspect(&self, key: &str, now: Duration) {
        self.noted.lock().suspects.insert(key.to_owned());
        self.note(key, now);
    }

    /// Whether an object is to be looked at whatever its entry says; from now on it is not.
    pub(super) fn clear_suspicion(&self, key: &str) -> bool {
        self.noted.lock().suspects.remove(key)
    }

    /// Remembers a key, should the caller leave before it says that its write has ended.
    pub(in crate::placement) fn while_writing<'a>(
        &'a self,
        key: &'a str,
        env: &'a dyn Env,
    ) -> WhileWriting<'a> {
        WhileWriting { mender: self, env, key: Some(key) }
    }

    pub(super) fn note_all(&self, now: Duration) {
        self.noted.lock().all.get_or_insert(now);
        self.wake.notify_one();
    }

    pub(super) fn take_all(&self) -> Option<Duration> {
        self.noted.lock().all.take()
    }

    /// What was not tried since it was noted.
    pub(super) fn take_fresh(&self) -> Vec<(String, u64)> {
        let mut noted = self.noted.lock();
        let fresh = std::mem::take(&mut noted.fresh);
        fresh
            .into_iter()
            .filter_map(|key| noted.keys.get(&key).map(|note| (key, note.number)))
            .collect()
    }

    /// What failed before, in turn after this key.
    pub(super) fn failed_after(&self, last: &str) -> Vec<(String, u64)> {
        let noted = self.noted.lock();
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let until = (Bound::Unbounded, Bound::Included(last));
        let next = noted.keys.range::<str, _>(after).chain(noted.keys.range::<str, _>(until));
        next.map(|(key, note)| (key.clone(), note.number)).collect()
    }

    /// Forgets a key that is level, unless it was noted again meanwhile.
    pub(super) fn done(&self, key: &str, number: u64) {
        let mut noted = self.noted.lock();
        if noted.keys.get(key).is_some_and(|note| note.number == number) {
            noted.keys.remove(key);
            noted.fresh.remove(key);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        let noted = self.noted.lock();
        noted.all.is_some() || noted.keys.len() > noted.fresh.len()
    }

    /// How far copies are behind.
    pub(in crate::placement) fn behind(&self, now: Duration) -> Behind {
        let noted = self.noted.lock();
        let since = noted.keys.values().map(|note| note.since).chain(noted.all).min();
        Behind {
            objects: noted.keys.len() as u64,
            more: noted.all.is_some(),
            lag: since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        }
    }
}

impl Noted {
    fn add(&mut self, key: &str, since: Duration) {
        self.count += 1;
        let number = self.count;
        if let Some(known) = self.keys.get_mut(key) {
            known.number = number;
        } else if self.keys.len() < KEYS_MAX {
            self.keys.insert(key.to_owned(), Note { since, number });
        } else {
            self.all.get_or_insert(since);
        }
    }
}

/// A write whose caller may leave.
pub(in crate::placement) struct WhileWriting<'a> {
    mender: &'a Mender,
    env: &'a dyn Env,
    key: Option<&'a str>,
}

impl WhileWriting<'_> {
    /// The write has ended, and its entry says what became of the copies.
    pub(in crate::placement) fn ended(mut self) {
        self.key = None;
    }
}

impl Drop for WhileWriting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.mender.note(key, self.env.monotonic());
        }
    }
}

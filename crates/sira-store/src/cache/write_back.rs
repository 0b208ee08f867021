//! Write-back: writes that are answered from a queue in memory and reach the primary later, the
//! oldest first. Only the newest write of a key is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::entry::{Entry, Found};
use super::memory::Place;
use super::options::WriteMode;
use super::stats::Counter;
use super::{CacheBackend, Core};
use crate::backend::{Object, ObjectHead, ReadOptions, StorageBackend};
use crate::error::{Result, Retry, StorageError};
use crate::key::check_write;
use crate::options::{Condition, StorageOptions};
use crate::version::{HybridClock, Version};

/// What is kept back.
#[derive(Debug, Default)]
pub(super) struct WriteBack {
    queue: Mutex<Queue>,
    /// Held by whoever writes to the primary: one at a time, so that writes keep their order.
    draining: AsyncMutex<()>,
    /// A task is about to write what is queued.
    scheduled: AtomicBool,
    versions: HybridClock,
    pub(super) lost: Counter,
}

type Key = (u32, Box<str>);

#[derive(Debug, Default)]
struct Queue {
    pending: HashMap<Key, Pending, foldhash::fast::FixedState>,
    /// A place of another turn stands for nothing.
    order: VecDeque<(Key, u64)>,
    bytes: u64,
    turn: u64,
}

#[derive(Debug, Clone)]
struct Pending {
    entry: Arc<Entry>,
    options: StorageOptions,
    primary: Arc<dyn StorageBackend>,
    weight: u64,
    turn: u64,
}

impl Queue {
    fn add(&mut self, key: Key, pending: Pending) {
        self.bytes += pending.weight;
        self.order.push_back((key.clone(), pending.turn));
        if let Some(old) = self.pending.insert(key, pending) {
            self.bytes -= old.weight;
        }
        if self.order.len() > 2 * self.pending.len() + 16 {
            let pending = &self.pending;
            self.order.retain(|(key, turn)| pending.get(key).is_some_and(|p| p.turn == *turn));
        }
    }

    /// The oldest write, which stays queued.
    fn oldest(&mut self) -> Option<(Key, Pending)> {
        while let Some((key, turn)) = self.order.front() {
            match self.pending.get(key) {
                Some(pending) if pending.turn == *turn => {
                    return Some((key.clone(), pending.clone()));
                }
                _ => self.order.pop_front(),
            };
        }
        None
    }

    /// Takes a write out, unless a newer one of its key has come.
    fn done(&mut self, key: &Key, turn: u64) {
        if self.pending.get(key).is_some_and(|pending| pending.turn == turn)
            && let Some(pending) = self.pending.remove(key)
        {
            self.bytes -= pending.weight;
        }
    }
}

impl WriteBack {
    /// Writes that are queued, and their bytes.
    pub(super) fn queued(&self) -> (u64, u64) {
        let queue = self.queue.lock();
        (queue.pending.len() as u64, queue.bytes)
    }

    fn get(&self, key: &Key) -> Option<Pending> {
        self.queue.lock().pending.get(key).cloned()
    }
}

impl CacheBackend {
    fn writes_back(&self) -> bool {
        self.space.policy.write == WriteMode::Back
    }

    /// What a queued write left under a key.
    pub(super) fn queued(&self, key: &str) -> Option<Arc<Entry>> {
        if !self.writes_back() {
            return None;
        }
        self.core.write_back.get(&(self.space.id, key.into())).map(|pending| pending.entry)
    }

    /// Brings the queued writes of some keys to the primary.
    ///
    /// # Errors
    /// The primary's; what failed stays queued if a retry may help.
    pub(super) async fn settle(&self, keys: &[&str]) -> Result<()> {
        if !self.writes_back() {
            return Ok(());
        }
        let queued =
            |place: Place<'_>| self.core.write_back.get(&(place.space, place.key.into())).is_some();
        let any = keys.iter().any(|key| self.space.touched(&self.core, key).any(queued));
        if any { self.core.drain().await } else { Ok(()) }
    }

    /// Brings every queued write to the primary, if this namespace queues any.
    ///
    /// # Errors
    /// As [`CacheBackend::settle`].
    pub(super) async fn settle_all(&self) -> Result<()> {
        if self.writes_back() { self.core.drain().await } else { Ok(()) }
    }

    /// Queues a write, if it is one that may be answered from the queue.
    pub(super) async fn write_later(
        &self,
        key: &str,
        value: &Bytes,
        options: &StorageOptions,
    ) -> Result<Option<Version>> {
        let plain = options.condition == Condition::Always
            && options.ttl.is_none()
            && options.expires_at_ms.is_none()
            && options.version.is_none();
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| plain) else {
            self.settle(&[key]).await?;
            return Ok(None);
        };
        if !self.writes_back() {
            return Ok(None);
        }
        let core = &self.core;
        let now_ms = core.clock.now_ms();
        check_write(key, value.len(), options, now_ms)?;
        if value.len() as u64 > self.space.primary.capabilities().value_bytes_max {
            return Ok(None);
        }
        let twins = self.space.touched(core, key).filter(|place| place.space != self.space.id);
        let twin_queued = twins
            .map(|place| (place.space, Box::from(place.key)))
            .any(|twin| core.write_back.get(&twin).is_some());
        let (_, bytes) = core.write_back.queued();
        if twin_queued || bytes + value.len() as u64 > core.options.write_back_bytes {
            core.drain().await?;
        }

        let guarded = self.begin(&[key]).await;
        let version = core.write_back.versions.next_spread(now_ms, core.clock.random());
        let head = ObjectHead {
            version,
            size: value.len() as u64,
            expires_at_ms: None,
            metadata: options.metadata.clone(),
        };
        let found = Some(Found { head, value: value.clone() });
        let entry = Arc::new(Entry { found, read_at_ms: core.clock.monotonic_ms() }.own());
        {
            let mut queue = core.write_back.queue.lock();
            queue.turn += 1;
            let pending = Pending {
                weight: entry.weight(key),
                entry,
                options: StorageOptions { version: Some(version), ..options.clone() },
                primary: Arc::clone(&self.space.primary),
                turn: queue.turn,
            };
            queue.add((self.space.id, key.into()), pending);
        }
        self.end(guarded, &Ok(()));
        core.schedule(&runtime);
        Ok(Some(version))
    }

    /// Makes later versions of queued writes greater than one that the primary has.
    pub(super) fn observe(&self, version: Option<Version>) {
        if let Some(version) = version.filter(|_| self.writes_back()) {
            self.core.write_back.versions.observe(version);
        }
    }
}

impl Core {
    /// Has a task write what is queued after the delay.
    fn schedule(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        if self.write_back.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let (core, delay) = (Arc::downgrade(self), self.options.write_back_delay);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(delay).await;
                let Some(core) = core.upgrade() else { return };
                core.write_back.scheduled.store(false, Ordering::Release);
                if let Err(error) = core.drain().await {
                    tracing::warn!(%error, "queued writes did not reach the primary yet");
                }
                // What was queued while we wrote may have found us scheduled.
                if core.write_back.queued().0 == 0
                    || core.write_back.scheduled.swap(true, Ordering::AcqRel)
                {
                    return;
                }
            }
        });
    }

    /// Brings every queued write to the primary.
    pub(super) async fn drain(&self) -> Result<()> {
        let _turn = self.write_back.draining.lock().await;
        let mut first_error = None;
        loop {
            let next = self.write_back.queue.lock().oldest();
            let Some((key, pending)) = next else { break };
            match self.write_queued(&key, &pending).await {
                Ok(()) => self.write_back.queue.lock().done(&key, pending.turn),
                Err(error) if error.retry() != Retry::Permanent => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a queued write was refused and is lost");
                    self.write_back.lost.add();
                    self.write_back.queue.lock().done(&key, pending.turn);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn write_queued(&self, key: &Key, pending: &Pending) -> Result<()> {
        let Some(found) = &pending.entry.found else { return Ok(()) };
        let value = found.value.clone();
        let written = pending.primary.put(&key.1, value.clone(), pending.options.clone()).await;
        match written {
            Ok(_) => Ok(()),
            // The key holds that version or a later one. The first is this write, whose answer was
            // lost; over the second the bytes count more than the version that was told.
            Err(StorageError::Conflict(_)) => {
                let held = pending.primary.read(&key.1, ReadOptions::default()).await?;
                let same = |held: Object| {
                    held.head.version == found.head.version && held.value == found.value
                };
                if held.is_some_and(same) {
                    return Ok(());
                }
                let options = StorageOptions { version: None, ..pending.options.clone() };
                let version = pending.primary.put(&key.1, value, options).await?;
                self.write_back.versions.observe(version);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

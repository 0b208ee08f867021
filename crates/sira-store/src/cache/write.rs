//! Writes: the cache forgets before the primary is asked, and keeps nothing that was read meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Found};
use super::lease::Guarded;
use super::options::WriteMode;
use super::{CacheBackend, millis};
use crate::backend::{ByteStream, ObjectHead};
use crate::error::{Result, Retry};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

impl CacheBackend {
    /// Begins a write to some keys: they are in no tier from now on.
    pub(super) async fn begin(&self, keys: &[&str]) -> Guarded {
        let core = &self.core;
        let writing = keys.iter().map(|key| {
            core.leases.begin(core.hash_key(key), || {
                for place in self.space.touched(core, key) {
                    self.space.pool.remove(place);
                }
            })
        });
        let settle_ms = millis(core.options.settle);
        let guarded = Guarded::new(writing.collect(), core.clock.clone(), settle_ms);
        if core.tiers().next().is_some() && self.space.policy.tiers {
            // Ascending, so that writers of several keys do not stop each other.
            let stripes: BTreeSet<_> =
                guarded.writing().iter().map(|writing| writing.stripe()).collect();
            let mut held = Vec::with_capacity(stripes.len());
            for stripe in stripes {
                held.push(core.leases.below(stripe).await);
            }
            let names: BTreeSet<_> =
                keys.iter().flat_map(|key| self.space.touched_names(key)).collect();
            let names: Vec<_> = names.into_iter().collect();
            for tier in core.tiers() {
                tier.remove(&names).await;
            }
        }
        guarded
    }

    /// Ends a write. Where its outcome is not known, what the keys hold is unsettled for a while.
    pub(super) fn end<T>(&self, guarded: Guarded, result: &Result<T>) {
        if result.as_ref().is_err_and(|error| error.retry() == Retry::Ambiguous) {
            return drop(guarded);
        }
        for writing in guarded.take() {
            writing.end(self.core.clock.monotonic_ms(), || {});
        }
    }

    pub(super) async fn write(
        &self,
        key: &str,
        value: Bytes,
        options: StorageOptions,
    ) -> Result<Version> {
        if let Some(version) = self.write_later(key, &value, &options).await? {
            return Ok(version);
        }
        let kept = self.kept_of_write(&options).then(|| (value.clone(), options.metadata.clone()));
        let guarded = self.begin(&[key]).await;
        let read_at_ms = self.core.clock.monotonic_ms();
        let written = self.space.primary.put(key, value, options).await;
        self.observe(written.as_ref().ok().copied());
        let (Ok(version), Some((value, metadata))) = (&written, kept) else {
            self.end(guarded, &written);
            return written;
        };
        let head = ObjectHead {
            version: *version,
            size: value.len() as u64,
            expires_at_ms: None,
            metadata,
        };
        self.end_with(guarded, key, Entry { found: Some(Found { head, value }), read_at_ms });
        written
    }

    /// Whether the cache knows from the write alone what the key holds after it.
    fn kept_of_write(&self, options: &StorageOptions) -> bool {
        let metadata = options.metadata.is_empty() || self.space.primary.capabilities().metadata;
        self.space.policy.write != WriteMode::Around
            && options.ttl.is_none()
            && options.expires_at_ms.is_none()
            && metadata
    }

    /// Ends a write of one key that worked, and keeps what the key holds now.
    fn end_with(&self, guarded: Guarded, key: &str, entry: Entry) {
        let place = self.core.place(self.space.id, key);
        let admitted = self.space.pool.admits(entry.weight(key));
        let owned = admitted.then(|| Arc::new(entry.own()));
        let until_ms = self.space.until_ms(&entry, self.core.clock.now_ms());
        for writing in guarded.take() {
            let lease = writing.end(self.core.clock.monotonic_ms(), || {
                if let Some(entry) = owned.clone() {
                    self.space.pool.insert(place, entry, false, until_ms);
                }
            });
            if let Some(lease) = lease {
                self.fill_below(key, lease, &entry);
            }
        }
    }

    pub(super) async fn write_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        self.settle(&[key]).await?;
        let guarded = self.begin(&[key]).await;
        let written = self.space.primary.put_stream(key, body, options).await;
        self.observe(written.as_ref().ok().copied());
        self.end(guarded, &written);
        written
    }

    pub(super) async fn erase(&self, key: &str, condition: Condition) -> Result<bool> {
        self.settle(&[key]).await?;
        let guarded = self.begin(&[key]).await;
        let read_at_ms = self.core.clock.monotonic_ms();
        let removed = self.space.primary.remove(key, condition).await;
        if removed.is_ok() && self.space.keeps_absence() {
            self.end_with(guarded, key, Entry { found: None, read_at_ms });
        } else {
            self.end(guarded, &removed);
        }
        removed
    }
}

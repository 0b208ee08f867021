//! Reads: memory, then a flight that several readers may share, which looks in the tiers below and
//! asks the primary.

use std::sync::Arc;

use super::CacheBackend;
use super::entry::{Entry, Found, Stored};
use super::lease::{Lease, Leases, Sharing};
use super::memory::Place;
use super::space::Verdict;
use super::stats::Counter;
use super::tier::Tier;
use crate::backend::{Object, ObjectHead, ReadOptions};
use crate::error::Result;
use crate::options::Condition;

/// Flights of others that may bring what has expired by then, before a reader goes alone.
const FLIGHTS_MAX: usize = 3;

impl CacheBackend {
    pub(super) async fn load(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        if let Some(entry) = self.queued(key) {
            return entry.answer(&options);
        }
        self.settle(&[key]).await?;
        let place = self.core.place(self.space.id, key);
        self.learn(place);
        if let Some(hot) = &self.core.hot {
            hot.note(&self.space, key);
        }
        let kept = self.look(place);
        if let Some((entry, Verdict::Serve)) = &kept {
            return entry.answer(&options);
        }
        let whole = options.range.is_none() && options.condition == Condition::Always;
        if kept.is_none() && !whole {
            return self.pass(place, options).await;
        }
        self.fetch(place).await?.answer(&options)
    }

    /// What memory keeps of a key, if it is of use; counted as a read.
    fn look(&self, place: Place<'_>) -> Option<(Arc<Entry>, Verdict)> {
        let hit = self.space.pool.get(place, true)?;
        if hit.ahead {
            self.core.counters.prefetched_read.add();
        }
        let verdict = self.space.judge(&hit.entry, &self.core.clock);
        match verdict {
            Verdict::Drop => return None,
            Verdict::Serve => {
                self.core.counters.memory_hits.add();
                if hit.entry.found.is_none() {
                    self.core.counters.negative_hits.add();
                }
            }
            Verdict::Check => {}
        }
        Some((hit.entry, verdict))
    }

    /// The head of what a key holds.
    pub(super) async fn load_head(&self, key: &str) -> Result<Option<ObjectHead>> {
        if let Some(entry) = self.queued(key) {
            return Ok(entry.found.as_ref().map(|found| found.head.clone()));
        }
        self.settle(&[key]).await?;
        match self.look(self.core.place(self.space.id, key)) {
            Some((entry, Verdict::Serve)) => {
                Ok(entry.found.as_ref().map(|found| found.head.clone()))
            }
            _ => self.space.primary.head(key).await,
        }
    }

    /// A read of a part, or under a condition, of what is not kept. The whole may be large, so it is
    /// not loaded.
    async fn pass(&self, place: Place<'_>, options: ReadOptions) -> Result<Option<Object>> {
        let lease = self.core.leases.lease(self.core.hash_key(place.key));
        let read_at_ms = self.core.clock.monotonic_ms();
        self.core.counters.passed.add();
        let found = self.space.primary.read(place.key, options).await?;
        if let Some(object) = &found
            && object.range == (0..object.head.size)
        {
            self.keep(place, lease, entry(Some(object.clone()), read_at_ms), Kept::default());
        }
        Ok(found)
    }

    /// What a key holds: what another reader's flight brings, or our own.
    async fn fetch(&self, place: Place<'_>) -> Result<Arc<Entry>> {
        let (clock, leases) = (&self.core.clock, &self.core.leases);
        let stripe = self.core.hash_key(place.key);
        let began_ms = clock.monotonic_ms();
        let mut rule = self.space.sharing(began_ms);
        for _ in 0..FLIGHTS_MAX {
            let seat = leases.board(stripe, place, rule, clock.monotonic_ms());
            let arrival = seat
                .arrive(|| clock.monotonic_ms(), |lease| self.bring(place, lease, false))
                .await?;
            if !arrival.shared {
                return Ok(arrival.entry);
            }
            self.core.counters.coalesced.add();
            let entry = arrival.entry;
            let fresh = match rule {
                Sharing::Since(ms) => entry.read_at_ms >= ms,
                Sharing::NotBegun | Sharing::Untouched => true,
            };
            if fresh && entry.lives(clock.now_ms()) {
                return Ok(entry);
            }
            rule = Sharing::NotBegun;
        }
        self.bring(place, leases.lease(stripe), false).await
    }

    /// Brings what a key holds from the first tier that has it and may say so.
    pub(super) async fn bring(
        &self,
        place: Place<'_>,
        lease: Lease,
        ahead: bool,
    ) -> Result<Arc<Entry>> {
        let counters = &self.core.counters;
        let read_at_ms = self.core.clock.monotonic_ms();
        let in_memory = self.space.pool.get(place, false).map(|hit| hit.entry);
        let in_memory = in_memory
            .map(|entry| (self.space.judge(&entry, &self.core.clock), entry))
            .filter(|(verdict, _)| *verdict != Verdict::Drop);
        let mut below = true;
        let kept = match in_memory {
            Some((Verdict::Serve, entry)) => {
                counters.memory_hits.add();
                return Ok(entry);
            }
            Some((_, entry)) => {
                below = false;
                Some(entry)
            }
            None => match self.look_below(place.key).await {
                Some((entry, Verdict::Serve, hits)) => {
                    hits.add();
                    return Ok(self.keep(place, lease, entry, Kept { ahead, below: false }));
                }
                Some((entry, _, _)) => Some(Arc::new(entry)),
                None => None,
            },
        };
        if let Some(found) = kept.as_ref().and_then(|entry| entry.found.as_ref()) {
            match self.space.primary.head(place.key).await? {
                Some(head) if head.version == found.head.version => {
                    counters.validated_hits.add();
                    let found = Some(Found { head, value: found.value.clone() });
                    let entry = Entry { found, read_at_ms };
                    return Ok(self.keep(place, lease, entry, Kept { ahead, below }));
                }
                Some(_) => counters.outdated.add(),
                None => {
                    counters.outdated.add();
                    let absent = Entry { found: None, read_at_ms };
                    return Ok(self.keep(place, lease, absent, Kept { ahead, below }));
                }
            }
        }
        counters.loads.add();
        let object = self.space.primary.read(place.key, ReadOptions::default()).await?;
        Ok(self.keep(place, lease, entry(object, read_at_ms), Kept { ahead, below: true }))
    }

    /// What the tiers below the memory have of a key.
    async fn look_below(&self, key: &str) -> Option<(Entry, Verdict, &Counter)> {
        if !self.space.policy.tiers {
            return None;
        }
        let (core, clock) = (&*self.core, &self.core.clock);
        let tiers =
            [(&core.disk, &core.counters.disk_hits), (&core.remote, &core.counters.remote_hits)];
        for (tier, hits) in tiers {
            let Some(tier) = tier else { continue };
            let Some(stored) = tier.get(&self.space.tier_name(key)).await else { continue };
            let (trusted, stored_at_ms) = (tier.trusts(&stored), stored.read_at_ms);
            let age_ms = clock.now_ms().saturating_sub(stored_at_ms);
            let entry = Entry {
                found: Some(Found { head: stored.head, value: stored.value }),
                read_at_ms: clock.monotonic_ms().saturating_sub(age_ms),
            };
            match self.space.judge_below(&entry, stored_at_ms, trusted, clock) {
                Verdict::Drop => {}
                verdict => return Some((entry, verdict, hits)),
            }
        }
        None
    }

    /// Keeps an entry in memory, and in the tiers below if it is not from there, unless a write
    /// began since the lease was taken. Answers the entry.
    pub(super) fn keep(
        &self,
        place: Place<'_>,
        lease: Lease,
        entry: Entry,
        kept: Kept,
    ) -> Arc<Entry> {
        self.observe(entry.version());
        if entry.found.is_none() && !self.space.keeps_absence() {
            self.space.pool.remove(place);
            return Arc::new(entry);
        }
        if kept.below {
            self.fill_below(place.key, lease, &entry);
        }
        if !self.space.pool.admits(entry.weight(place.key)) {
            self.space.pool.remove(place);
            return Arc::new(entry);
        }
        let entry = Arc::new(entry.own());
        let until_ms = self.space.until_ms(&entry, self.core.clock.now_ms());
        self.core.leases.fill(lease, self.core.clock.monotonic_ms(), || {
            self.space.pool.insert(place, Arc::clone(&entry), kept.ahead, until_ms);
        });
        entry
    }

    /// Puts an entry into the tiers below the memory, behind the reader's back.
    pub(super) fn fill_below(&self, key: &str, lease: Lease, entry: &Entry) {
        let Some(found) = &entry.found else { return };
        let off = self.core.tiers().all(Tier::is_off);
        if !self.space.policy.tiers || off {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Ok(permit) = Arc::clone(&self.core.fills).try_acquire_owned() else { return };
        let age_ms = self.core.clock.monotonic_ms().saturating_sub(entry.read_at_ms);
        let stored = Stored {
            head: found.head.clone(),
            value: found.value.clone(),
            token: 0,
            read_at_ms: self.core.clock.now_ms().saturating_sub(age_ms),
        };
        let (core, name) = (Arc::clone(&self.core), self.space.tier_name(key));
        let stripe = Leases::stripe_of(core.hash_key(key));
        runtime.spawn(async move {
            let below = core.leases.below(stripe).await;
            if core.leases.holds(lease, core.clock.monotonic_ms()) {
                for tier in core.tiers() {
                    let Stored { head, value, token, read_at_ms } = &stored;
                    let (head, value) = (head.clone(), value.clone());
                    let (token, read_at_ms) = (*token, *read_at_ms);
                    tier.put(&name, Stored { head, value, token, read_at_ms }).await;
                }
            }
            drop(below);
            // Who waits for the permit may be about to open the tier's folder again.
            drop(core);
            drop(permit);
        });
    }
}

/// How an entry is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// It was read ahead.
    pub(super) ahead: bool,
    /// The tiers below get it as well.
    pub(super) below: bool,
}

/// The entry of what the primary answered to a read that began at `read_at_ms`.
pub(super) fn entry(object: Option<Object>, read_at_ms: u64) -> Entry {
    let found = object.map(|object| Found { head: object.head, value: object.value });
    Entry { found, read_at_ms }
}

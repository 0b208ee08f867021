//! What keeps the cache honest within one process: no load that began before a write leaves its
//! bytes in the cache after it, and readers of a key share a load only where that shows them nothing
//! older than they may see.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::Clock;
use super::entry::Entry;
use super::memory::Place;
use super::policy::IdentityHasher;
use crate::error::{Result, StorageError};

/// Stripes; keys share them. What shares a stripe is refused a place in the cache now and then, and
/// is otherwise not affected.
const STRIPES: usize = 1024;

/// Leaders of a flight that may fail before all who wait are told so.
const FAILURES_MAX: u8 = 2;

/// Stripes by hash of the key.
#[derive(Debug)]
pub(super) struct Leases {
    stripes: Box<[Stripe]>,
}

#[derive(Debug, Default)]
struct Stripe {
    state: Mutex<State>,
    /// Held while the tiers below are changed: see [`Leases::below`].
    below: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Grows when a write begins, and when it ends.
    generation: u64,
    writers: u32,
    /// Until when a write of unknown outcome may still take effect, on the monotonic clock.
    unsettled_until_ms: u64,
    /// By hash of space and key.
    flights: HashMap<u64, Arc<Flight>, BuildHasherDefault<IdentityHasher>>,
}

impl State {
    fn quiet(&self, now_ms: u64) -> bool {
        self.writers == 0 && now_ms >= self.unsettled_until_ms
    }
}

/// The right to keep what is loaded from now on, until a write begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    stripe: usize,
    generation: u64,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { stripes: std::iter::repeat_with(Stripe::default).take(STRIPES).collect() }
    }

    fn stripe(&self, at: usize) -> &Stripe {
        // There are as many as the remainders by their number.
        &self.stripes[at % self.stripes.len()]
    }

    /// The number of the stripe of a key's hash.
    pub(super) fn stripe_of(hash: u64) -> usize {
        hash as usize % STRIPES
    }

    /// A lease for a load that begins now.
    pub(super) fn lease(&self, hash: u64) -> Lease {
        let stripe = Self::stripe_of(hash);
        Lease { stripe, generation: self.stripe(stripe).state.lock().generation }
    }

    /// Runs `keep` if no write has begun since the lease was taken; none begins meanwhile.
    pub(super) fn fill(&self, lease: Lease, now_ms: u64, keep: impl FnOnce()) -> bool {
        let state = self.stripe(lease.stripe).state.lock();
        let valid = state.generation == lease.generation && state.quiet(now_ms);
        if valid {
            keep();
        }
        valid
    }

    /// Whether no write has begun since the lease was taken.
    pub(super) fn holds(&self, lease: Lease, now_ms: u64) -> bool {
        self.fill(lease, now_ms, || {})
    }

    /// Begins a write to a key: no load that began before keeps anything from now on. `forget` runs
    /// before the next load begins.
    pub(super) fn begin(self: &Arc<Self>, hash: u64, forget: impl FnOnce()) -> Writing {
        let stripe = Self::stripe_of(hash);
        let mut state = self.stripe(stripe).state.lock();
        state.generation += 1;
        let alone = state.writers == 0;
        state.writers += 1;
        forget();
        let generation = state.generation;
        drop(state);
        Writing { leases: Arc::clone(self), stripe, generation, alone }
    }

    /// Has every load that is under way keep nothing.
    pub(super) fn interrupt(&self) {
        for stripe in &self.stripes {
            stripe.state.lock().generation += 1;
        }
    }

    /// The lock under which tiers below the memory are changed for the keys of a stripe: whoever
    /// fills them looks at its lease under it, whoever writes empties them under it after the write
    /// has begun. So nothing older than a write comes there after it.
    pub(super) async fn below(&self, stripe: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.stripe(stripe).below.lock().await
    }

    /// Takes a seat in a flight: one that is under way, if `rule` lets a reader that comes now share
    /// it, else a new one.
    pub(super) fn board(
        self: &Arc<Self>,
        hash: u64,
        place: Place<'_>,
        rule: Sharing,
        now_ms: u64,
    ) -> Seat {
        let stripe = Self::stripe_of(hash);
        let flight_hash = place.hash;
        let mut state = self.stripe(stripe).state.lock();
        let quiet = state.quiet(now_ms);
        let generation = state.generation;
        let current = state.flights.get(&flight_hash).filter(|flight| flight.is_for(place));
        let before = match current.cloned() {
            Some(flight) => {
                let mut seats = flight.seats.lock();
                if seats.begun.is_none_or(|begun| rule.shares(begun, generation, quiet)) {
                    seats.taken += 1;
                    drop(seats);
                    return Seat { leases: Arc::clone(self), stripe, flight_hash, flight };
                }
                drop(seats);
                (rule == Sharing::NotBegun).then_some(flight)
            }
            None => None,
        };
        let flight = Arc::new(Flight {
            space: place.space,
            key: place.key.into(),
            seats: Mutex::new(Seats { taken: 1, begun: None }),
            slot: AsyncMutex::new(Slot { before, ..Slot::default() }),
        });
        state.flights.insert(flight_hash, Arc::clone(&flight));
        drop(state);
        Seat { leases: Arc::clone(self), stripe, flight_hash, flight }
    }
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Writing {
    leases: Arc<Leases>,
    stripe: usize,
    generation: u64,
    alone: bool,
}

impl Writing {
    pub(super) fn stripe(&self) -> usize {
        self.stripe
    }

    /// Ends the write; `keep` runs if no other write of the stripe has begun or ended since this
    /// one began, so that what was written is what the key holds.
    pub(super) fn end(self, now_ms: u64, keep: impl FnOnce()) -> Option<Lease> {
        let mut state = self.leases.stripe(self.stripe).state.lock();
        let last = self.alone && state.generation == self.generation;
        state.generation += 1;
        state.writers = state.writers.saturating_sub(1);
        if !last || !state.quiet(now_ms) {
            return None;
        }
        keep();
        Some(Lease { stripe: self.stripe, generation: state.generation })
    }

    /// Ends a write that may or may not have taken effect, or may do so until `until_ms`.
    fn end_unsettled(self, until_ms: u64) {
        let mut state = self.leases.stripe(self.stripe).state.lock();
        state.generation += 1;
        state.writers = state.writers.saturating_sub(1);
        state.unsettled_until_ms = state.unsettled_until_ms.max(until_ms);
    }
}

/// Writes under way, of one operation. Dropped before they are taken out, their outcome is unknown:
/// the operation failed so, or its future was dropped.
#[derive(Debug)]
pub(super) struct Guarded {
    writing: Vec<Writing>,
    clock: Clock,
    settle_ms: u64,
}

impl Guarded {
    pub(super) fn new(writing: Vec<Writing>, clock: Clock, settle_ms: u64) -> Self {
        Self { writing, clock, settle_ms }
    }

    /// The writes, for their end to be told one by one.
    pub(super) fn take(mut self) -> Vec<Writing> {
        std::mem::take(&mut self.writing)
    }

    pub(super) fn writing(&self) -> &[Writing] {
        &self.writing
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let until_ms = self.clock.monotonic_ms().saturating_add(self.settle_ms);
        for writing in self.writing.drain(..) {
            writing.end_unsettled(until_ms);
        }
    }
}

/// What a reader may share with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Only a load that has not begun yet: others may write behind our back.
    NotBegun,
    /// A load that no write has touched since: all writes go through here.
    Untouched,
    /// As that, begun no earlier than at this time of the monotonic clock, in milliseconds; writes
    /// of unknown outcome do not matter.
    Since(u64),
}

impl Sharing {
    fn shares(self, begun: Begun, generation: u64, quiet: bool) -> bool {
        let untouched = begun.generation == generation;
        match self {
            Self::NotBegun => false,
            Self::Untouched => untouched && begun.quiet && quiet,
            Self::Since(ms) => untouched && begun.at_ms >= ms,
        }
    }
}

/// One load that several readers wait for. The slot's lock goes from hand to hand: a leader that
/// fails or leaves without an outcome hands over to the next.
#[derive(Debug)]
struct Flight {
    space: u32,
    key: Box<str>,
    seats: Mutex<Seats>,
    slot: AsyncMutex<Slot>,
}

impl Flight {
    fn is_for(&self, place: Place<'_>) -> bool {
        self.space == place.space && *self.key == *place.key
    }
}

#[derive(Debug)]
struct Seats {
    taken: u32,
    begun: Option<Begun>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at_ms: u64,
    generation: u64,
    quiet: bool,
}

#[derive(Debug, Default)]
struct Slot {
    /// A flight of the same key that had begun when this one was made: this one begins after it.
    before: Option<Arc<Flight>>,
    outcome: Option<Arc<Entry>>,
    failures: u8,
    error: Option<StorageError>,
}

/// A reader's place in a flight.
#[derive(Debug)]
pub(super) struct Seat {
    leases: Arc<Leases>,
    stripe: usize,
    flight_hash: u64,
    flight: Arc<Flight>,
}

/// What a flight brought, and whether another reader loaded it.
pub(super) struct Arrival {
    pub(super) entry: Arc<Entry>,
    pub(super) shared: bool,
}

impl Seat {
    /// The flight's outcome; whoever comes first loads it. `now_ms` tells the monotonic clock.
    pub(super) async fn arrive<F>(
        &self,
        now_ms: impl Fn() -> u64,
        load: impl FnOnce(Lease) -> F,
    ) -> Result<Arrival>
    where
        F: Future<Output = Result<Arc<Entry>>>,
    {
        let mut slot = self.flight.slot.lock().await;
        if let Some(entry) = &slot.outcome {
            return Ok(Arrival { entry: Arc::clone(entry), shared: true });
        }
        if let Some(error) = slot.error.as_ref().filter(|_| slot.failures >= FAILURES_MAX) {
            return Err(copy(error));
        }
        if let Some(before) = slot.before.take() {
            drop(before.slot.lock().await);
        }
        match load(self.begin(now_ms())).await {
            Ok(entry) => {
                slot.outcome = Some(Arc::clone(&entry));
                Ok(Arrival { entry, shared: false })
            }
            Err(error) => {
                slot.failures = slot.failures.saturating_add(1);
                slot.error = Some(copy(&error));
                Err(error)
            }
        }
    }

    /// Notes that the load begins: who comes from now on may not be allowed to share it.
    fn begin(&self, now_ms: u64) -> Lease {
        let state = self.leases.stripe(self.stripe).state.lock();
        let begun =
            Begun { at_ms: now_ms, generation: state.generation, quiet: state.quiet(now_ms) };
        self.flight.seats.lock().begun = Some(begun);
        Lease { stripe: self.stripe, generation: state.generation }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.leases.stripe(self.stripe).state.lock();
        let mut seats = self.flight.seats.lock();
        seats.taken = seats.taken.saturating_sub(1);
        if seats.taken > 0 {
            return;
        }
        drop(seats);
        let own = |flight: &Arc<Flight>| Arc::ptr_eq(flight, &self.flight);
        if state.flights.get(&self.flight_hash).is_some_and(own) {
            state.flights.remove(&self.flight_hash);
        }
    }
}

/// An error for another reader that waited for the same load.
fn copy(error: &StorageError) -> StorageError {
    let detail = error.detail();
    let mut copy = error.same_kind(detail.message.clone());
    if let Some(key) = &detail.key {
        copy = copy.with_key(key);
    }
    if let Some(namespace) = &detail.namespace {
        copy = copy.with_namespace(namespace);
    }
    if let Some(backend) = &detail.backend {
        copy = copy.with_backend(backend);
    }
    copy
}

//! What the engine does by itself: collects expired objects and dropped namespaces, reclaims
//! segments, writes checkpoints.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use sira_log::record::LogPosition;

use super::super::NamespaceId;
use super::super::index::Location;
use super::lookup::FullKey;
use super::{Engine, checkpoint, lookup, reclaim};
use crate::error::{Result, StorageError};

/// Index entries that one step looks at for expired objects.
const SWEEP_ENTRIES: usize = 50_000;

/// Log bytes since the last checkpoint from which closing writes one.
const CLOSE_CHECKPOINT_BYTES: u64 = 1 << 20;

/// What one step of maintenance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaintenanceReport {
    /// Expired objects taken out of the index.
    pub expired: u64,
    /// Objects of dropped namespaces taken out of the index.
    pub purged: u64,
    /// Segments rewritten.
    pub reclaimed: u64,
    /// Segment files removed.
    pub removed: u64,
    /// A checkpoint was written.
    pub checkpointed: bool,
}

/// State of the maintenance, held for one step at a time.
#[derive(Debug)]
pub(super) struct State {
    /// What the newest checkpoint covers.
    checkpoint: LogPosition,
    generation: u64,
    /// Segments without live objects, to be removed once a checkpoint no longer names them.
    pub(super) rewritten: Vec<u32>,
    /// Where the next look for expired objects begins.
    cursor: Vec<u8>,
}

/// What maintenance keeps between its steps.
#[derive(Debug)]
pub(super) struct Maintenance {
    state: Mutex<State>,
    /// Dropped namespaces with the number of steps that still look for late writes of theirs.
    dropped: Mutex<Vec<(NamespaceId, u8)>>,
}

impl Maintenance {
    pub(super) fn new(checkpoint: LogPosition, generation: u64) -> Self {
        Self {
            state: Mutex::new(State {
                checkpoint,
                generation,
                rewritten: Vec::new(),
                cursor: Vec::new(),
            }),
            dropped: Mutex::new(Vec::new()),
        }
    }

    /// Keeps maintenance from running meanwhile.
    pub(super) fn hold(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn dropped(&self, id: NamespaceId) {
        self.dropped.lock().push((id, 2));
    }
}

/// Wakes and stops the worker.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopping: AtomicBool,
    woken: Mutex<bool>,
    signal: Condvar,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn wake(&self) {
        *self.woken.lock() = true;
        self.signal.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for `pause`, a wake-up, or the end.
    pub(super) fn pause(&self, pause: Duration) {
        let mut woken = self.woken.lock();
        if !*woken {
            self.signal.wait_for(&mut woken, pause);
        }
        *woken = false;
    }
}

impl Engine {
    /// Does one step of maintenance: what the engine's own thread does at every interval.
    ///
    /// # Errors
    /// The medium's. What was not done is tried again in a later step.
    pub fn maintain(&self) -> Result<MaintenanceReport> {
        let mut report = MaintenanceReport::default();
        let mut state = self.maintenance.state.lock();
        self.log.run_due_sync()?;
        report.purged = purge_dropped(self);
        report.expired = sweep(self, &mut state)?;
        if self.log.check_writable().is_err() {
            return Ok(report);
        }
        report.reclaimed = reclaim::reclaim(self, &mut state)?;
        let due = bytes_since(self, state.checkpoint) >= self.options.checkpoint_bytes;
        if due || !state.rewritten.is_empty() {
            checkpoint_now(self, &mut state)?;
            report.checkpointed = true;
            report.removed = remove_rewritten(self, &mut state)?;
        }
        Ok(report)
    }

    /// Writes a checkpoint now, whatever has been written since the last one.
    ///
    /// # Errors
    /// The medium's.
    pub fn checkpoint(&self) -> Result<()> {
        checkpoint_now(self, &mut self.maintenance.state.lock())
    }
}

fn checkpoint_now(engine: &Engine, state: &mut State) -> Result<()> {
    let generation = state.generation + 1;
    state.checkpoint = checkpoint::write(engine, generation)?;
    state.generation = generation;
    Ok(())
}

/// Log bytes behind a position.
fn bytes_since(engine: &Engine, position: LogPosition) -> u64 {
    let segments = engine.log.segments();
    let behind = segments.iter().filter(|segment| segment.id >= position.segment);
    let used: u64 = behind.map(|segment| segment.used()).sum();
    used.saturating_sub(position.offset)
}

/// Removes the files of rewritten segments.
fn remove_rewritten(engine: &Engine, state: &mut State) -> Result<u64> {
    let mut removed = 0;
    while let Some(id) = state.rewritten.last().copied() {
        engine.log.remove_segment(id)?;
        engine.usage.rcu(|usage| {
            let mut usage = BTreeMap::clone(usage);
            usage.remove(&id);
            usage
        });
        state.rewritten.pop();
        removed += 1;
    }
    if removed > 0 {
        engine.log.remove_empty_months()?;
    }
    Ok(removed)
}

fn purge_dropped(engine: &Engine) -> u64 {
    let due: Vec<_> = {
        let mut dropped = engine.maintenance.dropped.lock();
        let due = dropped.iter().map(|(id, _)| *id).collect();
        dropped.retain_mut(|(_, rounds)| {
            *rounds -= 1;
            *rounds > 0
        });
        due
    };
    due.into_iter().map(|id| purge(engine, id)).sum()
}

/// Takes all entries of a namespace that is gone out of the index.
pub(super) fn purge(engine: &Engine, id: NamespaceId) -> u64 {
    let own = id.0.to_be_bytes();
    let mut purged = 0;
    engine.index.scan(Bound::Included(&own), &mut |full, location| {
        if !full.starts_with(&own) {
            return ControlFlow::Break(());
        }
        if engine.index.remove_if(full, location) {
            engine.add_dead(full.len() - own.len(), location);
            purged += 1;
        }
        ControlFlow::Continue(())
    });
    purged
}

/// Takes expired objects out of the index, some entries a step.
fn sweep(engine: &Engine, state: &mut State) -> Result<u64> {
    let now_ms = engine.env.now_ms();
    let mut expired: Vec<(Vec<u8>, Location)> = Vec::new();
    let mut seen = 0;
    let mut last = Vec::new();
    let from = std::mem::take(&mut state.cursor);
    engine.index.scan(Bound::Included(&from), &mut |full, location| {
        seen += 1;
        if location.expiry != 0 && lookup::coarsely_expired(location.expiry, now_ms) != Some(false)
        {
            expired.push((full.to_vec(), location));
        }
        if seen == SWEEP_ENTRIES {
            last = full.to_vec();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    state.cursor = last;
    let mut collected = 0;
    for (full, location) in expired {
        // A damaged object is left for verify and repair to name.
        if matches!(lookup::is_expired(engine, &full, location, now_ms), Ok(true))
            && collect(engine, &full, location)
        {
            collected += 1;
        }
    }
    Ok(collected)
}

/// Takes one expired object out of the index, if it is still at `location`.
fn collect(engine: &Engine, full: &[u8], location: Location) -> bool {
    let Some((id, key)) = full.split_first_chunk() else { return false };
    let namespace = NamespaceId(u32::from_be_bytes(*id));
    let _held = engine.stripes.lock_one(namespace, key);
    take_out(engine, namespace, full, location)
}

/// Takes the object under a key out of the index if it has expired, before the sweep comes to it.
/// The caller holds the key's lock.
pub(in super::super) fn collect_if_expired(engine: &Engine, namespace: NamespaceId, key: &[u8]) {
    let Some(full) = FullKey::new(namespace, key) else { return };
    let Some(location) = engine.index.get(full.bytes()) else { return };
    // A damaged object is left for verify and repair to name.
    if matches!(lookup::is_expired(engine, full.bytes(), location, engine.env.now_ms()), Ok(true)) {
        take_out(engine, namespace, full.bytes(), location);
    }
}

/// Nothing is written to the log: replay passes over what has expired.
fn take_out(engine: &Engine, namespace: NamespaceId, full: &[u8], location: Location) -> bool {
    let removed = engine.index.remove_if(full, location);
    if removed {
        engine.add_dead(full.len() - size_of_val(&namespace.0), location);
        engine.namespaces.with_count(namespace, |count| count.add(-1));
    }
    removed
}

/// Starts the thread that maintains the engine until it is closed or dropped.
pub(super) fn start_worker(engine: &Arc<Engine>) -> Result<()> {
    let weak = Arc::downgrade(engine);
    let stop = Arc::clone(&engine.stop);
    let interval = engine.options.maintenance_interval;
    let handle = engine.env.spawn(
        "sira-maintain",
        Box::new(move || {
            loop {
                stop.pause(interval);
                if stop.is_stopping() {
                    return;
                }
                let Some(engine) = weak.upgrade() else { return };
                match engine.maintain() {
                    Ok(_) => *engine.maintenance_error.lock() = None,
                    Err(error) => engine.maintenance_failed(&error),
                }
            }
        }),
    )?;
    *engine.worker.lock() = Some(handle);
    Ok(())
}

impl Engine {
    /// Lack of space shows to writers by itself; anything else is kept for [`Engine::health`].
    fn maintenance_failed(&self, error: &StorageError) {
        if !checkpoint::is_out_of_space(error) {
            *self.maintenance_error.lock() = Some(error.to_string());
        }
    }
}

/// Checkpoints if it pays, and closes the log.
pub(super) fn close(engine: &Engine) -> Result<()> {
    let mut state = engine.maintenance.state.lock();
    let behind = bytes_since(engine, state.checkpoint);
    if engine.log.check_writable().is_ok() && behind >= CLOSE_CHECKPOINT_BYTES {
        match checkpoint_now(engine, &mut state) {
            Ok(()) => {
                remove_rewritten(engine, &mut state)?;
            }
            // Without it, the next open replays more.
            Err(error) if checkpoint::is_out_of_space(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(engine.log.close()?)
}

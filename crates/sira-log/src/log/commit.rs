//! Group commit: one caller syncs for all that wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::grow::Ahead;
use super::mark::Mark;
use super::{SegmentLog, Shared};
use crate::error::{LogError, Result};
use crate::record::LogPosition;

/// Called after each sync.
pub(super) type Watcher = Arc<dyn Fn() + Send + Sync>;

/// Who syncs and who asked for it.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    /// Somebody is syncing now.
    pub(super) leading: bool,
    /// The committer thread is to make everything below this sequence durable.
    pub(super) wanted: u64,
    /// By when a timed sync is due, on the monotonic clock.
    pub(super) due: Option<Duration>,
    /// What the committer thread is to do ahead of the writer.
    pub(super) ahead: Ahead,
    /// The committer thread is to end.
    pub(super) stopping: bool,
    /// Calls that wait for a sync that has not begun.
    pending: usize,
    /// A call waits for more of them, to sync for all.
    gathering: Option<Gathering>,
    /// Gatherings so far.
    gatherings: u64,
    /// Calls that are likely to wait for the next sync: those that the last one released, and those
    /// that had come meanwhile.
    expected: usize,
    /// Syncs until the leader waits for others again, after they did not come in time.
    alone: u32,
    /// How long a sync takes, smoothed.
    sync_time: Duration,
}

/// A call that waits for others before it syncs for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gathering {
    /// Number of the gathering: who wakes up from another one is not the leader any more.
    number: u64,
    /// Calls that are likely to come.
    wanted: usize,
}

/// Longest that a leader waits for others; no longer than a sync takes either.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// Syncs without waiting after a wait in vain.
const ALONE_SYNCS: u32 = 8;

impl SegmentLog {
    /// Blocks until every record below `ticket` is durable. If nobody syncs, this thread does it
    /// for all that wait.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] when the sync, now or earlier, failed: what is durable is unknown.
    pub fn wait_durable(&self, ticket: u64) -> Result<()> {
        self.shared.wait_durable(ticket)
    }

    /// Asks for everything below `ticket` to become durable and returns at once. Watchers are
    /// called when it is, or when the log fails.
    pub fn request_durable(&self, ticket: u64) {
        if self.durable() >= ticket {
            self.shared.call_watchers();
            return;
        }
        self.shared.request_sync(ticket);
    }

    /// Asks for everything so far to become durable within `delay`.
    pub fn request_durable_within(&self, delay: Duration) {
        let due = self.shared.env.monotonic() + delay;
        let mut sync = self.shared.sync.lock();
        if sync.due.is_none_or(|earlier| due < earlier) {
            sync.due = Some(due);
            drop(sync);
            self.shared.wanted.notify_one();
        }
    }

    /// How long a sync takes of late, smoothed; zero before the first.
    #[must_use]
    pub fn sync_time(&self) -> Duration {
        self.shared.sync.lock().sync_time
    }

    /// Calls `watcher` after each sync, from the thread that synced, and when the log fails. It must
    /// be quick and must not call the log.
    pub fn watch_durable(&self, watcher: Arc<dyn Fn() + Send + Sync>) {
        self.shared.watchers.lock().push(watcher);
    }

    /// Does the committer thread's work that is due now, for logs without one.
    ///
    /// # Errors
    /// As [`SegmentLog::wait_durable`].
    pub fn run_due_sync(&self) -> Result<()> {
        let ahead = std::mem::take(&mut self.shared.sync.lock().ahead);
        self.shared.work_ahead(ahead);
        let ticket = {
            let mut sync = self.shared.sync.lock();
            let due = sync.due.is_some_and(|due| due <= self.shared.env.monotonic());
            if due {
                sync.due = None;
                self.appended()
            } else {
                sync.wanted
            }
        };
        self.wait_durable(ticket)
    }
}

impl Shared {
    /// Asks the committer thread for a sync up to `ticket`.
    pub(super) fn request_sync(&self, ticket: u64) {
        let mut sync = self.sync.lock();
        if ticket > sync.wanted {
            sync.wanted = ticket;
            drop(sync);
            self.wanted.notify_one();
        }
    }

    pub(super) fn wait_durable(&self, ticket: u64) -> Result<()> {
        let mut counted = false;
        loop {
            if self.durable.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            if let Some(reason) = &*self.poisoned.lock() {
                return Err(LogError::Poisoned { reason: reason.clone() });
            }
            let mut sync = self.sync.lock();
            if self.durable.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            if !counted {
                counted = true;
                sync.pending += 1;
            }
            if sync.leading {
                match sync.gathering {
                    // The group is whole: whoever completes it leads, the one that gathered it
                    // would have to be woken first.
                    Some(gathering) if sync.pending >= gathering.wanted => sync.gathering = None,
                    _ => {
                        let turn = self.synced.turn();
                        drop(sync);
                        self.synced.wait(turn);
                        continue;
                    }
                }
            } else {
                sync.leading = true;
                if !self.gather(&mut sync) {
                    let turn = self.synced.turn();
                    let leading = sync.leading;
                    drop(sync);
                    if leading {
                        self.synced.wait(turn);
                    }
                    continue;
                }
            }
            let group = std::mem::take(&mut sync.pending);
            drop(sync);
            self.lead(group)?;
        }
    }

    /// Syncs for a group of calls.
    fn lead(&self, group: usize) -> Result<()> {
        let start = self.env.monotonic();
        let result = self.sync_active();
        let took = self.env.monotonic().saturating_sub(start);
        let mut sync = self.sync.lock();
        sync.leading = false;
        sync.expected = group + sync.pending;
        sync.sync_time = (sync.sync_time * 7 + took) / 8;
        if let Ok(true) = result {
            sync.ahead.zeros = true;
            self.wanted.notify_one();
        }
        drop(sync);
        self.synced.advance();
        // Whoever gathered this group and was overtaken.
        self.gathered.notify_all();
        self.call_watchers();
        result.map(|_| ())
    }

    /// Waits a moment for the calls that the last sync released to come back, so that one sync
    /// covers all of them instead of every other one half. Says whether this call is still the one
    /// to lead.
    fn gather(&self, sync: &mut MutexGuard<'_, SyncState>) -> bool {
        // The last one to be woken is often late: one in eight may miss.
        let wanted = sync.expected - sync.expected / 8;
        if sync.pending >= wanted {
            return true;
        }
        if sync.alone > 0 {
            sync.alone -= 1;
            return true;
        }
        let limit = sync.sync_time.min(GATHER_MAX);
        sync.gatherings += 1;
        let gathering = Some(Gathering { number: sync.gatherings, wanted });
        sync.gathering = gathering;
        while sync.gathering == gathering {
            if self.gathered.wait_for(sync, limit).timed_out() {
                break;
            }
        }
        if sync.gathering != gathering {
            return false;
        }
        sync.gathering = None;
        if sync.pending < wanted {
            sync.alone = ALONE_SYNCS;
        }
        true
    }

    /// Syncs what has been appended; says whether zeros should be written ahead.
    fn sync_active(&self) -> Result<bool> {
        let (segment, offset, sequence) = {
            let tail = self.tail.lock();
            (Arc::clone(&tail.active), tail.offset, tail.sequence)
        };
        if let Err(source) = segment.file.sync() {
            let error = LogError::Io { action: "sync", path: segment.path.clone(), source };
            self.poison(&error);
            return Err(LogError::Poisoned { reason: error.to_string() });
        }
        // A failed write or an earlier failed sync leaves unknown what this one covered.
        if let Some(reason) = &*self.poisoned.lock() {
            return Err(LogError::Poisoned { reason: reason.clone() });
        }
        let before = *self.durable_end.lock();
        let from = if before.segment == segment.id { before.offset } else { 0 };
        let write_ahead = self.count_sync(&segment, offset, offset.saturating_sub(from));
        // A newer mark than this one may be there after a rotation; marks only grow.
        let mut mark = self.mark.lock();
        let end = LogPosition { segment: segment.id, offset };
        if self.publish_durable(sequence, end) {
            let _ = mark.write(Mark { segment: segment.id, offset, sequence, clean: false });
        }
        Ok(write_ahead)
    }

    /// Raises the durable sequence; says whether it rose.
    pub(super) fn publish_durable(&self, sequence: u64, end: LogPosition) -> bool {
        let mut durable_end = self.durable_end.lock();
        *durable_end = end.max(*durable_end);
        self.durable.fetch_max(sequence, Ordering::AcqRel) < sequence
    }

    pub(super) fn call_watchers(&self) {
        let watchers = self.watchers.lock();
        for watcher in &*watchers {
            watcher();
        }
    }

    /// Syncs, cuts the active file to its length and writes the clean mark.
    pub(super) fn close(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        if tail.closed {
            return Ok(());
        }
        tail.closed = true;
        if let Some(reason) = &*self.poisoned.lock() {
            return Err(LogError::Poisoned { reason: reason.clone() });
        }
        self.cut_and_sync(&tail)?;
        self.publish_durable(tail.sequence, tail.position());
        let mut mark = self.mark.lock();
        let path = self.root.join(super::METADATA_DIR);
        mark.write(Mark {
            segment: tail.active.id,
            offset: tail.offset,
            sequence: tail.sequence,
            clean: true,
        })
        .and_then(|()| mark.sync())
        .map_err(LogError::io("write the mark in", &path))?;
        drop(mark);
        drop(tail);
        self.call_watchers();
        Ok(())
    }

    /// The committer thread: serves requests for durability until it is told to stop.
    pub(super) fn run_committer(&self) {
        let mut sync = self.sync.lock();
        loop {
            if sync.stopping {
                return;
            }
            let ahead = std::mem::take(&mut sync.ahead);
            if ahead != Ahead::default() {
                drop(sync);
                self.work_ahead(ahead);
                sync = self.sync.lock();
                continue;
            }
            let now = self.env.monotonic();
            let due = sync.due.is_some_and(|due| due <= now);
            let wanted = sync.wanted > self.durable.load(Ordering::Acquire);
            if due || wanted {
                let ticket = if due {
                    sync.due = None;
                    self.appended.load(Ordering::Acquire).max(sync.wanted)
                } else {
                    sync.wanted
                };
                drop(sync);
                // An error is kept as poison and told to everybody who asks.
                let failed = self.wait_durable(ticket).is_err();
                if failed {
                    self.call_watchers();
                }
                sync = self.sync.lock();
                if failed {
                    sync.wanted = 0;
                    sync.due = None;
                }
                continue;
            }
            match sync.due {
                Some(due) => {
                    self.wanted.wait_for(&mut sync, due.saturating_sub(now));
                }
                None => self.wanted.wait(&mut sync),
            }
        }
    }
}

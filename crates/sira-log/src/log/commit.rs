//! Group commit: one caller syncs for all that wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    /// The committer thread is to end.
    pub(super) stopping: bool,
}

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
        loop {
            if self.durable.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            if let Some(reason) = &*self.poisoned.lock() {
                return Err(LogError::Poisoned { reason: reason.clone() });
            }
            let mut sync = self.sync.lock();
            if sync.leading {
                self.synced.wait(&mut sync);
                continue;
            }
            if self.durable.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            sync.leading = true;
            drop(sync);
            let result = self.sync_active();
            self.sync.lock().leading = false;
            self.synced.notify_all();
            self.call_watchers();
            result?;
        }
    }

    /// Syncs what has been appended.
    fn sync_active(&self) -> Result<()> {
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
        self.syncs.fetch_add(1, Ordering::Relaxed);
        // A newer mark than this one may be there after a rotation; marks only grow.
        let mut mark = self.mark.lock();
        let end = LogPosition { segment: segment.id, offset };
        if self.publish_durable(sequence, end) {
            let _ = mark.write(Mark { segment: segment.id, offset, sequence, clean: false });
        }
        Ok(())
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

//! What the committer thread does ahead of the writer, so that few appends wait for the medium.
//!
//! A file grows in steps, the next one before the last is used up. Where records are synced in small
//! groups and the log writes its reserve, a step is filled with zeros and synced before the writer
//! gets there: a group's sync then has no new blocks to record. A segment that is nearly full is
//! synced and the file of the next one made before the end of the log is taken to go on there.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::prepare_segment;
use super::segment::SEGMENT_START;
use super::{Segment, Shared, Tail};
use crate::error::{LogError, Result};

/// Smallest space that is reserved when the medium is nearly full.
const RESERVE_BYTES_MIN: u64 = 64 << 10;

/// Zeros that are written out at a time.
const WRITTEN_BYTES: u64 = 1 << 20;

/// A sync that covers less than this is one of many small ones.
const SMALL_SYNC_BYTES: u64 = 256 << 10;

/// Bytes after which a sync is asked for where nobody else asks.
const SYNC_STEP_BYTES: u64 = 16 << 20;

/// A segment is sealed ahead from this part of its size on: 1 less one in this many.
const SEAL_SHARE: u64 = 8;

/// Smaller segments are sealed where they are full: that is quick, and predictable.
const SEAL_BYTES_MIN: u64 = 1 << 20;

/// Bytes after which a writer looks again whether there is room, while it is being made.
const LOOK_AGAIN_BYTES: u64 = 64 << 10;

/// What the committer thread is to do ahead of the writer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Write zeros behind the end of the active file.
    pub(super) zeros: bool,
    /// Make the active file longer.
    pub(super) room: bool,
    /// Seal the active segment.
    pub(super) seal: bool,
}

/// Held while the length of the active file changes; taken after the tail where both are.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The last step, in bytes.
    step: u64,
    /// Small syncs that there had been then.
    small_syncs: u64,
}

impl Shared {
    /// Reserves space for the active segment up to `end` at least, and some ahead while there is
    /// room for it.
    pub(super) fn grow(&self, tail: &mut Tail, end: u64) -> Result<()> {
        if end <= tail.active.file.len() {
            return Ok(());
        }
        tail.look_ahead_at = 0;
        let segment = &*tail.active;
        let mut growth = self.growth.lock();
        // The committer may just have made room.
        if end <= segment.file.len() {
            return Ok(());
        }
        let limit = segment.reserve;
        let mut ahead = self.next_step(&mut growth);
        loop {
            let target = (end + ahead).next_multiple_of(4096).min(limit).max(end);
            match segment.file.allocate(target, false) {
                Ok(()) => {
                    drop(growth);
                    self.sync_in_steps(segment, end);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {
                    if ahead == 0 {
                        return Err(LogError::OutOfSpace { bytes: end, path: self.root.clone() });
                    }
                    ahead = if ahead > RESERVE_BYTES_MIN { ahead / 4 } else { 0 };
                }
                Err(source) => {
                    return Err(LogError::Io {
                        action: "allocate",
                        path: segment.path.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// Asks for a sync when much was written since the last one, so that no sync takes long.
    fn sync_in_steps(&self, segment: &Segment, end: u64) {
        let durable = *self.durable_end.lock();
        let from = if durable.segment == segment.id { durable.offset } else { SEGMENT_START };
        if end.saturating_sub(from) >= SYNC_STEP_BYTES {
            self.request_sync(self.appended.load(Ordering::Acquire));
        }
    }

    /// Small steps while syncs are small, so that what is written ahead gets used; then larger ones.
    fn next_step(&self, growth: &mut Growth) -> u64 {
        let largest = self.options.reserve_bytes;
        if !self.options.write_reserve {
            growth.step = largest;
            return largest;
        }
        let step = if self.syncs_are_small(growth) { 0 } else { growth.step * 4 };
        let small_syncs = self.small_syncs.load(Ordering::Relaxed);
        *growth = Growth { step: step.max(WRITTEN_BYTES).min(largest), small_syncs };
        growth.step
    }

    /// Whether the log writes its reserve, and there was a small sync since the last step.
    fn syncs_are_small(&self, growth: &Growth) -> bool {
        self.options.write_reserve && self.small_syncs.load(Ordering::Relaxed) != growth.small_syncs
    }

    /// Counts a sync that covered `bytes` up to `offset`; says whether zeros should be written
    /// ahead now.
    pub(super) fn count_sync(&self, segment: &Segment, offset: u64, bytes: u64) -> bool {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if !self.options.write_reserve || bytes >= SMALL_SYNC_BYTES {
            return false;
        }
        self.small_syncs.fetch_add(1, Ordering::Relaxed);
        let len = segment.file.len();
        len < segment.reserve && len.saturating_sub(offset) < WRITTEN_BYTES / 2
    }

    /// Asks for what will soon be needed, and notes when to look again.
    pub(super) fn look_ahead(&self, tail: &mut Tail) {
        let segment_bytes = self.options.segment_bytes;
        let sealable = !self.options.background || segment_bytes >= SEAL_BYTES_MIN;
        let seal_at = match sealable && !tail.sealing {
            true => segment_bytes - segment_bytes / SEAL_SHARE,
            false => u64::MAX,
        };
        let room_at = match self.growth.try_lock() {
            // It grows by zeros then.
            Some(growth) if self.syncs_are_small(&growth) => u64::MAX,
            Some(growth) if tail.active.file.len() < tail.active.reserve => {
                tail.active.file.len().saturating_sub(growth.step / 2)
            }
            Some(_) => u64::MAX,
            // It is growing.
            None => tail.offset + LOOK_AGAIN_BYTES,
        };
        let ahead = Ahead {
            zeros: false,
            room: tail.offset >= room_at,
            seal: tail.offset >= seal_at && tail.offset > SEGMENT_START,
        };
        tail.sealing |= ahead.seal;
        // What was asked for now is looked at again when it is done.
        let next = |at: u64| if at > tail.offset { at } else { u64::MAX };
        tail.look_ahead_at = next(seal_at).min(next(room_at));
        if ahead != Ahead::default() {
            let mut sync = self.sync.lock();
            sync.ahead.room |= ahead.room;
            sync.ahead.seal |= ahead.seal;
            drop(sync);
            self.wanted.notify_one();
        }
    }

    /// Does what the committer thread was asked to do ahead.
    pub(super) fn work_ahead(&self, ahead: Ahead) {
        if ahead.zeros {
            self.grow_ahead(true);
        }
        if ahead.room {
            self.grow_ahead(false);
        }
        if ahead.seal {
            self.seal_ahead();
        }
    }

    /// Makes the active file longer, with zeros that are on the medium where `written`.
    fn grow_ahead(&self, written: bool) {
        let tail = self.tail.lock();
        if tail.closed || self.refusing.load(Ordering::Acquire) {
            return;
        }
        // Whoever holds it makes room already.
        let Some(mut growth) = self.growth.try_lock() else { return };
        let segment = Arc::clone(&tail.active);
        drop(tail);
        let step = if written { WRITTEN_BYTES } else { self.next_step(&mut growth) };
        let target = (segment.file.len() + step).min(segment.reserve);
        let grown = segment.file.allocate(target, written);
        drop(growth);
        match grown {
            Ok(()) => {
                self.sync_in_steps(&segment, segment.used());
                self.tail.lock().look_ahead_at = 0;
            }
            // The next append finds out how much room there is.
            Err(error) if is_full(&error) => {}
            // The sync of the zeros may have been told of records that were lost.
            Err(source) => {
                let path = segment.path.clone();
                self.poison(&LogError::Io { action: "make room in", path, source });
            }
        }
    }

    /// Seals the active segment with most of the work done before the end of the log is taken.
    fn seal_ahead(&self) {
        let nearly_full = self.tail.lock().active.id;
        // The second covers what came during the first, which may have been much.
        for _ in 0..2 {
            if self.wait_durable(self.appended.load(Ordering::Acquire)).is_err() {
                return;
            }
        }
        let mut prepared = self.prepared.lock();
        if prepared.is_none() {
            // The tail is not looked at here: who holds it may wait for `prepared`.
            if self.segments.load().last_key_value().is_none_or(|last| *last.0 != nearly_full) {
                return;
            }
            match prepare_segment(&self.place()) {
                Ok(file) => *prepared = Some(file),
                Err(LogError::OutOfSpace { .. }) => return,
                Err(error) => return self.poison(&error),
            }
        }
        drop(prepared);
        let mut tail = self.tail.lock();
        if tail.active.id == nearly_full && !tail.closed && !self.refusing.load(Ordering::Acquire) {
            // Where it fails for want of space, the writer tries again; else the log has stopped.
            let _ = self.rotate(&mut tail, 0);
        }
    }

    /// Removes the file of a next segment that is not needed any more.
    pub(super) fn drop_prepared(&self) {
        if let Some(prepared) = self.prepared.lock().take() {
            // Recovery drops it where it stays.
            let _ = self.disk.remove_file(&prepared.path);
        }
    }
}

pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests;

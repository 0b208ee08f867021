//! Space ahead of the writer.
//!
//! A file grows in steps, so that few appends wait for it. Where records are synced in small groups
//! and the log writes its reserve, the committer thread fills the next step with zeros and syncs
//! them before the writer gets there: a group's sync then has no new blocks to record.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Segment, Shared};
use crate::error::{LogError, Result};

/// Smallest space that is reserved when the medium is nearly full.
const RESERVE_BYTES_MIN: u64 = 64 << 10;

/// Zeros that are written out at a time.
const WRITTEN_BYTES: u64 = 1 << 20;

/// A sync that covers less than this is one of many small ones.
const SMALL_SYNC_BYTES: u64 = 256 << 10;

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
    pub(super) fn grow(&self, segment: &Segment, end: u64) -> Result<()> {
        if end <= segment.file.len() {
            return Ok(());
        }
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
                    // Syncing in steps keeps the one that seals the segment short.
                    self.request_sync(self.appended.load(Ordering::Acquire));
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

    /// Small steps while syncs are small, so that what is written ahead gets used; then larger ones.
    fn next_step(&self, growth: &mut Growth) -> u64 {
        let largest = self.options.reserve_bytes;
        if !self.options.write_reserve {
            return largest;
        }
        let small_syncs = self.small_syncs.load(Ordering::Relaxed);
        let step = if small_syncs == growth.small_syncs { growth.step * 4 } else { 0 };
        *growth = Growth { step: step.max(WRITTEN_BYTES).min(largest), small_syncs };
        growth.step
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

    /// Writes zeros behind the end of the active file, and makes it that much longer.
    pub(super) fn write_ahead(&self) {
        let tail = self.tail.lock();
        if tail.closed || self.refusing.load(Ordering::Acquire) {
            return;
        }
        // Whoever holds it makes room already.
        let Some(_growth) = self.growth.try_lock() else { return };
        let segment = Arc::clone(&tail.active);
        drop(tail);
        let target = (segment.file.len() + WRITTEN_BYTES).min(segment.reserve);
        match segment.file.allocate(target, true) {
            Ok(()) => {}
            // The next append finds out how much room there is.
            Err(error) if is_full(&error) => {}
            // The sync of the zeros may have been told of records that were lost.
            Err(source) => {
                let path = segment.path.clone();
                self.poison(&LogError::Io { action: "write ahead in", path, source });
            }
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

//! Segments of records: append, group commit, recovery.
//!
//! [`SegmentLog`] is what [`crate::LogStorage`] and the embedded engine stand on. Records go to the
//! active segment, one frame each; a full segment is made durable, cut to its length and sealed, and
//! the next one begins. At any time the durable part of the log is a prefix of it.

mod append;
mod commit;
mod grow;
mod mark;
mod open;
mod scan;
mod scrub;
mod segment;
mod stream;
mod turnstile;
mod verify;

pub(crate) use segment::{is_month, segment_id};

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use append::Prepared;
pub use append::{Appended, Entry, Reservation};
pub use open::{Damage, OpenReport, TornTail};
pub use scan::{Found, RecordRef, SegmentBytes};
pub use scrub::ScrubStep;
pub use segment::{SEGMENT_START, Segment};
pub use verify::{RepairReport, SegmentCopy, VerifyReport};

use crate::disk::Disk;
use crate::env::Env;
use crate::error::{LogError, Result};
use crate::record::LogPosition;
use commit::{SyncState, Watcher};
use grow::Growth;
use mark::MarkFile;
use turnstile::Turnstile;

/// Folder of what is kept beside the segments.
pub(crate) const METADATA_DIR: &str = ".metadata";

/// How a log is laid out and grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLogOptions {
    /// First part of the segments' file names.
    pub stem: String,
    /// Size at which a segment is sealed, in bytes. A record that is larger gets a segment of its
    /// own.
    pub segment_bytes: u64,
    /// Space that is reserved ahead of the writer, in bytes.
    pub reserve_bytes: u64,
    /// While records are synced in small groups, write zeros ahead of them from the background
    /// thread, so that a sync has no new blocks to record. Doubles what is written then.
    pub write_reserve: bool,
    /// Run the thread that serves [`SegmentLog::request_durable`] and timed syncs. Without it, the
    /// owner calls [`SegmentLog::run_due_sync`].
    pub background: bool,
}

impl Default for SegmentLogOptions {
    fn default() -> Self {
        Self {
            stem: "messages".to_owned(),
            segment_bytes: 256 << 20,
            reserve_bytes: 32 << 20,
            write_reserve: false,
            background: true,
        }
    }
}

/// The active segment and what the next record gets.
#[derive(Debug)]
struct Tail {
    active: Arc<Segment>,
    offset: u64,
    sequence: u64,
    closed: bool,
    /// Offset from which an append asks for room, or for the next segment, ahead of its need.
    look_ahead_at: u64,
    /// The committer thread was asked to seal the segment.
    sealing: bool,
}

impl Tail {
    fn new(active: Arc<Segment>, offset: u64, sequence: u64) -> Self {
        Self { active, offset, sequence, closed: false, look_ahead_at: 0, sealing: false }
    }

    fn position(&self) -> LogPosition {
        LogPosition { segment: self.active.id, offset: self.offset }
    }
}

/// A log of records in segments.
pub struct SegmentLog {
    shared: Arc<Shared>,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
    _lock: Box<dyn Send + Sync>,
}

/// What the committer thread shares with the log.
struct Shared {
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    root: PathBuf,
    options: SegmentLogOptions,
    tail: Mutex<Tail>,
    /// Read without a lock, replaced whole.
    segments: ArcSwap<BTreeMap<u32, Arc<Segment>>>,
    /// Next sequence, published after the record is readable.
    appended: AtomicU64,
    /// Every record below this sequence is durable.
    durable: AtomicU64,
    /// Where the durable part of the log ends.
    durable_end: Mutex<LogPosition>,
    next_segment: AtomicU64,
    growth: Mutex<Growth>,
    /// The file of the next segment, where it was made ahead. Taken after the tail where both are, and
    /// held while the file is made, so that files are made in the order of their numbers.
    prepared: Mutex<Option<Prepared>>,
    sync: Mutex<SyncState>,
    synced: Turnstile,
    gathered: Condvar,
    wanted: Condvar,
    mark: Mutex<MarkFile>,
    watchers: Mutex<Vec<Watcher>>,
    poisoned: Mutex<Option<String>>,
    damage: Mutex<Vec<Damage>>,
    refusing: AtomicBool,
    syncs: AtomicU64,
    small_syncs: AtomicU64,
}

impl std::fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentLog")
            .field("root", &self.shared.root)
            .field("appended", &self.appended())
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}

impl SegmentLog {
    /// Opens or makes the log in the folder `root`.
    ///
    /// # Errors
    /// [`LogError::Locked`] while another process has it, [`LogError::Format`] for a folder that is
    /// not a log, [`LogError::OutOfSpace`], [`LogError::Io`]. Damage is no error: it is in the report,
    /// and appends answer [`LogError::Damaged`].
    pub fn open(
        disk: Arc<dyn Disk>,
        env: Arc<dyn Env>,
        root: &Path,
        options: SegmentLogOptions,
    ) -> Result<(Self, OpenReport)> {
        open::open(disk, env, root, options)
    }

    /// Folder of the log.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The medium that the log is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.shared.disk
    }

    /// The environment that the log runs in.
    #[must_use]
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.shared.env
    }

    /// How the log was opened.
    #[must_use]
    pub fn options(&self) -> &SegmentLogOptions {
        &self.shared.options
    }

    /// Sequence that the next record gets; every record below it is readable.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// Every record below this sequence is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Everything before this position is durable.
    #[must_use]
    pub fn durable_position(&self) -> LogPosition {
        *self.shared.durable_end.lock()
    }

    /// Number of the segment that takes records now.
    #[must_use]
    pub fn active_segment(&self) -> Arc<Segment> {
        Arc::clone(&self.shared.tail.lock().active)
    }

    /// The segment of this number.
    #[must_use]
    pub fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        self.shared.segments.load().get(&id).cloned()
    }

    /// Lends the segment of this number, without counting a reference.
    pub fn with_segment<R>(&self, id: u32, visit: impl FnOnce(&Segment) -> R) -> Option<R> {
        self.shared.segments.load().get(&id).map(|segment| visit(segment))
    }

    /// Where the next record goes, and its sequence.
    #[must_use]
    pub fn end(&self) -> (LogPosition, u64) {
        let tail = self.shared.tail.lock();
        (tail.position(), tail.sequence)
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.shared.segments.load().values().cloned().collect()
    }

    /// Syncs of the log since it was opened.
    #[must_use]
    pub fn sync_count(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Damage that was found and is not repaired.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.shared.damage.lock().clone()
    }

    /// Records damage that a reader found, so that writes are refused until it is repaired.
    pub fn report_damage(&self, damage: Damage) {
        let mut known = self.shared.damage.lock();
        if !known.contains(&damage) {
            known.push(damage);
            // Without the list, the next open only finds out again when it scans.
            let _ = open::store_damage(&*self.shared.disk, &self.shared.root, &known);
        }
        self.shared.refusing.store(true, Ordering::Release);
    }

    /// Forgets known damage, after it was repaired or given up, so that writes go on.
    ///
    /// # Errors
    /// [`LogError::Io`] when the list of damage cannot be written; the damage is then known still
    /// at the next open.
    pub fn clear_damage(&self) -> Result<()> {
        let mut known = self.shared.damage.lock();
        known.clear();
        open::store_damage(&*self.shared.disk, &self.shared.root, &known)?;
        drop(known);
        let poisoned = self.shared.poisoned.lock().is_some();
        self.shared.refusing.store(poisoned, Ordering::Release);
        Ok(())
    }

    /// `Err` while the log takes no records.
    ///
    /// # Errors
    /// [`LogError::Poisoned`], [`LogError::Damaged`].
    pub fn check_writable(&self) -> Result<()> {
        self.shared.check_writable()
    }

    /// Removes a sealed segment. Bytes that readers hold stay valid.
    ///
    /// # Errors
    /// [`LogError::InvalidInput`] for the active segment or one that is not there, [`LogError::Io`].
    pub fn remove_segment(&self, id: u32) -> Result<()> {
        let Some(segment) = self.segment(id).filter(|segment| segment.is_sealed()) else {
            return Err(LogError::InvalidInput(format!("segment {id} is not sealed")));
        };
        let path = &segment.path;
        self.shared.disk.remove_file(path).map_err(LogError::io("remove", path))?;
        self.shared.segments.rcu(|segments| {
            let mut segments = BTreeMap::clone(segments);
            segments.remove(&id);
            segments
        });
        Ok(())
    }

    /// Removes month folders that hold nothing any more, and makes removals durable.
    ///
    /// # Errors
    /// [`LogError::Io`]
    pub fn remove_empty_months(&self) -> Result<()> {
        let disk = &self.shared.disk;
        let root = &self.shared.root;
        let entries = disk.list(root).map_err(LogError::io("list", root))?;
        for month in entries.iter().filter(|entry| entry.is_dir && segment::is_month(&entry.name)) {
            let path = root.join(&month.name);
            disk.sync_dir(&path).map_err(LogError::io("sync", &path))?;
            if disk.list(&path).map_err(LogError::io("list", &path))?.is_empty() {
                disk.remove_dir(&path).map_err(LogError::io("remove", &path))?;
            }
        }
        disk.sync_dir(root).map_err(LogError::io("sync", root))
    }

    /// Makes all records durable, marks the end, and refuses later appends. A second call does
    /// nothing.
    ///
    /// # Errors
    /// As [`SegmentLog::wait_durable`].
    pub fn close(&self) -> Result<()> {
        let result = self.shared.close();
        self.stop_committer();
        self.shared.drop_prepared();
        result
    }

    fn stop_committer(&self) {
        self.shared.sync.lock().stopping = true;
        self.shared.wanted.notify_all();
        // A watcher may drop the last reference to the log's owner, on the committer's own thread.
        if let Some(handle) = self.committer.lock().take()
            && handle.thread().id() != std::thread::current().id()
        {
            // A panic of the committer already showed; there is nothing left to do for it.
            let _ = handle.join();
        }
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.stop_committer();
    }
}

impl Shared {
    fn check_writable(&self) -> Result<()> {
        if !self.refusing.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(reason) = &*self.poisoned.lock() {
            return Err(LogError::Poisoned { reason: reason.clone() });
        }
        match self.damage.lock().first() {
            Some(damage) => {
                Err(LogError::Damaged { segment: damage.segment, offset: damage.start })
            }
            None => Ok(()),
        }
    }

    /// Stops all writing: what is durable is unknown now.
    fn poison(&self, error: &LogError) {
        let mut poisoned = self.poisoned.lock();
        if poisoned.is_none() {
            *poisoned = Some(error.to_string());
        }
        self.refusing.store(true, Ordering::Release);
    }
}

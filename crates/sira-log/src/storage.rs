//! Layer 1: log storage.
//!
//! ```
//! # fn main() -> sira_log::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! use sira_log::{AppendOptions, LogItem, LogReadOptions, LogStorage, LogStorageOptions};
//!
//! let log = LogStorage::open(LogStorageOptions::new(dir.path()))?;
//! log.append(LogItem::text("hello"), &AppendOptions::default())?;
//! log.append(LogItem::json(&["typed", "items"])?.as_item(), &AppendOptions::default())?;
//! for record in log.read(&LogReadOptions::default())? {
//!     let record = record?;
//!     println!("{}: {:?}", record.sequence, record.data);
//! }
//! log.close()
//! # }
//! ```

mod append;
mod body;
mod index;
mod mirror;
mod reader;
mod tail;
mod unpack;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub use append::{AppendOptions, AppendReceipt};
pub use body::{JsonItem, LogItem};
pub use mirror::{MirrorReport, MirrorState};
pub use reader::{LogReadOptions, LogReader, LogRecord, ReadDirection};
pub use tail::LogTail;
pub use unpack::unpack_record;

use crate::disk::{Disk, OsDisk};
use crate::env::{Env, SystemEnv};
use crate::error::{LogError, Result};
use crate::log::{
    OpenReport, RepairReport, SegmentCopy, SegmentLog, SegmentLogOptions, VerifyReport,
};
use crate::record::LogPosition;
use index::SegmentIndexes;
use mirror::Mirror;

/// When an append returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDurability {
    /// After an fsync that covers it; appends that wait share one.
    Sync,
    /// At once; an fsync follows within this many milliseconds.
    Interval(u64),
    /// At once; the operating system writes back when it likes.
    None,
}

/// How a log is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStorageOptions {
    /// Folder of the log.
    pub primary_path: PathBuf,
    /// Folder of a second copy, on another medium.
    pub mirror_path: Option<PathBuf>,
    /// Compare each record that is read with the mirror's copy.
    pub verify_mirror_on_read: bool,
    /// Put a copy that does not verify back from the one that does, without being asked.
    pub auto_repair_inconsistency: bool,
    /// First part of the segments' file names.
    pub stem: String,
    /// Size at which a segment is sealed, in bytes.
    pub segment_bytes: u64,
    /// Durability of appends that name none.
    pub durability: LogDurability,
    /// Whether the log runs threads of its own, for timed syncs and the mirror.
    pub background: bool,
}

impl LogStorageOptions {
    /// The defaults for a log in this folder: no mirror, segments of 256 MiB, `Sync`.
    pub fn new(primary_path: impl Into<PathBuf>) -> Self {
        Self {
            primary_path: primary_path.into(),
            mirror_path: None,
            verify_mirror_on_read: false,
            auto_repair_inconsistency: false,
            stem: "messages".to_owned(),
            segment_bytes: 256 << 20,
            durability: LogDurability::Sync,
            background: true,
        }
    }
}

/// What `append` must remember between calls.
#[derive(Debug, Default)]
struct Writers {
    /// Newest fencing epoch that wrote.
    epoch: u64,
    /// Receipts by idempotency key, with the segment each is in; filled at the first keyed append.
    keys: Option<HashMap<Vec<u8>, AppendReceipt>>,
    order: VecDeque<(u32, Vec<u8>)>,
}

/// A log of records in segments by month, with readers, tails, a mirror and repair.
#[derive(Debug)]
pub struct LogStorage {
    inner: Arc<Inner>,
    mirror_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    log: SegmentLog,
    options: LogStorageOptions,
    writers: Mutex<Writers>,
    indexes: SegmentIndexes,
    mirror: Option<Mirror>,
    report: OpenReport,
    grown: Mutex<u64>,
    growth: Condvar,
}

/// What compaction removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Segments removed.
    pub segments: u64,
    /// Bytes they had.
    pub bytes: u64,
}

/// What checking the log and its mirror found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageVerifyReport {
    /// The log itself.
    pub primary: VerifyReport,
    /// The mirror, where there is one.
    pub mirror: Option<MirrorReport>,
}

impl LogStorage {
    /// Opens or makes a log on the operating system's file system.
    ///
    /// # Errors
    /// As [`SegmentLog::open`].
    pub fn open(options: LogStorageOptions) -> Result<Self> {
        Self::open_on(Arc::new(OsDisk), Arc::new(SystemEnv), options)
    }

    /// Opens or makes a log on any medium, in any environment.
    ///
    /// # Errors
    /// As [`SegmentLog::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        env: Arc<dyn Env>,
        options: LogStorageOptions,
    ) -> Result<Self> {
        let log_options = SegmentLogOptions {
            stem: options.stem.clone(),
            segment_bytes: options.segment_bytes,
            reserve_bytes: (options.segment_bytes / 8).clamp(4096, 32 << 20),
            write_reserve: options.durability == LogDurability::Sync,
            background: options.background,
        };
        if let Some(mirror) = &options.mirror_path {
            mirror::restore_lost_primary(&*disk, &options, mirror)?;
        }
        let (log, report) =
            SegmentLog::open(Arc::clone(&disk), env, &options.primary_path, log_options)?;
        let mirror = match &options.mirror_path {
            Some(path) => Some(Mirror::open(disk, path)?),
            None => None,
        };
        let inner = Arc::new(Inner {
            writers: Mutex::new(Writers {
                epoch: append::newest_epoch(&log)?,
                ..Writers::default()
            }),
            indexes: SegmentIndexes::default(),
            grown: Mutex::new(log.appended()),
            growth: Condvar::new(),
            log,
            options,
            mirror,
            report,
        });
        if inner.options.auto_repair_inconsistency
            && let Some(mirror) = &inner.mirror
            && !inner.log.damage().is_empty()
        {
            inner.repair(&mirror.copy())?;
        }
        let mirror_thread = mirror::start(&inner)?;
        Ok(Self { inner, mirror_thread: Mutex::new(mirror_thread) })
    }

    /// What opening found.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// How the log was opened.
    #[must_use]
    pub fn options(&self) -> &LogStorageOptions {
        &self.inner.options
    }

    /// The segments underneath.
    #[must_use]
    pub fn segments(&self) -> &SegmentLog {
        &self.inner.log
    }

    /// Where the next record goes.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.inner.log.end().0
    }

    /// Sequence that the next item gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.inner.log.appended()
    }

    /// Makes all appends so far durable.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]
    pub fn sync(&self) -> Result<()> {
        self.inner.log.wait_durable(self.inner.log.appended())
    }

    /// Removes the oldest segments, as long as all of their records are older than `older_than_ms`
    /// (milliseconds since the Unix epoch). The active segment stays; readers keep what they hold.
    ///
    /// # Errors
    /// [`LogError::Io`]
    pub fn compact(&self, older_than_ms: u64) -> Result<CompactReport> {
        let inner = &self.inner;
        let mut report = CompactReport::default();
        for segment in inner.log.segments() {
            if !segment.is_sealed() {
                break;
            }
            let index = inner.indexes.get(&inner.log, &segment)?;
            if index.time_max().is_some_and(|newest| newest >= older_than_ms) {
                break;
            }
            report.segments += 1;
            report.bytes += segment.used();
            inner.log.remove_segment(segment.id)?;
            inner.indexes.forget(&inner.log, segment.id)?;
            if let Some(mirror) = &inner.mirror {
                mirror.remove(&inner.log, &segment);
            }
        }
        if report.segments > 0 {
            inner.log.remove_empty_months()?;
        }
        Ok(report)
    }

    /// Reads and checks every byte of the log, and of its mirror.
    ///
    /// # Errors
    /// [`LogError::Io`]
    pub fn verify(&self) -> Result<StorageVerifyReport> {
        let primary = self.inner.log.verify()?;
        let mirror = self.inner.mirror.as_ref().map(|mirror| mirror.verify(&self.inner.log));
        Ok(StorageVerifyReport { primary, mirror: mirror.transpose()? })
    }

    /// Puts damage back from the mirror, or gives up what neither copy has, and lets writes go on;
    /// then puts the mirror back from the log.
    ///
    /// # Errors
    /// As [`SegmentLog::repair`].
    pub fn repair(&self) -> Result<RepairReport> {
        let inner = &self.inner;
        let Some(mirror) = &inner.mirror else { return inner.repair(&()) };
        let report = inner.repair(&mirror.copy())?;
        mirror.repair(&inner.log)?;
        Ok(report)
    }

    /// How far the mirror is, where there is one.
    #[must_use]
    pub fn mirror_state(&self) -> Option<MirrorState> {
        self.inner.mirror.as_ref().map(Mirror::state)
    }

    /// Copies everything that is durable to the mirror now, and makes it durable there.
    ///
    /// # Errors
    /// The mirror's; the log itself goes on.
    pub fn sync_mirror(&self) -> Result<()> {
        match &self.inner.mirror {
            Some(mirror) => mirror.catch_up(&self.inner.log),
            None => Ok(()),
        }
    }

    /// Makes everything durable, brings the mirror up, and refuses later appends.
    ///
    /// # Errors
    /// As [`LogStorage::sync`].
    pub fn close(&self) -> Result<()> {
        self.inner.log.close()?;
        self.stop_mirror();
        self.sync_mirror()?;
        for segment in self.inner.log.segments() {
            if segment.is_sealed() {
                self.inner.indexes.get(&self.inner.log, &segment)?;
            }
        }
        Ok(())
    }

    fn stop_mirror(&self) {
        if let Some(mirror) = &self.inner.mirror {
            mirror.stop();
        }
        if let Some(handle) = self.mirror_thread.lock().take() {
            // A panic of the thread already showed; there is nothing left to do for it.
            let _ = handle.join();
        }
    }
}

impl Drop for LogStorage {
    fn drop(&mut self) {
        self.stop_mirror();
    }
}

impl Inner {
    /// Repairs the log. Records that come back bring their epochs and keys along.
    fn repair(&self, copy: &dyn SegmentCopy) -> Result<RepairReport> {
        let mut writers = self.writers.lock();
        let report = self.log.repair(copy)?;
        let epoch = append::newest_epoch(&self.log)?.max(writers.epoch);
        *writers = Writers { epoch, ..Writers::default() };
        Ok(report)
    }

    /// Tells tails that the log has grown.
    fn announce(&self, sequence: u64) {
        let mut grown = self.grown.lock();
        *grown = (*grown).max(sequence);
        self.growth.notify_all();
    }

    /// Waits until the log has grown past `sequence`; says whether it has.
    fn wait_growth(&self, sequence: u64, timeout: Duration) -> bool {
        let mut grown = self.grown.lock();
        self.growth.wait_while_for(&mut grown, |grown| *grown <= sequence, timeout);
        *grown > sequence
    }
}

/// First part of the file names of the log in a folder, from its settings.
///
/// # Errors
/// [`LogError::Format`] for a folder that is not a log, [`LogError::Io`].
pub fn log_stem(disk: &dyn Disk, root: &Path) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Config {
        stem: String,
    }
    let path = root.join(crate::log::METADATA_DIR).join("log.json");
    if !disk.exists(&path) {
        return Err(LogError::Format {
            path: root.to_owned(),
            detail: "there is no .metadata/log.json in it".to_owned(),
        });
    }
    let text = crate::disk::read_all(disk, &path).map_err(LogError::io("read", &path))?;
    serde_json::from_slice::<Config>(&text)
        .map(|config| config.stem)
        .map_err(|error| LogError::Format { path, detail: error.to_string() })
}

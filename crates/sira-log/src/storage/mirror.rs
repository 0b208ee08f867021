//! The mirror: a second copy of the segments, byte for byte, on another medium.
//!
//! The mirror is a sink with a mark of its own. It follows what is durable in the log; when it
//! fails, the log goes on and the mirror catches up later. A folder that was lost is made again
//! while the log serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Inner, LogStorageOptions};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{LogError, Result};
use crate::log::{Damage, Found, Segment, SegmentCopy, SegmentLog};
use crate::record::LogPosition;

/// Bytes that are copied at a time.
const STEP_BYTES: u64 = 4 << 20;

/// Pause before a mirror that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How far a mirror is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirrorState {
    /// Everything before this position is durable in the mirror.
    pub durable: LogPosition,
    /// Why the last attempt to follow failed.
    pub error: Option<String>,
}

/// What comparing the mirror with the log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirrorReport {
    /// Bytes compared.
    pub bytes: u64,
    /// Ranges where the two differ, or that the mirror should have and does not.
    pub differences: Vec<Damage>,
}

#[derive(Debug, Default)]
struct Progress {
    state: MirrorState,
    /// Whether the mirror's files were compared with the log's since it was opened.
    checked: bool,
    signal: bool,
}

/// The second copy.
#[derive(Debug)]
pub(super) struct Mirror {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    progress: Mutex<Progress>,
    /// Held by whoever writes the mirror.
    writing: Mutex<()>,
    wake: Condvar,
    stopping: AtomicBool,
}

/// Reads of the mirror for a repair of the log.
pub(super) struct MirrorCopy<'a>(&'a Mirror);

impl SegmentCopy for MirrorCopy<'_> {
    fn read(&self, segment: &Segment, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.0.read(segment, offset, len)
    }

    fn whole(&self, id: u32, stem: &str) -> Option<(String, Vec<u8>)> {
        let Self(mirror) = self;
        for month in mirror.disk.list(&mirror.root).ok()? {
            if !month.is_dir || !crate::log::is_month(&month.name) {
                continue;
            }
            let folder = mirror.root.join(&month.name);
            let files = mirror.disk.list(&folder).ok()?;
            let is_it = |name: &str| crate::log::segment_id(name, stem) == Some(id);
            if let Some(file) = files.iter().find(|file| !file.is_dir && is_it(&file.name)) {
                let bytes = crate::disk::read_all(&*mirror.disk, &folder.join(&file.name)).ok()?;
                return Some((month.name, bytes.to_vec()));
            }
        }
        None
    }
}

impl Mirror {
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self> {
        disk.create_dir_all(root).map_err(LogError::io("create", root))?;
        Ok(Self {
            disk,
            root: root.to_owned(),
            progress: Mutex::default(),
            writing: Mutex::new(()),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn state(&self) -> MirrorState {
        self.progress.lock().state.clone()
    }

    pub(super) fn copy(&self) -> MirrorCopy<'_> {
        MirrorCopy(self)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.progress.lock().signal = true;
        self.wake.notify_all();
    }

    fn path(&self, log_root: &Path, segment: &Segment) -> PathBuf {
        match segment.path.strip_prefix(log_root) {
            Ok(relative) => self.root.join(relative),
            Err(_) => self.root.join(segment.path.file_name().unwrap_or_default()),
        }
    }

    /// The mirror's file of a segment: month and name are the last two parts of its path.
    fn file(&self, segment: &Segment, mode: OpenMode) -> std::io::Result<Arc<dyn DiskFile>> {
        let month = segment.path.parent().and_then(Path::file_name).unwrap_or_default();
        let name = segment.path.file_name().unwrap_or_default();
        self.disk.open(&self.root.join(month).join(name), mode, 0)
    }

    fn read(&self, segment: &Segment, offset: u64, len: usize) -> Option<Vec<u8>> {
        let file = self.file(segment, OpenMode::Read).ok()?;
        file.read(offset, len).ok().map(|bytes| bytes.to_vec())
    }

    /// The mirror's bytes of a range, if they are whole records.
    pub(super) fn verified(&self, segment: &Segment, range: Damage) -> Option<Vec<u8>> {
        let len = usize::try_from(range.end - range.start).ok()?;
        let copy = self.read(segment, range.start, len)?;
        holds_records(segment, range.start, &copy).then_some(copy)
    }

    /// Copies what is durable in the log and not yet here.
    pub(super) fn catch_up(&self, log: &SegmentLog) -> Result<()> {
        let _held = self.writing.lock();
        let result = self.follow(log);
        let mut progress = self.progress.lock();
        progress.state.error = result.as_ref().err().map(ToString::to_string);
        if result.is_err() {
            progress.checked = false;
        }
        result
    }

    fn follow(&self, log: &SegmentLog) -> Result<()> {
        let target = log.durable_position();
        let (mut reached, checked) = {
            let progress = self.progress.lock();
            (progress.state.durable, progress.checked)
        };
        // A folder that is gone is made again from the start.
        let lost = log.segment(reached.segment).is_some_and(|segment| {
            reached.offset > 0 && !self.disk.exists(&self.path(log.root(), &segment))
        });
        if lost || !checked {
            reached = LogPosition::default();
        }
        for segment in log.segments() {
            if segment.id < reached.segment || segment.id > target.segment {
                continue;
            }
            let end = if segment.id == target.segment { target.offset } else { segment.used() };
            let start = if segment.id == reached.segment { reached.offset } else { 0 };
            if start < end || !checked {
                self.copy_segment(log, &segment, start, end)?;
            }
            let mut progress = self.progress.lock();
            progress.state.durable = LogPosition { segment: segment.id, offset: end };
        }
        self.progress.lock().checked = true;
        Ok(())
    }

    fn copy_segment(
        &self,
        log: &SegmentLog,
        segment: &Segment,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let path = self.path(log.root(), segment);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        let fresh = !self.disk.exists(&path);
        if fresh {
            self.disk.create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
        }
        let mode = if fresh { OpenMode::CreateNew } else { OpenMode::Write };
        let file = self.disk.open(&path, mode, end).map_err(LogError::io("open", &path))?;
        if file.len() > end {
            file.truncate(end).map_err(LogError::io("cut", &path))?;
        }
        file.allocate(end, false).map_err(LogError::io("allocate", &path))?;
        let bytes = segment.read(0, usize::try_from(end).unwrap_or(usize::MAX))?;
        let scanner = segment.scanner(&bytes);
        let mut run = if fresh { 0..0 } else { start..start };
        loop {
            // Damage of the log must not reach a copy that may still be good.
            let next = match scanner.at(run.end, None) {
                Found::Record(record) if run.end < end => {
                    run.end = record.end();
                    if run.end - run.start < STEP_BYTES {
                        continue;
                    }
                    run.end
                }
                _ => scanner.resync(run.end + 4, 0).map_or(end, |record| record.position.offset),
            };
            let (from, to) = (run.start as usize, run.end as usize);
            if from < to && !file.read(run.start, to - from).is_ok_and(|old| old == bytes[from..to])
            {
                file.write_at(run.start, &[&bytes[from..to]])
                    .map_err(LogError::io("write", &path))?;
            }
            if next >= end {
                break;
            }
            run = next..next;
        }
        file.sync().map_err(LogError::io("sync", &path))?;
        if fresh {
            self.disk.sync_dir(&folder).map_err(LogError::io("sync", &folder))?;
            self.disk.sync_dir(&self.root).map_err(LogError::io("sync", &self.root))?;
        }
        Ok(())
    }

    /// Compares one record with the mirror's copy, as far as the mirror is.
    pub(super) fn compare(
        &self,
        log: &SegmentLog,
        segment: &Segment,
        offset: u64,
        bytes: &[u8],
        repair: bool,
    ) -> Result<()> {
        let end = LogPosition { segment: segment.id, offset: offset + bytes.len() as u64 };
        if end > self.state().durable {
            return Ok(());
        }
        let copy = self.read(segment, offset, bytes.len());
        if copy.as_deref() == Some(bytes) {
            return Ok(());
        }
        if !repair {
            return Err(LogError::Corrupt {
                segment: segment.id,
                offset,
                detail: "the mirror's copy differs",
            });
        }
        // The log's record verified, so the mirror's copy is the one to put back.
        self.forget();
        self.overwrite(log, segment, offset, bytes)
    }

    fn overwrite(
        &self,
        log: &SegmentLog,
        segment: &Segment,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let _held = self.writing.lock();
        let path = self.path(log.root(), segment);
        let Ok(file) = self.file(segment, OpenMode::Write) else {
            // The file is gone: following makes it again.
            return Ok(());
        };
        file.write_at(offset, &[bytes])
            .and_then(|()| file.sync())
            .map_err(LogError::io("repair", &path))
    }

    /// Makes the next look compare everything.
    fn forget(&self) {
        self.progress.lock().checked = false;
    }

    /// Compares all that the mirror should have.
    pub(super) fn verify(&self, log: &SegmentLog) -> Result<MirrorReport> {
        self.catch_up(log)?;
        let _held = self.writing.lock();
        let durable = self.state().durable;
        let mut report = MirrorReport::default();
        for segment in log.segments() {
            if segment.id > durable.segment {
                break;
            }
            let end = if segment.id == durable.segment { durable.offset } else { segment.used() };
            let mut at = 0;
            while at < end {
                let count = STEP_BYTES.min(end - at);
                let bytes = segment.read(at, count as usize)?;
                report.bytes += count;
                if self.read(&segment, at, count as usize).as_deref() != Some(&bytes[..]) {
                    let damage = Damage { segment: segment.id, start: at, end: at + count };
                    report.differences.push(damage);
                }
                at += count;
            }
        }
        Ok(report)
    }

    /// Puts the mirror back from the log, which verifies.
    pub(super) fn repair(&self, log: &SegmentLog) -> Result<()> {
        let report = self.verify(log)?;
        for damage in report.differences {
            let Some(segment) = log.segment(damage.segment) else { continue };
            let bytes = segment.read(damage.start, (damage.end - damage.start) as usize)?;
            self.overwrite(log, &segment, damage.start, &bytes)?;
        }
        self.forget();
        self.catch_up(log)
    }

    /// Removes the copy of a segment that was compacted away.
    pub(super) fn remove(&self, log: &SegmentLog, segment: &Segment) {
        let path = self.path(log.root(), segment);
        // A copy that stays is only space; verify and the next compaction do not mind it.
        let _ = self.disk.remove_file(&path);
    }
}

/// Starts the thread that keeps the mirror up, where there is a mirror.
pub(super) fn start(inner: &Arc<Inner>) -> Result<Option<std::thread::JoinHandle<()>>> {
    if inner.mirror.is_none() || !inner.options.background {
        return Ok(None);
    }
    let weak = Arc::downgrade(inner);
    inner.log.watch_durable(Arc::new(move || {
        if let Some(inner) = weak.upgrade()
            && let Some(mirror) = &inner.mirror
        {
            mirror.progress.lock().signal = true;
            mirror.wake.notify_all();
        }
    }));
    let worker = Arc::clone(inner);
    let handle = inner
        .log
        .env()
        .spawn("sira-log-mirror", Box::new(move || run(&worker)))
        .map_err(LogError::io("start the mirror thread of", inner.log.root()))?;
    Ok(Some(handle))
}

/// Follows the log until it is closed.
fn run(inner: &Inner) {
    let Some(mirror) = &inner.mirror else { return };
    while !mirror.stopping.load(Ordering::Acquire) {
        // The error is kept for whoever asks for the mirror's state; the next round tries again.
        let _ = mirror.catch_up(&inner.log);
        let mut progress = mirror.progress.lock();
        if !progress.signal {
            mirror.wake.wait_for(&mut progress, RETRY_PAUSE);
        }
        progress.signal = false;
    }
}

/// Puts a log whose folder lost everything back from its mirror.
pub(super) fn restore_lost_primary(
    disk: &dyn Disk,
    options: &LogStorageOptions,
    mirror: &Path,
) -> Result<()> {
    let primary = &options.primary_path;
    let files = |root: &Path| -> Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        if !disk.exists(root) {
            return Ok(files);
        }
        for month in disk.list(root).map_err(LogError::io("list", root))? {
            let folder = root.join(&month.name);
            if !month.is_dir || !crate::log::is_month(&month.name) {
                continue;
            }
            for file in disk.list(&folder).map_err(LogError::io("list", &folder))? {
                if crate::log::segment_id(&file.name, &options.stem).is_some() {
                    files.push((month.name.clone(), file.name));
                }
            }
        }
        Ok(files)
    };
    let copies = files(mirror)?;
    if copies.is_empty() || !files(primary)?.is_empty() {
        return Ok(());
    }
    if !options.auto_repair_inconsistency {
        return Err(LogError::InvalidInput(format!(
            "{} is empty, but its mirror {} is not: set auto_repair_inconsistency to put the log \
             back from it, or take the mirror away",
            primary.display(),
            mirror.display()
        )));
    }
    for (month, name) in copies {
        let folder = primary.join(&month);
        disk.create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
        let bytes = crate::disk::read_all(disk, &mirror.join(&month).join(&name))
            .map_err(LogError::io("read", mirror))?;
        let path = folder.join(&name);
        crate::disk::write_atomically(disk, &path, &bytes).map_err(LogError::io("write", &path))?;
    }
    disk.sync_dir(primary).map_err(LogError::io("sync", primary))
}

/// Whether the bytes at `start` are whole records of the segment.
fn holds_records(segment: &Segment, start: u64, bytes: &[u8]) -> bool {
    let mut placed = vec![0; usize::try_from(start).unwrap_or(0)];
    placed.extend_from_slice(bytes);
    let scanner = segment.scanner(&placed);
    let mut offset = start;
    while offset < placed.len() as u64 {
        match scanner.at(offset, None) {
            Found::Record(record) => offset = record.end(),
            _ => return false,
        }
    }
    true
}

//! Opening a log: the recovery ladder.
//!
//! 1. Closed cleanly: the last file ends where the mark says. Nothing is scanned.
//! 2. Otherwise the active segment is scanned from the durable mark. Zeros to the end: nothing is
//!    missing.
//! 3. Bytes behind the mark that are no whole frame are a torn write: they are saved aside, then cut.
//! 4. Bytes before the mark, or a whole frame that fails its checksum, were damaged after they were
//!    written: nothing is cut, reads before and after go on, writes are refused until repair.
//!
//! A sealed segment is never cut. One that ends before the next one begins was damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::append::{SegmentPlace, create_segment};
use super::commit::SyncState;
use super::mark::{Mark, MarkFile};
use super::scan::Found;
use super::segment::{SEGMENT_START, Segment, is_month, segment_id};
use super::turnstile::Turnstile;
use super::verify::{VerifyReport, verify_segment};
use super::{METADATA_DIR, SegmentLog, SegmentLogOptions, Shared, Tail};
use crate::disk::{Disk, OpenMode, write_atomically};
use crate::env::Env;
use crate::error::{LogError, Result};

/// A range of a segment's file that does not verify.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u32,
    /// First byte.
    pub start: u64,
    /// First byte after it that verifies again, or the end of the file.
    pub end: u64,
}

/// The torn end of the log that opening it cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Number of the segment.
    pub segment: u32,
    /// Where it was cut.
    pub offset: u64,
    /// Bytes that were cut off.
    pub bytes: u64,
    /// File that they were saved to.
    pub saved_to: PathBuf,
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// The log was made.
    pub created: bool,
    /// It had been closed cleanly; nothing was scanned.
    pub clean: bool,
    /// Records that were scanned.
    pub scanned_records: u64,
    /// A torn write that was cut off.
    pub torn: Option<TornTail>,
    /// Damage that was found: writes are refused until repair.
    pub damage: Vec<Damage>,
}

/// The log's own settings, in `.metadata/log.json`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Config {
    format: u32,
    stem: String,
}

const CONFIG_FORMAT: u32 = 1;

/// Bytes that are written at a time when a range is written over itself.
const REWRITE_BYTES: usize = 256 << 10;

pub(super) fn open(
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    root: &Path,
    options: SegmentLogOptions,
) -> Result<(SegmentLog, OpenReport)> {
    let metadata = root.join(METADATA_DIR);
    disk.create_dir_all(&metadata).map_err(LogError::io("create", &metadata))?;
    if let Some(parent) = root.parent().filter(|parent| disk.exists(parent)) {
        disk.sync_dir(parent).map_err(LogError::io("sync", parent))?;
    }
    disk.sync_dir(root).map_err(LogError::io("sync", root))?;
    let lock = lock(&*disk, root, &metadata, &options.stem)?;
    check_config(&*disk, &metadata, &options)?;

    let mut report = OpenReport { damage: load_damage(&*disk, root)?, ..OpenReport::default() };
    let (mark_file, mark) =
        MarkFile::open(&*disk, &metadata.join(format!("{}.mark", options.stem)))?;
    disk.sync_dir(&metadata).map_err(LogError::io("sync", &metadata))?;

    let mut paths = segment_files(&*disk, root, &metadata, &options.stem)?;
    report.created = paths.is_empty() && mark.is_none();
    drop_unborn(&*disk, &metadata, &mut paths, mark)?;
    let last_id = paths.keys().next_back().copied();
    let mut segments = BTreeMap::new();
    for (id, path) in &paths {
        if Some(*id) == last_id {
            break;
        }
        match Segment::open(&*disk, path, *id, OpenMode::Read, 0) {
            Ok(segment) => {
                segments.insert(*id, Arc::new(segment));
            }
            Err(LogError::Corrupt { .. }) => {
                let end = disk.open(path, OpenMode::Read, 0).map_or(0, |file| file.len());
                report.damage.push(Damage { segment: *id, start: 0, end });
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(mark) = mark
        && last_id.is_none_or(|last| last < mark.segment)
    {
        // The mark names a segment whose file is gone: whatever was in it is lost.
        report.damage.push(Damage { segment: mark.segment, start: 0, end: mark.offset });
    }

    let mut tail = None;
    if let Some((id, path)) = paths.last_key_value() {
        // Its entry is not durable yet if the process died, or failed, while it made the file.
        if let Some(month) = path.parent() {
            disk.sync_dir(month).map_err(LogError::io("sync", month))?;
        }
        match Segment::open(&*disk, path, *id, OpenMode::Write, options.segment_bytes) {
            Ok(segment) => {
                tail = Some(recover(&*disk, &metadata, segment, mark, &mut report)?);
            }
            Err(LogError::Corrupt { .. }) => {
                let end = disk.open(path, OpenMode::Read, 0).map_or(0, |file| file.len());
                report.damage.push(Damage { segment: *id, start: 0, end });
            }
            Err(error) => return Err(error),
        }
    }
    check_sealed_ends(&segments, tail.as_ref().map(|tail| &*tail.active), &mut report);
    let newest_id = last_id.unwrap_or(0).max(mark.map_or(0, |mark| mark.segment));
    let next_sequence = tail.as_ref().map_or_else(
        || next_sequence_without_tail(&segments, mark),
        |tail: &Tail| Ok(tail.sequence),
    )?;

    report.damage.sort_unstable();
    report.damage.dedup();
    if !report.damage.is_empty() {
        store_damage(&*disk, root, &report.damage)?;
    }
    let next_segment = AtomicU64::new(u64::from(newest_id) + 1);
    let tail = match tail {
        Some(tail) => tail,
        None => {
            let place = SegmentPlace {
                disk: &*disk,
                env: &*env,
                root,
                options: &options,
                next_segment: &next_segment,
            };
            let segment = create_segment(&place, next_sequence, 0)?;
            Tail::new(Arc::new(segment), SEGMENT_START, next_sequence)
        }
    };
    let durable_end = tail.position();
    let shared = Shared {
        tail: Mutex::new(tail),
        disk,
        env,
        root: root.to_owned(),
        segments: ArcSwap::from_pointee(segments),
        appended: AtomicU64::new(next_sequence),
        durable: AtomicU64::new(next_sequence),
        durable_end: Mutex::new(durable_end),
        next_segment,
        growth: Mutex::default(),
        prepared: Mutex::default(),
        sync: Mutex::new(SyncState::default()),
        synced: Turnstile::default(),
        gathered: Condvar::new(),
        wanted: Condvar::new(),
        watchers: Mutex::new(Vec::new()),
        poisoned: Mutex::new(None),
        refusing: AtomicBool::new(!report.damage.is_empty()),
        damage: Mutex::new(report.damage.clone()),
        syncs: AtomicU64::new(0),
        small_syncs: AtomicU64::new(0),
        mark: Mutex::new(mark_file),
        options,
    };
    {
        let tail = shared.tail.lock();
        shared.insert_segment(&tail.active);
        if report.damage.is_empty() {
            let mark = Mark {
                segment: tail.active.id,
                offset: tail.offset,
                sequence: tail.sequence,
                clean: false,
            };
            let path = &shared.root;
            shared.mark.lock().write(mark).map_err(LogError::io("write the mark in", path))?;
        }
    }
    let background = shared.options.background;
    let shared = Arc::new(shared);
    let committer = if background {
        let worker = Arc::clone(&shared);
        let handle = shared
            .env
            .spawn("sira-log-sync", Box::new(move || worker.run_committer()))
            .map_err(LogError::io("start the sync thread of", root))?;
        Some(handle)
    } else {
        None
    };
    Ok((SegmentLog { shared, committer: Mutex::new(committer), _lock: lock }, report))
}

/// Misses what was cut off from the end of a sealed segment. Records that are gone whole leave nothing
/// that could fail its checksum: only the number that the next segment begins with tells.
fn check_sealed_ends(
    segments: &BTreeMap<u32, Arc<Segment>>,
    active: Option<&Segment>,
    report: &mut OpenReport,
) {
    let nexts = segments.values().skip(1).map(|segment| &**segment).chain(active);
    for (segment, next) in segments.values().zip(nexts) {
        // Of segments whose neighbour was removed, nothing tells the end.
        if segment.id.checked_add(1) != Some(next.id) {
            continue;
        }
        // What cannot be read now is reported to whoever reads it.
        let Ok(end) = segment.end_sequence() else { continue };
        if end.is_some_and(|end| end >= next.first_sequence) {
            continue;
        }
        let mut found = VerifyReport::default();
        let end = Some(next.first_sequence);
        if verify_segment(segment, segment.used(), end, &mut found).is_ok() {
            report.damage.append(&mut found.damage);
        }
    }
}

/// File that lists known damage, below the log's metadata, until it is repaired.
const DAMAGE_FILE: &str = "damage.json";

fn load_damage(disk: &dyn Disk, root: &Path) -> Result<Vec<Damage>> {
    let path = root.join(METADATA_DIR).join(DAMAGE_FILE);
    if !disk.exists(&path) {
        return Ok(Vec::new());
    }
    let text = crate::disk::read_all(disk, &path).map_err(LogError::io("read", &path))?;
    serde_json::from_slice(&text)
        .map_err(|error| LogError::Format { path, detail: error.to_string() })
}

/// Writes the list of known damage; an empty one takes the file away.
pub(super) fn store_damage(disk: &dyn Disk, root: &Path, damage: &[Damage]) -> Result<()> {
    let path = root.join(METADATA_DIR).join(DAMAGE_FILE);
    let done = if damage.is_empty() {
        match disk.exists(&path) {
            true => disk.remove_file(&path).and_then(|()| disk.sync_dir(&root.join(METADATA_DIR))),
            false => Ok(()),
        }
    } else {
        match serde_json::to_vec_pretty(damage) {
            Ok(text) => write_atomically(disk, &path, &text),
            Err(error) => Err(error.into()),
        }
    };
    done.map_err(LogError::io("write", &path))
}

/// Takes the lock file, naming this process in it.
fn lock(disk: &dyn Disk, root: &Path, metadata: &Path, stem: &str) -> Result<Box<dyn Send + Sync>> {
    let path = metadata.join(format!("{stem}.lock"));
    let holder = format!("process {}", std::process::id());
    disk.lock(&path, &holder).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            LogError::Locked { path: root.to_owned(), holder: error.to_string() }
        }
        _ => LogError::Io { action: "lock", path, source: error },
    })
}

fn check_config(disk: &dyn Disk, metadata: &Path, options: &SegmentLogOptions) -> Result<()> {
    let path = metadata.join("log.json");
    let wrong = |detail: String| LogError::Format { path: path.clone(), detail };
    if options.stem.is_empty() || options.stem.contains(['/', '.', '\0']) {
        return Err(LogError::InvalidInput(format!("{:?} is no stem of a file", options.stem)));
    }
    if disk.exists(&path) {
        let text = crate::disk::read_all(disk, &path).map_err(LogError::io("read", &path))?;
        let config: Config =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if config.format != CONFIG_FORMAT {
            return Err(wrong(format!("format {} is not {CONFIG_FORMAT}", config.format)));
        }
        if config.stem != options.stem {
            return Err(wrong(format!("it keeps {:?}, not {:?}", config.stem, options.stem)));
        }
        return Ok(());
    }
    let config = Config { format: CONFIG_FORMAT, stem: options.stem.clone() };
    let text = serde_json::to_vec_pretty(&config).map_err(|error| wrong(error.to_string()))?;
    write_atomically(disk, &path, &text).map_err(|source| {
        if source.kind() == std::io::ErrorKind::StorageFull {
            LogError::OutOfSpace { bytes: text.len() as u64, path: path.clone() }
        } else {
            LogError::Io { action: "write", path: path.clone(), source }
        }
    })
}

/// Files of the log by segment number.
fn segment_files(
    disk: &dyn Disk,
    root: &Path,
    metadata: &Path,
    stem: &str,
) -> Result<BTreeMap<u32, PathBuf>> {
    let mut paths = BTreeMap::new();
    let months = disk.list(root).map_err(LogError::io("list", root))?;
    for month in months.iter().filter(|entry| entry.is_dir && is_month(&entry.name)) {
        let folder = root.join(&month.name);
        for entry in disk.list(&folder).map_err(LogError::io("list", &folder))? {
            let Some(id) = segment_id(&entry.name, stem).filter(|_| !entry.is_dir) else {
                continue;
            };
            let path = folder.join(&entry.name);
            let Some(other) = paths.insert(id, path.clone()) else { continue };
            // A file that could not be made was removed, and came back with a loss of power.
            if is_unborn(disk, &path, id)? {
                move_aside(disk, metadata, &path, id)?;
                paths.insert(id, other);
            } else if is_unborn(disk, &other, id)? {
                move_aside(disk, metadata, &other, id)?;
            } else {
                return Err(LogError::Format {
                    path,
                    detail: format!("{} has the same number", other.display()),
                });
            }
        }
    }
    Ok(paths)
}

/// Moves aside a last file that was made and never took a record: its first frame is not whole, and
/// the mark has not reached it.
fn drop_unborn(
    disk: &dyn Disk,
    metadata: &Path,
    paths: &mut BTreeMap<u32, PathBuf>,
    mark: Option<Mark>,
) -> Result<()> {
    let Some((&id, path)) = paths.last_key_value() else { return Ok(()) };
    if mark.is_some_and(|mark| mark.segment >= id) {
        return Ok(());
    }
    if is_unborn(disk, path, id)? {
        move_aside(disk, metadata, path, id)?;
        paths.remove(&id);
    }
    Ok(())
}

/// Whether a file is none of a segment and holds nothing.
fn is_unborn(disk: &dyn Disk, path: &Path, id: u32) -> Result<bool> {
    match Segment::open(disk, path, id, OpenMode::Read, 0) {
        Err(LogError::Corrupt { .. }) => {}
        Err(error) => return Err(error),
        Ok(_) => return Ok(false),
    }
    let file = disk.open(path, OpenMode::Read, 0).map_err(LogError::io("open", path))?;
    // Records never begin before the first frame is durable: bytes behind it mean damage instead.
    if file.len() <= SEGMENT_START {
        return Ok(true);
    }
    let rest = file
        .read(SEGMENT_START, (file.len() - SEGMENT_START) as usize)
        .map_err(LogError::io("read", path))?;
    Ok(super::scan::is_zero(&rest))
}

/// Moves aside the file of a segment whose first frame does not verify; returns where it went.
pub(super) fn move_unreadable_aside(
    disk: &dyn Disk,
    root: &Path,
    stem: &str,
    id: u32,
) -> Result<Option<PathBuf>> {
    let metadata = root.join(METADATA_DIR);
    let Some(path) = segment_files(disk, root, &metadata, stem)?.remove(&id) else {
        return Ok(None);
    };
    let aside = metadata.join(format!("damaged-{id:03}"));
    rename_durably(disk, &path, &aside)?;
    Ok(Some(aside))
}

/// Moves the file of a segment that never began out of the way; an empty one goes.
fn move_aside(disk: &dyn Disk, metadata: &Path, path: &Path, id: u32) -> Result<()> {
    let empty = disk.open(path, OpenMode::Read, 0).is_ok_and(|file| file.is_empty());
    if let Some(folder) = path.parent().filter(|_| empty) {
        disk.remove_file(path).map_err(LogError::io("remove", path))?;
        return disk.sync_dir(folder).map_err(LogError::io("sync", folder));
    }
    rename_durably(disk, path, &metadata.join(format!("unborn-{id:03}")))
}

fn rename_durably(disk: &dyn Disk, path: &Path, aside: &Path) -> Result<()> {
    disk.rename(path, aside).map_err(LogError::io("move aside", path))?;
    for folder in [path.parent(), aside.parent()].into_iter().flatten() {
        disk.sync_dir(folder).map_err(LogError::io("sync", folder))?;
    }
    Ok(())
}

/// Finds the end of the active segment.
fn recover(
    disk: &dyn Disk,
    metadata: &Path,
    segment: Segment,
    mark: Option<Mark>,
    report: &mut OpenReport,
) -> Result<Tail> {
    let mark = mark.filter(|mark| mark.segment == segment.id && mark.offset >= SEGMENT_START);
    let len = segment.file.len();
    if let Some(mark) = mark.filter(|mark| mark.clean && mark.offset == len) {
        report.clean = true;
        segment.used.store(len, Ordering::Release);
        segment.sealed.store(false, Ordering::Release);
        return Ok(Tail::new(Arc::new(segment), mark.offset, mark.sequence));
    }
    let (mut offset, mut sequence) =
        mark.map_or((SEGMENT_START, segment.first_sequence), |mark| (mark.offset, mark.sequence));
    let bytes = segment.read_used()?;
    if offset > len {
        // The file is shorter than what was durable: its end was taken away.
        report.damage.push(Damage { segment: segment.id, start: len, end: offset });
        offset = len;
    }
    let scanner = segment.scanner(&bytes);
    loop {
        match scanner.at(offset, Some(sequence)) {
            Found::Record(record) => {
                offset = record.end();
                sequence = record.header.sequence + u64::from(record.header.count);
                report.scanned_records += 1;
            }
            Found::End => break,
            Found::Bad { complete: Some(end) } => {
                report.damage.push(Damage { segment: segment.id, start: offset, end });
                let next = scanner.resync(end, sequence);
                match next {
                    Some(record) => {
                        if let Some(damage) = report.damage.last_mut() {
                            damage.end = record.position.offset;
                        }
                        offset = record.position.offset;
                        sequence = record.header.sequence;
                    }
                    None => {
                        offset = end;
                        break;
                    }
                }
            }
            Found::Bad { complete: None } => {
                let torn = cut(disk, metadata, &segment, offset, &bytes)?;
                report.torn = Some(torn);
                break;
            }
        }
    }
    // What is in the page cache after the process was killed is not durable yet; and after a sync
    // that failed, the cache takes for clean what the medium does not hold. Written again, it goes
    // there with the next sync.
    rewrite(&segment, mark.map_or(0, |mark| mark.offset), offset, &bytes)?;
    segment.file.sync().map_err(LogError::io("sync", &segment.path))?;
    segment.used.store(offset, Ordering::Release);
    segment.sealed.store(false, Ordering::Release);
    Ok(Tail::new(Arc::new(segment), offset, sequence))
}

/// Writes a range of the segment over itself.
fn rewrite(segment: &Segment, from: u64, to: u64, bytes: &[u8]) -> Result<()> {
    let range = bytes.get(from as usize..to as usize).unwrap_or_default();
    let mut at = from;
    for chunk in range.chunks(REWRITE_BYTES) {
        // The bytes may be a map of the file, which must not be copied onto itself.
        let copy = chunk.to_vec();
        segment.file.write_at(at, &[&copy]).map_err(LogError::io("write", &segment.path))?;
        at += chunk.len() as u64;
    }
    Ok(())
}

/// Saves the torn end aside, then cuts it off.
fn cut(
    disk: &dyn Disk,
    metadata: &Path,
    segment: &Segment,
    offset: u64,
    bytes: &[u8],
) -> Result<TornTail> {
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let kept = rest.len() - rest.iter().rev().take_while(|byte| **byte == 0).count();
    let saved_to = metadata.join(format!("torn-{:03}-{offset}", segment.id));
    let saved = write_atomically(disk, &saved_to, &rest[..kept]);
    saved.map_err(|source| LogError::Io {
        action: "save the torn end to",
        path: saved_to.clone(),
        source,
    })?;
    segment.file.truncate(offset).map_err(LogError::io("cut", &segment.path))?;
    segment.file.sync().map_err(LogError::io("sync", &segment.path))?;
    Ok(TornTail { segment: segment.id, offset, bytes: kept as u64, saved_to })
}

/// Sequence to go on with when the active segment is gone or unreadable.
fn next_sequence_without_tail(
    segments: &BTreeMap<u32, Arc<Segment>>,
    mark: Option<Mark>,
) -> Result<u64> {
    let mut next = mark.map_or(0, |mark| mark.sequence);
    if let Some(segment) = segments.values().next_back() {
        let bytes = segment.read_used()?;
        let scanner = segment.scanner(&bytes);
        let mut offset = SEGMENT_START;
        next = next.max(segment.first_sequence);
        // What stands behind damage has numbers too, which must not be given again.
        while let Some(record) = match scanner.at(offset, None) {
            Found::Record(record) => Some(record),
            Found::End => None,
            Found::Bad { .. } => scanner.resync(offset + 4, 0),
        } {
            next = next.max(record.header.sequence + u64::from(record.header.count));
            offset = record.end();
        }
    }
    Ok(next)
}

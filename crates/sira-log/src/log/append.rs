//! Appending records, and going on to the next segment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::grow::is_full;
use super::mark::Mark;
use super::segment::{SEGMENT_START, Segment, segment_path};
use super::{SegmentLog, SegmentLogOptions, Shared, Tail};
use crate::checksum::crc32c_combine;
use crate::disk::{Disk, OpenMode};
use crate::env::Env;
use crate::error::{LogError, Result};
use crate::frame::BinaryLogFormat;
use crate::record::{LogPosition, RECORD_BODY_OFFSET, RECORD_HEADER_BYTES, RecordHeader};

/// Zeros between the head of a record and its aligned data.
const ZEROS: [u8; 4096] = [0; 4096];

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What the data is: a [`crate::record::ContentKind`], or a number of the owner's own.
    pub kind: u8,
    /// Bits that the owner defines.
    pub flags: u8,
    /// Time of the record, in the owner's unit.
    pub time: u64,
    /// Items in the record; the sequence advances by this many.
    pub count: u32,
    /// What stands before the data, in pieces.
    pub head: &'a [&'a [u8]],
    /// The data.
    pub data: &'a [u8],
    /// The data starts at a multiple of this in the segment's file: 1, or a power of two up to
    /// 4,096.
    pub align: u64,
    /// CRC32C of the data, where the caller has it already.
    pub data_crc: Option<u32>,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Where its frame starts.
    pub position: LogPosition,
    /// Where its data starts in the segment's file.
    pub data_offset: u64,
    /// Bytes of the frame.
    pub frame_len: u64,
    /// Number of its first item.
    pub sequence: u64,
    /// The record is durable once [`SegmentLog::durable`] is at least this.
    pub ticket: u64,
}

/// Exclusive hold of the log's end: what the next record gets is known before it is written.
#[derive(Debug)]
pub struct Reservation<'a> {
    pub(super) shared: &'a Shared,
    pub(super) tail: parking_lot::MutexGuard<'a, Tail>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("root", &self.root).finish_non_exhaustive()
    }
}

impl SegmentLog {
    /// Appends one record. It is readable at once and durable later, see
    /// [`SegmentLog::wait_durable`].
    ///
    /// # Errors
    /// [`LogError::OutOfSpace`] and [`LogError::TooLarge`], after which nothing was written;
    /// [`LogError::Poisoned`], [`LogError::Damaged`], [`LogError::Closed`], [`LogError::Io`].
    pub fn append(&self, entry: &Entry<'_>) -> Result<Appended> {
        self.reserve()?.append(entry)
    }

    /// Takes the end of the log, keeping other writers out until the reservation is dropped.
    ///
    /// # Errors
    /// [`LogError::Poisoned`], [`LogError::Damaged`], [`LogError::Closed`].
    pub fn reserve(&self) -> Result<Reservation<'_>> {
        let tail = self.shared.tail.lock();
        // Under the lock: whoever held it before may have stopped the log.
        self.shared.check_writable()?;
        if tail.closed {
            return Err(LogError::Closed);
        }
        Ok(Reservation { shared: &self.shared, tail })
    }

    /// Seals the active segment, so that all records so far are in sealed ones.
    ///
    /// # Errors
    /// As [`SegmentLog::append`].
    pub fn rotate(&self) -> Result<()> {
        let mut reservation = self.reserve()?;
        if reservation.tail.offset > SEGMENT_START {
            self.shared.rotate(&mut reservation.tail, 0)?;
        }
        Ok(())
    }
}

impl Reservation<'_> {
    /// Number that the next record gets.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.tail.sequence
    }

    /// Appends one record.
    ///
    /// # Errors
    /// As [`SegmentLog::append`].
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<Appended> {
        self.shared.append(&mut self.tail, entry)
    }
}

impl Shared {
    fn append(&self, tail: &mut Tail, entry: &Entry<'_>) -> Result<Appended> {
        let head_len: u64 = entry.head.iter().map(|part| part.len() as u64).sum();
        let lead = RECORD_BODY_OFFSET as u64 + head_len;
        // The gap depends on where the frame starts; without alignment there is none.
        let gap_at = |offset: u64| match entry.align {
            0 | 1 => 0,
            align => (offset + lead).next_multiple_of(align) - (offset + lead),
        };
        let env_len_at = |offset: u64| {
            RECORD_HEADER_BYTES as u64 + head_len + gap_at(offset) + entry.data.len() as u64
        };
        let largest = RECORD_HEADER_BYTES as u64 + head_len + entry.align + entry.data.len() as u64;
        if largest > BinaryLogFormat::ENVELOPE_BYTES_MAX {
            return Err(LogError::TooLarge {
                bytes: largest,
                limit: BinaryLogFormat::ENVELOPE_BYTES_MAX,
            });
        }
        let mut total = BinaryLogFormat::frame_len(env_len_at(tail.offset));
        if tail.offset + total > self.options.segment_bytes && tail.offset > SEGMENT_START
            || tail.offset + total > tail.active.reserve
        {
            self.rotate(tail, BinaryLogFormat::frame_len(largest))?;
            total = BinaryLogFormat::frame_len(env_len_at(tail.offset));
        }
        let offset = tail.offset;
        self.grow(tail, offset + total)?;

        let gap = gap_at(offset) as usize;
        // Bounded by ENVELOPE_BYTES_MAX above.
        let env_len = env_len_at(offset) as u32;
        let position = LogPosition { segment: tail.active.id, offset };
        let header = RecordHeader {
            kind: entry.kind,
            flags: entry.flags,
            data_offset: (RECORD_HEADER_BYTES as u64 + head_len) as u32 + gap as u32,
            salt: tail.active.salt,
            sequence: tail.sequence,
            time: entry.time,
            count: entry.count,
        }
        .encode(position, env_len);
        let mut crc = crc32c::crc32c(&header);
        for part in entry.head {
            crc = crc32c::crc32c_append(crc, part);
        }
        crc = crc32c::crc32c_append(crc, &ZEROS[..gap]);
        crc = match entry.data_crc {
            Some(data_crc) => crc32c_combine(crc, data_crc, entry.data.len()),
            None => crc32c::crc32c_append(crc, entry.data),
        };
        let (end, end_len) = BinaryLogFormat::tail(env_len, crc);
        let start = BinaryLogFormat::head(env_len);
        let written = match entry.head {
            [head] => tail.active.file.write_at(
                offset,
                &[&start, &header, head, &ZEROS[..gap], entry.data, &end[..end_len]],
            ),
            _ => {
                let mut parts: Vec<&[u8]> = Vec::with_capacity(entry.head.len() + 5);
                parts.extend([start.as_slice(), &header]);
                parts.extend(entry.head);
                parts.extend([&ZEROS[..gap], entry.data, &end[..end_len]]);
                tail.active.file.write_at(offset, &parts)
            }
        };
        if let Err(source) = written {
            let error = LogError::Io { action: "write", path: tail.active.path.clone(), source };
            self.poison(&error);
            return Err(error);
        }
        let sequence = tail.sequence;
        tail.offset += total;
        tail.sequence += u64::from(entry.count);
        tail.active.add_flags(entry.flags);
        tail.active.used.store(tail.offset, Ordering::Release);
        self.appended.store(tail.sequence, Ordering::Release);
        if tail.offset >= tail.look_ahead_at {
            self.look_ahead(tail);
        }
        Ok(Appended {
            position,
            data_offset: offset + lead + gap as u64,
            frame_len: total,
            sequence,
            ticket: tail.sequence,
        })
    }

    /// Makes the active segment durable, seals it, and begins the next one with room for a frame
    /// of `frame_len` bytes.
    pub(super) fn rotate(&self, tail: &mut Tail, frame_len: u64) -> Result<()> {
        // A next segment on the medium means that this one is whole there; recovery counts on it.
        self.cut_and_sync(tail)?;
        self.publish_durable(tail.sequence, tail.position());
        let next = self.next_segment(tail.sequence, frame_len).inspect_err(|error| {
            // The next file may stand on the medium whole, so nothing may follow in this one.
            if !matches!(error, LogError::OutOfSpace { .. }) {
                self.poison(error);
            }
        })?;
        tail.active.sealed.store(true, Ordering::Release);
        let next = Arc::new(next);
        self.insert_segment(&next);
        tail.active = next;
        tail.offset = SEGMENT_START;
        tail.look_ahead_at = 0;
        tail.sealing = false;
        let mark = Mark {
            segment: tail.active.id,
            offset: tail.offset,
            sequence: tail.sequence,
            clean: false,
        };
        // A mark that was not written only makes the next open scan more.
        let _ = self.mark.lock().write(mark);
        self.call_watchers();
        Ok(())
    }

    /// Begins the next segment, in the file that was made ahead where there is one. Where there is no
    /// space for its first frame, the file is kept for the next attempt: one with a greater number
    /// must not follow it.
    fn next_segment(&self, first_sequence: u64, frame_len: u64) -> Result<Segment> {
        let place = self.place();
        let mut prepared = self.prepared.lock();
        let file = match prepared.take() {
            Some(file) => file,
            None => prepare_segment(&place)?,
        };
        begin_segment(&place, &file, first_sequence, frame_len)
            .inspect_err(|_| *prepared = Some(file))
    }

    pub(super) fn insert_segment(&self, segment: &Arc<Segment>) {
        self.segments.rcu(|segments| {
            let mut segments = BTreeMap::clone(segments);
            segments.insert(segment.id, Arc::clone(segment));
            segments
        });
    }

    /// Cuts the active segment to its length and makes it durable.
    pub(super) fn cut_and_sync(&self, tail: &Tail) -> Result<()> {
        let segment = &tail.active;
        let _growth = self.growth.lock();
        let done = segment
            .file
            .truncate(tail.offset)
            .and_then(|()| segment.file.sync())
            .map_err(LogError::io("sync", &segment.path));
        if let Err(error) = &done {
            self.poison(error);
        }
        done
    }

    pub(super) fn place(&self) -> SegmentPlace<'_> {
        SegmentPlace {
            disk: &*self.disk,
            env: &*self.env,
            root: &self.root,
            options: &self.options,
            next_segment: &self.next_segment,
        }
    }
}

/// Where segments are made.
pub(super) struct SegmentPlace<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) env: &'a dyn Env,
    pub(super) root: &'a Path,
    pub(super) options: &'a SegmentLogOptions,
    pub(super) next_segment: &'a AtomicU64,
}

/// A segment's file before its first frame: empty, with a durable entry in its folder. Recovery drops
/// it.
#[derive(Debug)]
pub(super) struct Prepared {
    id: u32,
    now_ms: u64,
    pub(super) path: PathBuf,
}

/// Makes a new, empty, durable segment file.
pub(super) fn create_segment(
    place: &SegmentPlace<'_>,
    first_sequence: u64,
    frame_len: u64,
) -> Result<Segment> {
    begin_segment(place, &prepare_segment(place)?, first_sequence, frame_len)
}

/// Makes the file of the next segment.
pub(super) fn prepare_segment(place: &SegmentPlace<'_>) -> Result<Prepared> {
    let now_ms = place.env.now_ms();
    let id = place.next_segment.fetch_add(1, Ordering::Relaxed);
    let id = u32::try_from(id).map_err(|_| {
        LogError::InvalidInput("the log has used all of its segment numbers".to_owned())
    })?;
    let path = segment_path(place.root, &place.options.stem, id, now_ms);
    let month = path.parent().unwrap_or(place.root).to_owned();
    create_dir_durably(place.disk, place.root, &month)?;
    place.disk.open(&path, OpenMode::Truncate, SEGMENT_START).map_err(|source| {
        if is_full(&source) {
            LogError::OutOfSpace { bytes: SEGMENT_START, path: place.root.to_owned() }
        } else {
            LogError::Io { action: "create", path: path.clone(), source }
        }
    })?;
    place.disk.sync_dir(&month).map_err(LogError::io("sync", &month))?;
    Ok(Prepared { id, now_ms, path })
}

/// Writes the first frame of a segment and makes it durable: records never begin before that.
pub(super) fn begin_segment(
    place: &SegmentPlace<'_>,
    prepared: &Prepared,
    first_sequence: u64,
    frame_len: u64,
) -> Result<Segment> {
    let Prepared { id, now_ms, path } = prepared;
    let (id, now_ms) = (*id, *now_ms);
    let reserve = place.options.segment_bytes.max(SEGMENT_START + frame_len + ZEROS.len() as u64);
    let salt = place.env.random_u64();
    let made = Segment::create(place.disk, path, id, salt, first_sequence, now_ms, reserve);
    let segment = made.map_err(|error| {
        if error.is_out_of_space() {
            LogError::OutOfSpace { bytes: SEGMENT_START, path: place.root.to_owned() }
        } else {
            error
        }
    })?;
    segment.file.sync().map_err(LogError::io("sync", path))?;
    Ok(segment)
}

/// Makes the folder of a month, so that it survives a crash.
fn create_dir_durably(disk: &dyn Disk, root: &Path, month: &Path) -> Result<()> {
    if disk.exists(month) {
        return Ok(());
    }
    disk.create_dir_all(month).map_err(|source| {
        if source.kind() == std::io::ErrorKind::StorageFull {
            LogError::OutOfSpace { bytes: 4096, path: root.to_owned() }
        } else {
            LogError::Io { action: "create", path: month.to_owned(), source }
        }
    })?;
    disk.sync_dir(root).map_err(LogError::io("sync", root))
}

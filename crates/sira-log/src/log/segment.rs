//! One segment file: its name, its first frame, and reads of its records.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;

use super::scan::{Found, RecordRef, SegmentBytes};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{LogError, Result};
use crate::frame::BinaryLogFormat;
use crate::record::{KIND_SEGMENT, LogPosition, RECORD_HEADER_BYTES, RecordHeader};

/// Name and version of the segment format, first in the body of the segment's first frame.
const FORMAT: [u8; 8] = *b"SIRALOG1";
const BODY_BYTES: usize = 32;

/// Where the first record of a segment starts.
pub const SEGMENT_START: u64 =
    BinaryLogFormat::frame_len((RECORD_HEADER_BYTES + BODY_BYTES) as u64);

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// Number of the segment; later segments have greater ones.
    pub id: u32,
    /// Its file.
    pub path: PathBuf,
    /// Random number that every record of this segment carries.
    pub salt: u64,
    /// Number of the first record that could be in it.
    pub first_sequence: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Largest length that the file may reach.
    pub(crate) reserve: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) used: AtomicU64,
    pub(crate) sealed: AtomicBool,
    /// Flags that some record has, unless records were there before the segment was opened.
    pub(crate) flags: Option<AtomicU8>,
}

impl Segment {
    /// Makes a segment file with its first frame. Where that fails, a file without one stays, which
    /// recovery drops.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        id: u32,
        salt: u64,
        first_sequence: u64,
        now_ms: u64,
        reserve: u64,
    ) -> Result<Self> {
        let reserve = reserve.max(SEGMENT_START);
        let file =
            disk.open(path, OpenMode::Truncate, reserve).map_err(LogError::io("create", path))?;
        let mut body = [0; BODY_BYTES];
        body[..8].copy_from_slice(&FORMAT);
        body[8..12].copy_from_slice(&id.to_le_bytes());
        body[16..24].copy_from_slice(&first_sequence.to_le_bytes());
        body[24..32].copy_from_slice(&now_ms.to_le_bytes());
        let header = RecordHeader {
            kind: KIND_SEGMENT,
            flags: 0,
            data_offset: RECORD_HEADER_BYTES as u32,
            salt,
            sequence: first_sequence,
            time: now_ms,
            count: 0,
        };
        let env_len = (RECORD_HEADER_BYTES + BODY_BYTES) as u32;
        let header = header.encode(LogPosition { segment: id, offset: 0 }, env_len);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &body);
        let (tail, count) = BinaryLogFormat::tail(env_len, crc);
        let made = file.allocate(SEGMENT_START, false).and_then(|()| {
            file.write_at(0, &[&BinaryLogFormat::head(env_len), &header, &body, &tail[..count]])
        });
        made.map_err(LogError::io("write", path))?;
        Ok(Self {
            id,
            path: path.to_owned(),
            salt,
            first_sequence,
            created_ms: now_ms,
            reserve,
            file,
            used: AtomicU64::new(SEGMENT_START),
            sealed: AtomicBool::new(false),
            flags: Some(AtomicU8::new(0)),
        })
    }

    /// Opens a segment file and checks its first frame. All of the file counts as used.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        id: u32,
        mode: OpenMode,
        reserve: u64,
    ) -> Result<Self> {
        let file = disk.open(path, mode, reserve).map_err(LogError::io("open", path))?;
        let corrupt = |detail| LogError::Corrupt { segment: id, offset: 0, detail };
        if file.len() < SEGMENT_START {
            return Err(corrupt("the file ends within the segment's first frame"));
        }
        let first = file.read(0, SEGMENT_START as usize).map_err(LogError::io("read", path))?;
        let envelope = &first[BinaryLogFormat::HEAD_BYTES..];
        let place = LogPosition { segment: id, offset: 0 };
        let env_len = (RECORD_HEADER_BYTES + BODY_BYTES) as u32;
        let Some(header) = RecordHeader::decode(envelope, place, env_len) else {
            return Err(corrupt("the segment's first frame fails its checksum"));
        };
        let bytes = SegmentBytes { bytes: &first, segment: id, salt: header.salt };
        let Found::Record(record) = bytes.at(0, None) else {
            return Err(corrupt("the segment's first frame fails its checksum"));
        };
        let body = record.data();
        let word = |at: usize| {
            body.get(at..at + 8).and_then(|b| b.first_chunk()).map(|b| u64::from_le_bytes(*b))
        };
        match (record.header.kind, body.get(..8), word(16), word(24)) {
            (KIND_SEGMENT, Some(format), Some(first_sequence), Some(created_ms))
                if *format == FORMAT =>
            {
                let used = AtomicU64::new(file.len());
                Ok(Self {
                    id,
                    path: path.to_owned(),
                    salt: header.salt,
                    first_sequence,
                    created_ms,
                    reserve: reserve.max(used.load(Ordering::Relaxed)),
                    file,
                    used,
                    sealed: AtomicBool::new(true),
                    flags: None,
                })
            }
            _ => Err(LogError::Format {
                path: path.to_owned(),
                detail: "the segment's first frame has another format or version".to_owned(),
            }),
        }
    }

    /// End of the last frame that is visible to readers, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Whether nothing is appended to it any more.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Every flag that some record of the segment has; `None` for a segment that was there when the
    /// log was opened, whose records were not all looked at.
    #[must_use]
    pub fn flags(&self) -> Option<u8> {
        self.flags.as_ref().map(|flags| flags.load(Ordering::Acquire))
    }

    /// Notes the flags of a record before others can see it.
    pub(crate) fn add_flags(&self, new: u8) {
        if let Some(flags) = &self.flags
            && flags.load(Ordering::Relaxed) | new != flags.load(Ordering::Relaxed)
        {
            flags.fetch_or(new, Ordering::AcqRel);
        }
    }

    /// Bytes of a range of written frames, borrowed where the medium maps files.
    #[must_use]
    pub fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (offset.checked_add(len as u64)? <= self.used()).then(|| self.file.slice(offset, len))?
    }

    /// Bytes of a range of written frames, kept alive by the returned handle.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for a range past the end, [`LogError::Io`].
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.used()) {
            return Err(LogError::Corrupt {
                segment: self.id,
                offset,
                detail: "a reference points past the end of the segment",
            });
        }
        self.file.read(offset, len).map_err(LogError::io("read", &self.path))
    }

    /// All written bytes.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub fn read_used(&self) -> Result<Bytes> {
        let len = usize::try_from(self.used()).unwrap_or(usize::MAX);
        self.read(0, len)
    }

    /// Number after the last record, as the header of the last frame has it; `None` where no frame of
    /// this segment ends. The frame's data is not checked.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub(crate) fn end_sequence(&self) -> Result<Option<u64>> {
        let used = self.used();
        if used <= SEGMENT_START {
            return Ok(Some(self.first_sequence));
        }
        let tail = self.read(used - BinaryLogFormat::TAIL_BYTES as u64, 4)?;
        let Some(env_len) = tail.first_chunk().map(|len| u32::from_le_bytes(*len)) else {
            return Ok(None);
        };
        let start = used.checked_sub(BinaryLogFormat::frame_len(u64::from(env_len)));
        let Some(offset) = start.filter(|start| *start >= SEGMENT_START) else { return Ok(None) };
        if (env_len as usize) < RECORD_HEADER_BYTES {
            return Ok(None);
        }
        let envelope =
            self.read(offset + BinaryLogFormat::HEAD_BYTES as u64, RECORD_HEADER_BYTES)?;
        let place = LogPosition { segment: self.id, offset };
        let header = RecordHeader::decode(&envelope, place, env_len)
            .filter(|header| header.salt == self.salt);
        Ok(header.map(|header| header.sequence.saturating_add(u64::from(header.count))))
    }

    /// The scanner over bytes of this segment.
    #[must_use]
    pub fn scanner<'a>(&self, bytes: &'a [u8]) -> SegmentBytes<'a> {
        SegmentBytes { bytes, segment: self.id, salt: self.salt }
    }

    /// The record whose frame starts at `offset`, wholly verified.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] where no record of this segment verifies.
    pub fn with_record<R>(&self, offset: u64, visit: impl FnOnce(RecordRef<'_>) -> R) -> Result<R> {
        let bytes = self.read_used()?;
        match self.scanner(&bytes).at(offset, None) {
            Found::Record(record) => Ok(visit(record)),
            _ => Err(LogError::Corrupt {
                segment: self.id,
                offset,
                detail: "no record of this segment verifies here",
            }),
        }
    }
}

/// Name of a segment's file below the log's folder: `2026-11/messages.001`.
pub(crate) fn segment_path(root: &Path, stem: &str, id: u32, now_ms: u64) -> PathBuf {
    let (year, month) = year_month(now_ms);
    root.join(format!("{year:04}-{month:02}")).join(format!("{stem}.{id:03}"))
}

/// Number of the segment that a file name stands for.
pub(crate) fn segment_id(name: &str, stem: &str) -> Option<u32> {
    let digits = name.strip_prefix(stem)?.strip_prefix('.')?;
    let canonical = digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok())?
}

/// Whether a folder name is one of a month.
pub(crate) fn is_month(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 7
        && bytes[4] == b'-'
        && bytes.iter().enumerate().all(|(at, byte)| at == 4 || byte.is_ascii_digit())
}

/// Year and month of a time, UTC, in the proleptic Gregorian calendar.
fn year_month(now_ms: u64) -> (u64, u64) {
    // Days are counted from 0000-03-01, so that a leap day ends its year; 146,097 days are an era
    // of 400 years. After Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let days = now_ms / 86_400_000 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month)
}

#[cfg(test)]
mod tests;

//! Reads segment files as they lie on disk, without opening the log: nothing is locked, recovered or
//! changed, so that a log can be read while its process writes it.
//!
//! Files are read, not mapped: the writer cuts a file when it seals it, and touching a map behind
//! the cut would end this process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sira_log::LogPosition;
use sira_log::frame::BinaryLogFormat;
use sira_log::log::{Found, RecordRef, SEGMENT_START, SegmentBytes};
use sira_log::record::RecordHeader;

use crate::failure::{Failure, Outcome};

/// Bytes that are read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What stands at a place.
pub enum Step<'a> {
    /// A record.
    Record(RecordRef<'a>),
    /// Bytes that are no record; reading goes on behind them.
    Damage {
        /// First byte.
        start: u64,
        /// Where the next record starts.
        end: u64,
    },
    /// Nothing is here, or not yet.
    End,
}

/// The files of a log's segments by number.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list(root: &Path, stem: &str) -> Outcome<BTreeMap<u32, PathBuf>> {
    let fail = |path: &Path, error: &io::Error| {
        Failure::io(format_args!("cannot list {}", path.display()), error)
    };
    let mut found = BTreeMap::new();
    for month in fs::read_dir(root).map_err(|error| fail(root, &error))? {
        let month = month.map_err(|error| fail(root, &error))?.path();
        let hidden = month.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !month.is_dir() {
            continue;
        }
        let files = match fs::read_dir(&month) {
            Ok(files) => files,
            // An empty month is removed by the writer.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(fail(&month, &error)),
        };
        for file in files {
            let path = file.map_err(|error| fail(&month, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let digits = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
            if let Some(id) = digits.filter(|digits| digits.len() >= 3).and_then(|d| d.parse().ok())
            {
                found.insert(id, path);
            }
        }
    }
    Ok(found)
}

/// One segment file, read from its beginning on.
pub struct SegmentFile {
    id: u32,
    path: PathBuf,
    file: File,
    salt: u64,
    bytes: Vec<u8>,
    offset: u64,
}

impl SegmentFile {
    /// Opens a segment; `None` when the writer has removed it, or not finished its first frame.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(id: u32, path: &Path) -> Outcome<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::io(format_args!("cannot read {}", path.display()), &error));
            }
        };
        let mut segment =
            Self { id, path: path.to_owned(), file, salt: 0, bytes: Vec::new(), offset: 0 };
        segment.ensure(SEGMENT_START)?;
        let envelope = segment.bytes.get(BinaryLogFormat::HEAD_BYTES..).unwrap_or_default();
        let place = LogPosition { segment: id, offset: 0 };
        let env_len =
            segment.bytes.first_chunk().and_then(|head| BinaryLogFormat::parse_head(*head));
        let header = env_len.and_then(|env_len| RecordHeader::decode(envelope, place, env_len));
        Ok(header.map(|header| {
            segment.salt = header.salt;
            segment.offset = SEGMENT_START;
            segment
        }))
    }

    /// Number of the segment.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Goes to a place that a record named.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset.max(SEGMENT_START);
    }

    /// What stands at the current place; steps behind it. With `growing`, bytes at the end that are
    /// no record count as a write that is under way.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(&mut self, growing: bool) -> Outcome<Step<'_>> {
        let start = self.offset;
        // What lies behind the last record may have been written since.
        self.bytes.truncate(usize::try_from(start).unwrap_or(usize::MAX));
        self.ensure(start + STEP_BYTES)?;
        let rest = self.bytes.get(usize::try_from(start).unwrap_or(usize::MAX)..);
        let head = rest.and_then(|rest| rest.first_chunk());
        if let Some(env_len) = head.and_then(|head| BinaryLogFormat::parse_head(*head)) {
            self.ensure(start + BinaryLogFormat::frame_len(u64::from(env_len)))?;
        }
        let len = match self.scanner().at(start, None) {
            Found::Record(record) => Some(record.frame_len),
            Found::End => return Ok(Step::End),
            Found::Bad { .. } => None,
        };
        if let Some(len) = len {
            self.offset = start + len;
            // Looked at twice: the first look would lend the bytes for the whole function.
            return Ok(match self.scanner().at(start, None) {
                Found::Record(record) => Step::Record(record),
                Found::End | Found::Bad { .. } => Step::End,
            });
        }
        self.ensure(u64::MAX)?;
        match self.scanner().resync(start + 4, 0).map(|record| record.position.offset) {
            Some(end) => {
                self.offset = end;
                Ok(Step::Damage { start, end })
            }
            None if growing => Ok(Step::End),
            None => {
                let end = self.bytes.len() as u64;
                self.offset = end;
                if end > start { Ok(Step::Damage { start, end }) } else { Ok(Step::End) }
            }
        }
    }

    fn scanner(&self) -> SegmentBytes<'_> {
        SegmentBytes { bytes: &self.bytes, segment: self.id, salt: self.salt }
    }

    /// Reads the file up to `end`, or to its own end.
    fn ensure(&mut self, end: u64) -> Outcome {
        let fail = |error: &io::Error| {
            Failure::io(format_args!("cannot read {}", self.path.display()), error)
        };
        loop {
            let have = self.bytes.len();
            let missing = end.saturating_sub(have as u64).min(STEP_BYTES);
            if missing == 0 {
                return Ok(());
            }
            self.bytes.resize(have + usize::try_from(missing).unwrap_or_default(), 0);
            let target = self.bytes.get_mut(have..).unwrap_or_default();
            match self.file.read_at(target, have as u64) {
                Ok(0) => {
                    self.bytes.truncate(have);
                    return Ok(());
                }
                Ok(count) => self.bytes.truncate(have + count),
                Err(error) if error.kind() == ErrorKind::Interrupted => self.bytes.truncate(have),
                Err(error) => return Err(fail(&error)),
            }
        }
    }
}

//! The durable mark: how far the log was known to be on the medium.
//!
//! The mark is written after each sync and is not synced itself, so what is found after a crash is
//! an older mark or none. That is safe, since a mark only ever promises less than what is durable:
//! bytes before it that do not verify were damaged, bytes after it may be torn. Two slots, in
//! sectors of their own, take turns, so that one of them always survives.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES};
use crate::error::{LogError, Result};

const MAGIC: [u8; 4] = *b"SMRK";
const SLOT_BYTES: usize = 48;
const FILE_BYTES: u64 = 2 * SECTOR_BYTES as u64;

/// A place in the log up to which everything is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// Number of the segment.
    pub segment: u32,
    /// End of its last durable frame.
    pub offset: u64,
    /// Number that the next record gets.
    pub sequence: u64,
    /// Whether the log was closed here and its last file cut to this offset.
    pub clean: bool,
}

/// The file that keeps the mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: Arc<dyn DiskFile>,
    turn: u64,
}

impl MarkFile {
    /// Opens or makes the file and reads the newest mark that verifies.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Option<Mark>)> {
        let exists = disk.exists(path);
        let mode = if exists { OpenMode::Write } else { OpenMode::CreateNew };
        let file = disk.open(path, mode, FILE_BYTES).map_err(LogError::io("open", path))?;
        if file.len() < FILE_BYTES {
            file.allocate(FILE_BYTES, false).map_err(|source| {
                if source.kind() == std::io::ErrorKind::StorageFull {
                    LogError::OutOfSpace { bytes: FILE_BYTES, path: path.to_owned() }
                } else {
                    LogError::Io { action: "allocate", path: path.to_owned(), source }
                }
            })?;
        }
        let mut newest: Option<(u64, Mark)> = None;
        for slot in 0..2 {
            let bytes = file
                .read(slot * SECTOR_BYTES as u64, SLOT_BYTES)
                .map_err(LogError::io("read", path))?;
            if let Some((turn, mark)) = decode(&bytes)
                && newest.is_none_or(|(seen, _)| turn > seen)
            {
                newest = Some((turn, mark));
            }
        }
        let turn = newest.map_or(0, |(turn, _)| turn);
        Ok((Self { file, turn }, newest.map(|(_, mark)| mark)))
    }

    /// Writes a newer mark, without making it durable.
    pub(crate) fn write(&mut self, mark: Mark) -> std::io::Result<()> {
        self.turn += 1;
        let slot = (self.turn % 2) * SECTOR_BYTES as u64;
        self.file.write_at(slot, &[&encode(self.turn, mark)])
    }

    /// Makes the newest mark durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }
}

fn encode(turn: u64, mark: Mark) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&u32::from(mark.clean).to_le_bytes());
    out[8..16].copy_from_slice(&turn.to_le_bytes());
    out[16..20].copy_from_slice(&mark.segment.to_le_bytes());
    out[24..32].copy_from_slice(&mark.offset.to_le_bytes());
    out[32..40].copy_from_slice(&mark.sequence.to_le_bytes());
    let crc = crc32c::crc32c(&out[..44]);
    out[44..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, Mark)> {
    let bytes: &[u8; SLOT_BYTES] = bytes.first_chunk()?;
    let u32_at =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if bytes[..4] != MAGIC || crc32c::crc32c(&bytes[..44]) != u32_at(44) {
        return None;
    }
    let mark = Mark {
        segment: u32_at(16),
        offset: u64_at(24),
        sequence: u64_at(32),
        clean: u32_at(4) == 1,
    };
    Some((u64_at(8), mark))
}

//! Checkpoints: the index on the medium, so that opening replays only the log's tail.
//!
//! A checkpoint is taken while writes go on. It names a position of the log: everything before it
//! is in the image, and replaying what comes after gives the right index whatever else the image
//! already holds. It is published only after the log is durable up to its end, so that no entry
//! points at bytes that a crash could take back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::LogError;
use sira_log::disk::{Disk, DiskFile, OpenMode};
use sira_log::log::SegmentLog;
use sira_log::record::LogPosition;

use super::super::index::Index;
use super::Engine;
use crate::error::{Result, StorageError};
use crate::version::Version;

/// Folder of the checkpoints, below the store's.
const FOLDER: &str = "index";
const MAGIC: [u8; 8] = *b"SIRAIDX1";
const HEADER_BYTES: usize = 56;
/// Bytes by which the file grows while it is written.
const STEP_BYTES: u64 = 8 << 20;

/// A checkpoint that was read back.
pub(super) struct Loaded {
    pub index: Index,
    pub position: LogPosition,
    pub version: Version,
    pub generation: u64,
}

fn path(root: &Path, generation: u64) -> PathBuf {
    root.join(FOLDER).join(format!("checkpoint.{generation:06}"))
}

fn generations(disk: &dyn Disk, root: &Path) -> Result<Vec<u64>> {
    let folder = root.join(FOLDER);
    if !disk.exists(&folder) {
        return Ok(Vec::new());
    }
    let mut found: Vec<u64> = disk
        .list(&folder)?
        .iter()
        .filter_map(|entry| entry.name.strip_prefix("checkpoint."))
        .filter(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|digits| digits.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads the newest checkpoint that verifies. One that does not is passed over: the log itself has
/// everything.
pub(super) fn load_newest(
    disk: &dyn Disk,
    root: &Path,
    log: &SegmentLog,
) -> Result<Option<Loaded>> {
    for generation in generations(disk, root)?.into_iter().rev() {
        let path = path(root, generation);
        let file = disk.open(&path, OpenMode::Read, 0)?;
        let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
        let Ok(bytes) = file.read(0, len) else { continue };
        let Some((position, version, image)) = decode_header(&bytes) else { continue };
        // A position that the log does not have is not of this log's past.
        let in_log =
            log.segment(position.segment).is_some_and(|segment| position.offset <= segment.used());
        if !in_log {
            continue;
        }
        if let Ok(index) = Index::load(image) {
            return Ok(Some(Loaded { index, position, version, generation }));
        }
    }
    Ok(None)
}

/// Writes a checkpoint and removes older ones; returns the position that it covers.
pub(super) fn write(engine: &Engine, generation: u64) -> Result<LogPosition> {
    let (position, _) = engine.log.end();
    // A write before this position may not have reached the index yet; when its lock was free
    // once, it has.
    engine.stripes.drain();
    let disk = engine.log.disk();
    let root = engine.log.root();
    let folder = root.join(FOLDER);
    disk.create_dir_all(&folder)?;
    disk.sync_dir(root)?;
    let target = path(root, generation);
    let aside = folder.join("checkpoint.new");

    let reserve = engine.index.memory_bytes().saturating_mul(2) + STEP_BYTES * 2;
    let written = write_image(engine, &**disk, &aside, reserve, position);
    if let Err(error) = written {
        // Only space is lost with the half-written file; the next attempt replaces it.
        let _ = disk.remove_file(&aside);
        return Err(error);
    }
    // Entries may point at records that came while the image was written.
    engine.log.wait_durable(engine.log.appended())?;
    disk.rename(&aside, &target)?;
    disk.sync_dir(&folder)?;
    for older in generations(&**disk, root)? {
        if older < generation {
            disk.remove_file(&path(root, older))?;
        }
    }
    Ok(position)
}

fn write_image(
    engine: &Engine,
    disk: &dyn Disk,
    path: &Path,
    reserve: u64,
    position: LogPosition,
) -> Result<()> {
    let file = disk.open(path, OpenMode::Truncate, reserve)?;
    file.allocate(HEADER_BYTES as u64, false)?;
    let mut out = Growing { file, at: HEADER_BYTES as u64 };
    engine.index.save(&mut |bytes| out.write(bytes))?;
    let image_len = out.at - HEADER_BYTES as u64;
    // The version now is at least that of every record in the image.
    let version = engine.next_version();
    out.file.write_at(0, &[&encode_header(position, version, image_len)])?;
    out.file.truncate(out.at)?;
    out.file.sync()?;
    Ok(())
}

/// A file that grows while it is written from its start.
struct Growing {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.at + bytes.len() as u64;
        if end > self.file.len() {
            self.file.allocate(end.next_multiple_of(STEP_BYTES), false).or_else(|error| {
                // The last step may not fit where the image does.
                if error.kind() == io::ErrorKind::StorageFull {
                    self.file.allocate(end, false)
                } else {
                    Err(error)
                }
            })?;
        }
        self.file.write_at(self.at, &[bytes])?;
        self.at = end;
        Ok(())
    }
}

fn encode_header(position: LogPosition, version: Version, image_len: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&position.segment.to_le_bytes());
    out[16..24].copy_from_slice(&position.offset.to_le_bytes());
    out[24..32].copy_from_slice(&version.as_u64().to_le_bytes());
    out[32..40].copy_from_slice(&image_len.to_le_bytes());
    let crc = crc32c::crc32c(&out[..52]);
    out[52..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode_header(bytes: &[u8]) -> Option<(LogPosition, Version, &[u8])> {
    let (header, image) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let word = |at: usize| -> Option<[u8; 8]> { header.get(at..at + 8)?.try_into().ok() };
    let crc = u32::from_le_bytes(header.get(52..)?.try_into().ok()?);
    if header[..8] != MAGIC || crc != crc32c::crc32c(&header[..52]) {
        return None;
    }
    let segment = u32::from_le_bytes(*header.get(8..)?.first_chunk()?);
    let position = LogPosition { segment, offset: u64::from_le_bytes(word(16)?) };
    let version = Version::from_u64(u64::from_le_bytes(word(24)?));
    (image.len() as u64 == u64::from_le_bytes(word(32)?)).then_some((position, version, image))
}

/// Whether an error of writing a checkpoint only means that there is no room for it now.
pub(super) fn is_out_of_space(error: &StorageError) -> bool {
    matches!(error, StorageError::OutOfSpace(_))
        || std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<LogError>())
            .is_some_and(LogError::is_out_of_space)
}

//! Values that arrive in pieces: kept in a file aside until they are whole, so that a slow or broken
//! sender holds neither memory nor the log.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sira_log::disk::{Disk, DiskFile, OpenMode};

use super::Engine;
use crate::error::{Result, StorageError};
use crate::limits::STREAM_VALUE_BYTES_MAX;

/// Folder of the files, below the store's. What a crash leaves in it is removed at the next open.
const FOLDER: &str = "spool";

/// Bytes by which a file grows.
const STEP_BYTES: u64 = 8 << 20;

/// A value that is still arriving. Dropped, its file goes.
#[derive(Debug)]
pub(super) struct Spool {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl Spool {
    /// Begins a value.
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let disk = Arc::clone(engine.log.disk());
        let folder = engine.root().join(FOLDER);
        disk.create_dir_all(&folder)?;
        let path = folder.join(format!("{:016x}", engine.env().random_u64()));
        let file = disk.open(&path, OpenMode::CreateNew, STREAM_VALUE_BYTES_MAX)?;
        Ok(Self { disk, path, file, len: 0 })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.len + bytes.len() as u64;
        if end > STREAM_VALUE_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "a value may have up to {STREAM_VALUE_BYTES_MAX} bytes"
            )));
        }
        if end > self.file.len() {
            let ahead = end.next_multiple_of(STEP_BYTES).min(STREAM_VALUE_BYTES_MAX);
            self.file.allocate(ahead, false)?;
        }
        self.file.write_at(self.len, &[bytes])?;
        self.len = end;
        Ok(())
    }

    /// The value so far, without a copy in memory.
    pub(super) fn bytes(&self) -> Result<Bytes> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        Ok(if len == 0 { Bytes::new() } else { self.file.read(0, len)? })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // A file that stays is only space, and the next open removes it.
        let _ = self.disk.remove_file(&self.path);
    }
}

/// Removes what an earlier process left.
pub(super) fn clean(engine: &Engine) -> Result<()> {
    let disk = engine.log.disk();
    let folder = engine.root().join(FOLDER);
    if !disk.exists(&folder) {
        return Ok(());
    }
    for entry in disk.list(&folder)? {
        disk.remove_file(&folder.join(entry.name))?;
    }
    Ok(())
}

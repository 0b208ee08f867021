//! Snapshots: the segments and a position, free to take.

use std::path::Path;
use std::sync::Arc;

use sira_log::disk::{OpenMode, write_atomically};
use sira_log::log::Segment;
use sira_log::record::LogPosition;

use super::Engine;
use crate::error::{Result, StorageError};

/// The store at one moment. It keeps its segments readable, even when they are reclaimed meanwhile.
#[derive(Debug)]
pub struct Snapshot<'a> {
    engine: &'a Engine,
    segments: Vec<(Arc<Segment>, u64)>,
    position: LogPosition,
    namespaces: Vec<u8>,
}

impl Engine {
    /// Takes a snapshot of everything written so far.
    ///
    /// # Errors
    /// [`StorageError::Io`] when the table of namespaces cannot be encoded.
    pub fn snapshot(&self) -> Result<Snapshot<'_>> {
        // No segment may be removed between the look at the end and the list.
        let _held = self.maintenance.hold();
        let (namespaces, (position, segments)) = self.namespaces.encode_with(|| {
            let (position, _) = self.log.end();
            (position, self.log.segments())
        })?;
        let segments = segments
            .into_iter()
            .filter(|segment| segment.id <= position.segment)
            .map(|segment| {
                let used = match segment.id == position.segment {
                    true => position.offset,
                    false => segment.used(),
                };
                (segment, used)
            })
            .collect();
        Ok(Snapshot { engine: self, segments, position, namespaces })
    }
}

impl Snapshot<'_> {
    /// End of the log when the snapshot was taken.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Numbers of the segments and how many of their bytes belong to the snapshot.
    pub fn segments(&self) -> Vec<(u32, u64)> {
        self.segments.iter().map(|(segment, used)| (segment.id, *used)).collect()
    }

    /// Writes the snapshot as a store of its own into a new folder, durably.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the folder exists and is not empty, and the medium's.
    pub fn copy_to(&self, target: &Path) -> Result<()> {
        const STEP_BYTES: u64 = 8 << 20;
        let disk = self.engine.log.disk();
        let root = self.engine.log.root();
        disk.create_dir_all(target)?;
        if !disk.list(target)?.is_empty() {
            return Err(StorageError::conflict(format!("{} is not empty", target.display()))
                .with_retry(crate::Retry::Permanent));
        }
        for (segment, used) in &self.segments {
            let Ok(relative) = segment.path.strip_prefix(root) else { continue };
            let path = target.join(relative);
            let folder = path.parent().unwrap_or(target);
            disk.create_dir_all(folder)?;
            let file = disk.open(&path, OpenMode::CreateNew, *used)?;
            file.allocate(*used, false)?;
            let mut at = 0;
            while at < *used {
                let count = STEP_BYTES.min(*used - at);
                file.write_at(at, &[&segment.read(at, count as usize)?])?;
                at += count;
            }
            file.sync()?;
            disk.sync_dir(folder)?;
        }
        let metadata = target.join(".metadata");
        disk.create_dir_all(&metadata)?;
        write_atomically(&**disk, &metadata.join("namespaces.json"), &self.namespaces)?;
        disk.sync_dir(target)?;
        Ok(())
    }
}

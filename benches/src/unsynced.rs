//! A file for redb that is not synced.

use std::io;
use std::path::Path;

use redb::backends::FileBackend;

/// A file that is not synced: a commit reaches the operating system and no further, as the others'
/// writes do. (`Durability::None` would leave it in the process.)
#[derive(Debug)]
pub struct Unsynced(FileBackend);

impl Unsynced {
    /// A new file.
    pub fn create(path: &Path) -> Result<Self, redb::DatabaseError> {
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(path);
        Ok(Self(FileBackend::new(file.map_err(redb::StorageError::Io)?)?))
    }
}

impl redb::StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

//! The door to storage media.
//!
//! The log and the engines reach files only through [`Disk`] and [`DiskFile`], so that the same
//! code runs on the operating system ([`OsDisk`]) and on a simulated disk that loses unsynced
//! writes, tears sectors, flips bits and crashes at any call ([`SimDisk`]).

mod os;
mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use os::OsDisk;
pub use sim::{PowerLost, SimCounters, SimDisk, SimFaults};

/// Bytes in the unit that a device writes whole.
pub const SECTOR_BYTES: usize = 512;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskEntry {
    /// File or folder name, without its parents.
    pub name: String,
    /// Whether the entry is a folder.
    pub is_dir: bool,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reads only.
    Read,
    /// Existing file, reads and writes.
    Write,
    /// New file, reads and writes; an existing one is an error.
    CreateNew,
    /// New or existing file, emptied, reads and writes.
    Truncate,
}

/// Folders and files of one medium.
///
/// A change to a folder (create, rename, remove) is durable only after [`Disk::sync_dir`] of that
/// folder, as POSIX leaves it.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Opens a file. `reserve` is the largest length that the file will reach while it is open;
    /// reads of it stay valid until then.
    ///
    /// # Errors
    /// The medium's error.
    fn open(&self, path: &Path, mode: OpenMode, reserve: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a folder and its parents.
    ///
    /// # Errors
    /// The medium's error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Entries of a folder, sorted by name.
    ///
    /// # Errors
    /// The medium's error.
    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>>;

    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;

    /// Renames a file, replacing one of the new name.
    ///
    /// # Errors
    /// The medium's error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Reads of it that are still held stay valid.
    ///
    /// # Errors
    /// The medium's error.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// The medium's error.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the folder's entries durable.
    ///
    /// # Errors
    /// The medium's error.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes still free, where the medium tells.
    fn free_bytes(&self, path: &Path) -> Option<u64>;

    /// Takes the exclusive lock file at `path`, writing `holder` into it. The lock goes with the
    /// returned guard or with the process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] with the holder's text when another process has it.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Send + Sync>>;
}

/// One open file.
///
/// Writers of one file never overlap, and nobody reads a range while it is being written: the log
/// hands out a range only after its frame is whole.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Length in bytes, preallocated space included.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the parts one after the other from `offset`, all within [`DiskFile::len`].
    ///
    /// # Errors
    /// The medium's error; `InvalidInput` past the end.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// The bytes of a range; on a mapped file this copies nothing and keeps the map alive.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end, otherwise the medium's error.
    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    /// The bytes of a range without reference counting, on a mapped file.
    /// `None` past the end and on media that do not map: use [`DiskFile::read`] then.
    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]>;

    /// Extends the file with zeros to `len`, reserving the space, so that later writes below `len`
    /// cannot run out of it. With `written`, the zeros are on the medium when this returns, so that
    /// a later sync has no allocation to record.
    ///
    /// # Errors
    /// `StorageFull` when there is no room, otherwise the medium's error.
    fn allocate(&self, len: u64, written: bool) -> io::Result<()>;

    /// Cuts the file to `len`. Bytes past `len` must not be read again.
    ///
    /// # Errors
    /// The medium's error.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Makes all earlier writes of this file durable (data and length).
    ///
    /// # Errors
    /// The medium's error. After one, what is durable is unknown: the caller must stop writing.
    fn sync(&self) -> io::Result<()>;
}

/// Writes a small file so that after a crash either the old or the new content is there: written
/// aside, synced, renamed, folder synced.
///
/// # Errors
/// The medium's error; the old content is then still in place.
pub fn write_atomically(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = Path::new(&aside);
    let file = disk.open(aside, OpenMode::Truncate, content.len() as u64)?;
    if !content.is_empty() {
        file.allocate(content.len() as u64, false)?;
        file.write_at(0, &[content])?;
    }
    file.sync()?;
    disk.rename(aside, path)?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// The whole content of a file.
///
/// # Errors
/// The medium's error.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path, OpenMode::Read, 0)?;
    let len = usize::try_from(file.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    if len == 0 {
        return Ok(Bytes::new());
    }
    file.read(0, len)
}

//! A disk in memory that fails on command, and the same way for the same seed.
//!
//! It keeps two images: what the running system sees (the page cache) and what the medium holds.
//! Writes, lengths and folder entries move from the first to the second only by a sync, or by
//! writeback when [`SimFaults::writeback_one_in`] asks for it. [`SimDisk::crash`] gives the disk as
//! it is found after a loss of power: whatever was not synced is there, is not there, or is torn,
//! as the seed decides. [`SimDisk::kill`] gives the disk as it is found after the process alone
//! died.

mod file;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod trace;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Disk, DiskEntry, DiskFile, OpenMode};
use state::State;

/// Faults that a [`SimDisk`] is to show. The counts are of calls still to come: 0 strikes the next
/// one; each strikes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimFaults {
    /// Power goes at a call that changes the medium (open for creation, write, allocate, truncate,
    /// sync, rename, remove). The call takes effect as an unsynced one; it and all later calls fail
    /// with [`PowerLost`].
    pub power_loss_in: Option<u64>,
    /// A sync of a file or folder fails. Of a file, some of the unsynced sectors reach the medium,
    /// the others never will: the page cache takes them for clean and goes on showing them, as
    /// Linux does.
    pub sync_error_in: Option<u64>,
    /// A write fails; a prefix of it may have been written.
    pub write_error_in: Option<u64>,
    /// An allocation fails; the length stays.
    pub allocate_error_in: Option<u64>,
    /// Bytes that all files together may take; allocations past it fail with `StorageFull`.
    pub capacity_bytes: Option<u64>,
    /// Each write starts a writeback of some of its file's unsynced sectors with this chance, one
    /// in so many; 0 is never.
    pub writeback_one_in: u32,
}

/// How often each call was made, failed ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimCounters {
    /// Files opened.
    pub opens: u64,
    /// Reads.
    pub reads: u64,
    /// Calls that change the medium, as [`SimFaults::power_loss_in`] counts them.
    pub changes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Allocations.
    pub allocations: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
}

/// The error of every call on a disk that lost its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerLost;

impl fmt::Display for PowerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated disk lost its power")
    }
}

impl std::error::Error for PowerLost {}

/// A simulated disk. Clones are handles of the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk without faults; what its faults do follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_state(State::new(seed))
    }

    fn with_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Replaces the faults to come.
    pub fn set_faults(&self, faults: SimFaults) {
        self.state.lock().faults = faults;
    }

    /// The faults still to come, counted down.
    #[must_use]
    pub fn faults(&self) -> SimFaults {
        self.state.lock().faults
    }

    /// The disk as it is found if the power goes now, everything on it durable. Of what was not
    /// synced, `seed` decides: each sector is old, new or torn (a new
    /// beginning of whole 8-byte words, an old end),
    /// length changes are kept up to one of them, and of the changes to folders any subset is kept.
    /// Faults that strike once are gone, capacity and writeback stay. This disk is as it was, and
    /// apart from the new one.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Self::with_state(self.state.lock().after_power_loss(seed))
    }

    /// The disk as it is found if the process dies now: the page cache as it is, all files closed
    /// and unlocked. This disk is as it was, and apart from the new one.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::with_state(self.state.lock().after_kill())
    }

    /// Whether the power went.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Flips one bit (0 to 7) of one byte, in the page cache and on the medium.
    ///
    /// # Errors
    /// `NotFound` for a path that is no file, `UnexpectedEof` past its end.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.state.lock().flip_bit(path, offset, bit)
    }

    /// Paths and lengths of all files, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.state.lock().files()
    }

    /// How often each call was made, over all crashes and kills.
    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.state.lock().counters
    }

    /// A hash of every call so far with its arguments, its data and its failure, over all crashes
    /// and kills.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.state.lock().trace.hash()
    }

    /// Keeps a line of text for every call from now on.
    pub fn record_text(&self) {
        self.state.lock().trace.record_text();
    }

    /// The lines kept since [`SimDisk::record_text`].
    #[must_use]
    pub fn recorded_text(&self) -> String {
        self.state.lock().trace.text().to_owned()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode, reserve: u64) -> io::Result<Arc<dyn DiskFile>> {
        let (node, len) = self.state.lock().open(path, mode)?;
        Ok(Arc::new(SimFile {
            state: Arc::clone(&self.state),
            node,
            writable: mode != OpenMode::Read,
            span: reserve.max(len),
            len: AtomicU64::new(len),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state.lock().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        self.state.lock().list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.state.lock().exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state.lock().remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.state.lock().remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.state.lock().sync_dir(path)
    }

    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        self.state.lock().free_bytes()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Send + Sync>> {
        let node = self.state.lock().lock(path, holder)?;
        Ok(Box::new(SimLock { state: Arc::clone(&self.state), node }))
    }
}

/// Gives the lock back when dropped.
struct SimLock {
    state: Arc<Mutex<State>>,
    node: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.state.lock().unlock(self.node);
    }
}

/// An open file. As with a mapped file of the operating system, the length is the handle's own: it
/// does not see what another handle added.
struct SimFile {
    state: Arc<Mutex<State>>,
    node: u64,
    writable: bool,
    span: u64,
    len: AtomicU64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("node", &self.node)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.state.lock().closed(self.node);
    }
}

impl SimFile {
    fn ends_within(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        end.is_some_and(|end| end <= self.len.load(Ordering::Acquire).min(self.span))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open for reading"))
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.check_writable()?;
        let total = parts.iter().map(|part| part.len() as u64).sum();
        if !self.ends_within(offset, total) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "write past the allocated end of the file",
            ));
        }
        self.state.lock().write(self.node, offset, parts)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if !self.ends_within(offset, len as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.state.lock().read(self.node, offset, len)
    }

    fn slice(&self, _offset: u64, _len: usize) -> Option<&[u8]> {
        None
    }

    fn allocate(&self, len: u64, _written: bool) -> io::Result<()> {
        self.check_writable()?;
        if len <= self.len() {
            return Ok(());
        }
        if len > self.span {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "allocate past the reserve"));
        }
        self.state.lock().allocate(self.node, len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.state.lock().truncate(self.node, len)?;
        self.len.fetch_min(len, Ordering::AcqRel);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().sync(self.node)
    }
}

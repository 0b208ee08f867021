//! Real bugs put back, each through the doors of disk and environment alone: the simulation must
//! find every one of them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sira_log::disk::{Disk, DiskEntry, DiskFile, OpenMode, SimDisk};
use sira_log::env::Env;

use super::world::Doors;
use super::{OPERATIONS, run};

/// Seeds within which each bug must be found.
const SEEDS: u64 = 12;

fn found_within(doors: Doors) -> Option<String> {
    let finding = (0..SEEDS).find_map(|seed| run(seed, doors, OPERATIONS, false).err())?;
    Some(format!("seed {}: {}", finding.seed, finding.what))
}

#[test]
fn a_folder_that_is_never_synced_is_found() {
    let found = found_within(Doors::NoFolderSync);
    assert!(found.is_some(), "no seed below {SEEDS} finds it");
}

#[test]
fn a_checkpoint_newer_than_the_log_is_found() {
    let found = found_within(Doors::LateSync);
    assert!(found.is_some(), "no seed below {SEEDS} finds it");
}

#[test]
fn a_reused_salt_is_found() {
    let found = found_within(Doors::SameSalt);
    let forged = found.as_ref().is_some_and(|what| what.contains("was never written"));
    assert!(forged, "no seed below {SEEDS} finds it: {found:?}");
}

/// A disk whose folders are never synced.
#[derive(Debug)]
pub(super) struct NoFolderSync(pub(super) SimDisk);

/// A disk that, from the moment a checkpoint is begun until it is published, puts off syncs of
/// other files: as if the checkpoint did not wait for the log.
#[derive(Debug)]
pub(super) struct LateSync {
    disk: SimDisk,
    late: Arc<Mutex<Late>>,
}

#[derive(Debug, Default)]
struct Late {
    checkpointing: bool,
    files: Vec<Arc<dyn DiskFile>>,
}

impl LateSync {
    pub(super) fn new(disk: SimDisk) -> Self {
        Self { disk, late: Arc::default() }
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint"))
}

/// Passes all calls on but `open` and `sync_dir`.
macro_rules! pass_on {
    ($($disk:tt)+) => {
        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            self.$($disk)+.create_dir_all(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
            self.$($disk)+.list(path)
        }

        fn exists(&self, path: &Path) -> bool {
            self.$($disk)+.exists(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.$($disk)+.rename(from, to)
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            self.$($disk)+.remove_file(path)
        }

        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            self.$($disk)+.remove_dir(path)
        }

        fn free_bytes(&self, path: &Path) -> Option<u64> {
            self.$($disk)+.free_bytes(path)
        }

        fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Send + Sync>> {
            self.$($disk)+.lock(path, holder)
        }
    };
}

impl Disk for NoFolderSync {
    pass_on!(0);

    fn open(&self, path: &Path, mode: OpenMode, reserve: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path, mode, reserve)
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for LateSync {
    pass_on!(disk);

    fn open(&self, path: &Path, mode: OpenMode, reserve: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode, reserve)?;
        if is_checkpoint(path) {
            if mode != OpenMode::Read {
                self.late.lock().checkpointing = true;
            }
            return Ok(file);
        }
        Ok(Arc::new(LateFile { file, late: Arc::clone(&self.late) }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)?;
        if path.ends_with("index") {
            let late = std::mem::take(&mut *self.late.lock());
            for file in late.files {
                file.sync()?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct LateFile {
    file: Arc<dyn DiskFile>,
    late: Arc<Mutex<Late>>,
}

impl DiskFile for LateFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.file.write_at(offset, parts)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.file.read(offset, len)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.file.slice(offset, len)
    }

    fn allocate(&self, len: u64, written: bool) -> io::Result<()> {
        self.file.allocate(len, written)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut late = self.late.lock();
        if late.checkpointing {
            late.files.push(Arc::clone(&self.file));
            return Ok(());
        }
        drop(late);
        self.file.sync()
    }
}

/// An environment whose random numbers are all the same.
#[derive(Debug)]
pub(super) struct SameSalt(pub(super) Arc<dyn Env>);

impl SameSalt {
    pub(super) const SALT: u64 = 0x5EED;
}

impl Env for SameSalt {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn random_u64(&self) -> u64 {
        Self::SALT
    }

    fn sleep(&self, duration: Duration) {
        self.0.sleep(duration);
    }

    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        self.0.spawn(name, task)
    }
}

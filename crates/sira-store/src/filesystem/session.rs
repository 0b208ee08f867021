//! Files that are being written, each in the folder of the process that writes it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;

use super::files::io_error;
use super::locks;
use crate::driver::Record;
use crate::env::Env;
use crate::error::Result;

/// Name of the file that says by its lock that a session lives.
const ALIVE: &str = "alive";

/// A folder of unfinished files, which is gone when the process is.
#[derive(Debug)]
pub(super) struct Session {
    folder: PathBuf,
    // Locked as long as it is open.
    _alive: File,
    next: AtomicU64,
}

impl Session {
    /// Begins a session, and removes what dead ones left behind. `door` is a lock that all sessions
    /// begin under.
    pub(super) fn begin(tmp: &Path, door: &Path, env: &dyn Env) -> Result<Self> {
        let door = locks::open(door)?;
        door.lock().map_err(|error| io_error("cannot lock", tmp, error))?;
        let read = |error| io_error("cannot read", tmp, error);
        for entry in fs::read_dir(tmp).map_err(read)? {
            let folder = entry.map_err(read)?.path();
            let dead = match File::open(folder.join(ALIVE)) {
                Ok(alive) => alive.try_lock().is_ok(),
                Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            };
            if dead {
                fs::remove_dir_all(&folder)
                    .map_err(|error| io_error("cannot remove", &folder, error))?;
            }
        }
        let folder = tmp.join(format!("{:016x}", env.random_u64()));
        fs::create_dir(&folder).map_err(|error| io_error("cannot make", &folder, error))?;
        let alive = locks::open(&folder.join(ALIVE))?;
        alive.lock().map_err(|error| io_error("cannot lock", &folder, error))?;
        Ok(Self { folder, _alive: alive, next: AtomicU64::new(0) })
    }

    /// Writes a record to a file that has no name yet.
    pub(super) fn write(&self, record: &Record, sync: bool) -> Result<Unnamed> {
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let failed = |error| io_error("cannot write", &path, error);
        let file = File::create_new(&path).map_err(failed)?;
        let unnamed = Unnamed { path: path.clone(), file, named: false };
        let mut head = BytesMut::new();
        record.encode_head(&mut head);
        let body_at = head.len() as u64;
        unnamed.file.write_all_at(&head, 0).map_err(failed)?;
        unnamed.file.write_all_at(&record.body, body_at).map_err(failed)?;
        let written = body_at + record.body.len() as u64;
        if written < record.encoded_bytes() as u64 {
            unnamed.file.write_all_at(&[0], written).map_err(failed)?;
        }
        unnamed.sync(sync)?;
        Ok(unnamed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What stays behind is removed by the next session.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file that is written and has no name yet; removed unless it gets one.
#[derive(Debug)]
pub(super) struct Unnamed {
    path: PathBuf,
    file: File,
    named: bool,
}

impl Unnamed {
    /// Writes another head of the same length.
    pub(super) fn rewrite_head(&self, record: &Record, sync: bool) -> Result<()> {
        let mut head = BytesMut::new();
        record.encode_head(&mut head);
        self.file
            .write_all_at(&head, 0)
            .map_err(|error| io_error("cannot write", &self.path, error))?;
        self.sync(sync)
    }

    fn sync(&self, sync: bool) -> Result<()> {
        if sync {
            self.file.sync_data().map_err(|error| io_error("cannot sync", &self.path, error))?;
        }
        Ok(())
    }

    /// Gives the file its name, in place of what has it.
    pub(super) fn rename(&mut self, to: &Path) -> std::io::Result<()> {
        fs::rename(&self.path, to)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

//! Locks that hold between threads and between processes.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use super::files::io_error;
use crate::error::Result;

const STRIPES: usize = 64;

/// A fixed number of locks, each a file.
#[derive(Debug)]
pub(super) struct Stripes {
    folder: PathBuf,
    // An open file is one holder to `flock`, so threads are kept apart by the mutex.
    stripes: Vec<Mutex<Option<File>>>,
}

/// A lock that is held.
pub(super) struct Locked<'a>(MutexGuard<'a, Option<File>>);

impl Stripes {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, stripes: (0..STRIPES).map(|_| Mutex::new(None)).collect() }
    }

    /// Takes the lock of this number, whatever it is.
    pub(super) fn lock(&self, number: u32) -> Result<Locked<'_>> {
        let index = number as usize % STRIPES;
        let mut stripe = self.stripes[index].lock();
        let file = match stripe.take() {
            Some(file) => file,
            None => open(&self.folder.join(format!("{index:02x}")))?,
        };
        file.lock().map_err(|error| io_error("cannot lock", &self.folder, error))?;
        *stripe = Some(file);
        Ok(Locked(stripe))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let kept = self.0.as_ref().is_some_and(|file| file.unlock().is_ok());
        if !kept {
            // Closing the file gives the lock up too.
            *self.0 = None;
        }
    }
}

/// Opens a file to be locked, which is made if it is not there.
pub(super) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| io_error("cannot open the lock", path, error))
}

//! Objects as files of a folder.
//!
//! A record is one file, laid out by [`crate::driver::Record::encode`], in
//! `data/NAMESPACE/AREA/FAN/NAME` under the root: the names are those of [`crate::driver::names`],
//! FAN is one of 256 folders chosen by a hash of the key. A write goes to a file of its own under
//! `tmp`, is synced, and takes its name by an atomic rename, after which the folder is synced: readers
//! see the old file or the new one, and so does the next start after a crash. Conditions are checked
//! under a lock of the key, by `flock` on one of 64 files under `locks`, so they hold between all
//! processes that use the folder on one machine (and between machines where the file system passes
//! `flock` on, as NFS of Linux does). Folders that become empty are removed.
//!
//! The root must be one file system, with names of 255 bytes that keep their case. Its path may have
//! about 500 bytes.

mod driver;
mod files;
mod locks;
mod session;
mod walk;

use std::path::PathBuf;

use crate::driver::DriverBackend;
use crate::error::Result;
use crate::limits;

pub use driver::FilesystemDriver;
pub use walk::Cleaned;

/// How a folder is used.
#[derive(Debug, Clone)]
pub struct FilesystemOptions {
    /// The folder, which is made if it is not there.
    pub root: PathBuf,
    /// Largest value, in bytes. By default [`limits::VALUE_BYTES_MAX`].
    pub value_bytes_max: u64,
    /// Extensions that keys may have, without the dot and whatever their case; `None` allows all
    /// keys, also those without. The extension is what follows the last dot of what follows the last
    /// slash. Only writes are refused.
    pub allowed_extensions: Option<Vec<String>>,
    /// Whether a write is answered only when it would survive the loss of power. By default it is;
    /// without, a crash of the machine can lose or empty the files of the last seconds.
    pub sync: bool,
}

impl FilesystemOptions {
    /// This folder, the rest as by default.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            value_bytes_max: limits::VALUE_BYTES_MAX as u64,
            allowed_extensions: None,
            sync: true,
        }
    }
}

crate::named_backend! {
    /// Objects as files of a folder. What the storage trait does not have, such as
    /// [`FilesystemDriver::clean`], is done by a driver of the same folder.
    pub struct FilesystemBackend;
}

impl FilesystemBackend {
    /// Opens a folder with the default options.
    ///
    /// # Errors
    /// As [`FilesystemDriver::open`].
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open(FilesystemOptions::new(root))
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// As [`FilesystemDriver::open`].
    pub fn open(options: FilesystemOptions) -> Result<Self> {
        Ok(DriverBackend::new(FilesystemDriver::open(options)?).into())
    }
}

#[cfg(test)]
mod tests;

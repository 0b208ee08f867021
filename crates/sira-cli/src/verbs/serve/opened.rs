//! Backends that are open, and whether they would be opened the same way again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use sira_backends::config::BackendConfig;
use sira_store::StorageBackend;

/// A backend that is open.
#[derive(Clone)]
pub(super) struct Opened {
    config: BackendConfig,
    files: Files,
    pub(super) backend: Arc<dyn StorageBackend>,
    /// Something stands in for it, which could not be opened.
    pub(super) absent: bool,
}

/// What tells that a file was replaced or written to: device, number, length, and seconds and
/// nanoseconds of the last change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

/// The files of secrets and certificates as they are; `None` for one that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files(Vec<Option<Stamp>>);

impl Files {
    pub(super) fn of(config: &BackendConfig) -> Self {
        let stamp = |path| {
            let of = fs::metadata(path).ok()?;
            Some(Stamp(of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
        };
        Self(config.files().into_iter().map(stamp).collect())
    }
}

impl Opened {
    /// A backend, and the files as they were before it was opened.
    pub(super) fn new(
        config: &BackendConfig,
        files: Files,
        backend: Arc<dyn StorageBackend>,
        absent: bool,
    ) -> Self {
        Self { config: config.clone(), files, backend, absent }
    }

    /// Whether it was opened with these settings, and with what the files hold now.
    pub(super) fn is_of(&self, config: &BackendConfig, files: &Files) -> bool {
        self.config == *config && self.files == *files
    }
}

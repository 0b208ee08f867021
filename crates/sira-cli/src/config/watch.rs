//! Notices that the configuration file has changed, by itself or by SIGHUP, and reads it again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::StorageConfig;
use super::file;
use crate::failure::Failure;

/// Time between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches a configuration file on a task of its own, which ends when it is aborted. `apply` gets
/// what the file says of storage whenever the file has changed and has been left alone for a second,
/// and at once on SIGHUP; or everything that is wrong with it, and then the configuration before
/// stays.
///
/// SIGHUP no longer ends the process.
///
/// # Errors
/// When the signal cannot be caught.
pub fn watch<F>(path: PathBuf, apply: F) -> io::Result<JoinHandle<()>>
where
    F: FnMut(Result<StorageConfig, Vec<Failure>>) + Send + 'static,
{
    watch_every(INTERVAL, path, apply)
}

fn watch_every<F>(interval: Duration, path: PathBuf, mut apply: F) -> io::Result<JoinHandle<()>>
where
    F: FnMut(Result<StorageConfig, Vec<Failure>>) + Send + 'static,
{
    let mut hangups = signal(SignalKind::hangup())?;
    let mut applied = Mark::of(&path);
    let mut seen = applied;
    Ok(tokio::spawn(async move {
        loop {
            let demanded = tick(interval, &mut hangups).await;
            let now = Mark::of(&path);
            // A file that was just changed may be half written: it is read when it rests.
            let rests = now == std::mem::replace(&mut seen, now);
            if demanded || (rests && now != applied) {
                applied = now;
                apply(file::read_storage(&path));
            }
        }
    }))
}

/// Waits for the next look, and says whether SIGHUP asked for it.
async fn tick(interval: Duration, hangups: &mut Signal) -> bool {
    tokio::select! {
        Some(()) = hangups.recv() => true,
        () = tokio::time::sleep(interval) => false,
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    /// The file's; `None` while there is none.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests;

//! SIGINT and SIGTERM while a verb runs: unfinished local files are removed, and the exit code says
//! which signal it was. Every write to a store is whole or absent, so nothing else needs undoing.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use sira_log::env::{Env, SystemEnv};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Exit, Failure, Outcome};

/// Files that are being written under a temporary name.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Starts to watch for the signals.
///
/// # Errors
/// When the operating system gives no thread.
pub fn install() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::io("cannot watch for signals", &error))?;
    let watch = {
        // Registered here, so that no signal comes before the watch.
        let _context = runtime.enter();
        signal(SignalKind::interrupt())
            .and_then(|interrupt| signal(SignalKind::terminate()).map(|term| (interrupt, term)))
    };
    let (mut interrupt, mut terminate) =
        watch.map_err(|error| Failure::io("cannot watch for signals", &error))?;
    let task = move || {
        let exit = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
            }
        });
        // Held until the end, so that no new unfinished file appears.
        let unfinished = UNFINISHED.lock();
        for path in unfinished.iter() {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(exit.code().into());
    };
    SystemEnv
        .spawn("sira-signals", Box::new(task))
        .map(drop)
        .map_err(|error| Failure::io("cannot watch for signals", &error))
}

/// Removes the file at `path` when it is dropped or a signal ends the run, unless kept.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// Registers a file before it is made.
    pub fn new(path: PathBuf) -> Self {
        UNFINISHED.lock().push(path.clone());
        Self(path)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file its final name, replacing one that is there.
    ///
    /// # Errors
    /// The operating system's error; the file is then removed.
    pub fn keep_as(self, path: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.0, path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut unfinished = UNFINISHED.lock();
        unfinished.retain(|path| *path != self.0);
        // Gone already when it has its final name.
        let _ = std::fs::remove_file(&self.0);
    }
}

//! How far a copy is, on one line of a terminal.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sira_log::env::{Env, SystemEnv};

use crate::output::Output;
use crate::units::human_size;

/// Time between two updates of the line, in milliseconds.
const UPDATE_MS: u64 = 100;

/// Counts files and bytes.
#[derive(Debug)]
pub struct Progress {
    output: Output,
    started: Duration,
    files: AtomicU64,
    files_all: u64,
    bytes: AtomicU64,
    bytes_all: u64,
    shown_ms: AtomicU64,
}

impl Progress {
    /// Nothing copied yet.
    pub fn new(output: Output, files_all: u64, bytes_all: u64) -> Self {
        Self {
            output,
            started: SystemEnv.monotonic(),
            files: AtomicU64::new(0),
            files_all,
            bytes: AtomicU64::new(0),
            bytes_all,
            shown_ms: AtomicU64::new(0),
        }
    }

    /// More bytes are copied.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        self.show();
    }

    /// Bytes of an attempt that failed do not count.
    pub fn take_back(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
    }

    /// A file is done.
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        if !self.output.shows_progress() {
            return;
        }
        let passed = SystemEnv.monotonic().saturating_sub(self.started);
        let now_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let shown = self.shown_ms.load(Ordering::Relaxed);
        let due = now_ms >= shown + UPDATE_MS;
        // One thread shows each update.
        let mine =
            || self.shown_ms.compare_exchange(shown, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if !due || mine().is_err() {
            return;
        }
        let (files, bytes) =
            (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let rate = bytes as f64 / passed.as_secs_f64().max(1e-9);
        self.output.progress(&format!(
            "{files}/{} files  {} of {}  {}/s",
            self.files_all,
            human_size(bytes),
            human_size(self.bytes_all),
            human_size(rate as u64),
        ));
    }
}

/// A reader that counts what it gives.
pub struct Counted<R> {
    reader: R,
    progress: Arc<Progress>,
    counted: Arc<AtomicU64>,
}

impl<R: Read> Counted<R> {
    /// Adds what `reader` gives to `progress` and to `counted`.
    pub fn new(reader: R, progress: Arc<Progress>, counted: Arc<AtomicU64>) -> Self {
        Self { reader, progress, counted }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.counted.fetch_add(count as u64, Ordering::Relaxed);
        self.progress.add_bytes(count as u64);
        Ok(count)
    }
}

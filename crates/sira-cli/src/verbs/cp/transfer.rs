//! Moves the files, several at once.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sira_log::env::{Env, SystemEnv};
use sira_store::{Condition, StorageOptions};

use super::CpArgs;
use super::plan::{Job, Side};
use super::progress::{Counted, Progress};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::path::Location;
use crate::target::{Body, Target};
use crate::verbs::get::missing;
use crate::verbs::local;
use crate::verbs::put::WriteArgs;

/// How often a file is tried, where trying again can help.
const ATTEMPTS: u32 = 4;
/// Wait before the second attempt; doubled for each further one.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What came of a copy.
#[derive(Debug)]
pub struct Report {
    /// Bytes of the files that were copied.
    pub bytes: u64,
    /// Files that were not.
    pub failed: u64,
    /// Why.
    pub failures: Vec<Failure>,
}

struct Shared {
    target: Arc<dyn Target>,
    output: Output,
    write: WriteArgs,
    jobs: Vec<Job>,
    next: AtomicUsize,
    bytes: AtomicU64,
    progress: Arc<Progress>,
    failures: Mutex<Vec<Failure>>,
}

/// Copies all files.
///
/// # Errors
/// When no thread can be started, or the output cannot be written. A file that fails is in the
/// report, and the others go on.
pub fn run(
    target: Arc<dyn Target>,
    output: Output,
    jobs: Vec<Job>,
    args: &CpArgs,
) -> Outcome<Report> {
    let threads = usize::from(args.jobs).min(jobs.len());
    let bytes_all = jobs.iter().map(|job| job.size).sum();
    let progress = Arc::new(Progress::new(output, jobs.len() as u64, bytes_all));
    let shared = Arc::new(Shared {
        target,
        output,
        write: args.write.clone(),
        jobs,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        progress,
        failures: Mutex::default(),
    });
    let outcome = Arc::new(Mutex::new(Ok(())));
    let mut workers = Vec::with_capacity(threads);
    for number in 0..threads {
        let (shared, outcome) = (Arc::clone(&shared), Arc::clone(&outcome));
        let task = move || {
            if let Err(failure) = shared.work() {
                // Nobody reads the output any more: no further file is begun.
                shared.next.store(shared.jobs.len(), Ordering::Relaxed);
                *outcome.lock() = Err(failure);
            }
        };
        let worker = SystemEnv
            .spawn(&format!("sira-cp-{number}"), Box::new(task))
            .map_err(|error| Failure::io("cannot start a thread", &error))?;
        workers.push(worker);
    }
    for worker in workers {
        worker.join().map_err(|_| Failure::other("a copying thread ended unexpectedly"))?;
    }
    output.progress("");
    std::mem::replace(&mut *outcome.lock(), Ok(()))?;
    let failures = std::mem::take(&mut *shared.failures.lock());
    let failed = failures.len() as u64;
    Ok(Report { bytes: shared.bytes.load(Ordering::Relaxed), failed, failures })
}

impl Shared {
    fn work(&self) -> Outcome {
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match self.copy_with_retries(job) {
                Ok(bytes) => {
                    self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    self.progress.add_file();
                    if !self.output.shows_progress() {
                        self.output.done(&job.record(false), || job.to_string())?;
                    }
                }
                Err(failure) => {
                    let failure = failure.context(job);
                    self.output.progress("");
                    self.output.failure(&failure);
                    self.failures.lock().push(failure);
                }
            }
        }
        Ok(())
    }

    fn copy_with_retries(&self, job: &Job) -> Outcome<u64> {
        let mut wait = RETRY_WAIT;
        for _ in 1..ATTEMPTS {
            match self.copy(job) {
                Err(failure) if failure.exit == Exit::Retryable => SystemEnv.sleep(wait),
                result => return result,
            }
            wait *= 2;
        }
        self.copy(job)
    }

    fn copy(&self, job: &Job) -> Outcome<u64> {
        let counted = Arc::new(AtomicU64::new(0));
        let result = match (&job.source, &job.destination) {
            (Side::Local(from), Side::Remote(to)) => self.upload(from, to, &counted),
            (Side::Remote(from), Side::Local(to)) => self.download(from, to, &counted),
            (Side::Remote(from), Side::Remote(to)) => self.relay(from, to, &counted),
            (Side::Local(_), Side::Local(_)) => Err(Failure::usage("both ends are local files")),
        };
        if result.is_err() {
            self.progress.take_back(counted.load(Ordering::Relaxed));
        }
        result
    }

    fn upload(&self, from: &Path, to: &Location, counted: &Arc<AtomicU64>) -> Outcome<u64> {
        let (file, len) = local::open_file(from)?;
        let reader = Counted::new(file, Arc::clone(&self.progress), Arc::clone(counted));
        let options = self.write.options(Condition::Always);
        // With a length, the store takes exactly that many bytes or fails.
        self.target.put(to, Body { reader: Box::new(reader), len }, &options)?;
        Ok(counted.load(Ordering::Relaxed))
    }

    fn download(&self, from: &Location, to: &Path, counted: &Arc<AtomicU64>) -> Outcome<u64> {
        let download = self.target.get(from, None)?.ok_or_else(|| missing(from))?;
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|error| {
                Failure::io(format_args!("cannot make the folder {}", parent.display()), &error)
            })?;
        }
        local::save(download, to, &mut |count| {
            counted.fetch_add(count, Ordering::Relaxed);
            self.progress.add_bytes(count);
        })
    }

    fn relay(&self, from: &Location, to: &Location, counted: &Arc<AtomicU64>) -> Outcome<u64> {
        let download = self.target.get(from, None)?.ok_or_else(|| missing(from))?;
        let mut options: StorageOptions = self.write.options(Condition::Always);
        if self.write.keeps_metadata_of_source() {
            options.metadata = download.head.metadata;
        }
        let reader = Counted::new(download.reader, Arc::clone(&self.progress), Arc::clone(counted));
        let body = Body { reader: Box::new(reader), len: Some(download.len) };
        self.target.put(to, body, &options)?;
        Ok(download.len)
    }
}

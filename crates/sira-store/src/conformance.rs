//! The conformance suite: what every [`StorageBackend`] must do, as one function.
//!
//! [`run`] takes any backend and tries it: round trips, limits, versions, conditions under racing
//! writers, expiry, ranges, metadata, listings, batches, namespaces and cancelled operations. Which
//! cases run follows from the declared [`Capabilities`](crate::Capabilities). Keys begin or end with
//! a random tag and are removed at the end, so it can run on a store in use.
//!
//! ```
//! use std::sync::Arc;
//! use sira_store::MemoryBackend;
//! use sira_store::conformance::{self, ConformanceOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let backend = Arc::new(MemoryBackend::new(64 << 20));
//! let options = ConformanceOptions { only: Some("values/".into()), ..Default::default() };
//! let report = conformance::run(backend, options).await.into_result()?;
//! assert!(report.failed.is_empty());
//! # Ok::<_, Box<dyn std::error::Error>>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod batches;
mod cancellation;
mod checks;
mod conditions;
mod context;
mod expiry;
pub(crate) mod history;
mod keys;
mod listing;
mod metadata;
mod namespaces;
mod ranges;
mod suite;
mod transactions;
mod values;
mod versions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::backend::StorageBackend;
use crate::env::{Env, SystemEnv};
use context::Context;
use suite::{CASES, Case};

/// How the suite is run.
#[derive(Debug, Clone)]
pub struct ConformanceOptions {
    /// Largest value that is written, in bytes; the backend's own limit bounds it as well.
    pub value_bytes_max: u64,
    /// Writers that race for one key.
    pub racing_writers: usize,
    /// Time to live of objects whose expiry is waited for.
    pub ttl: Duration,
    /// How far the backend's clock may be from this process'.
    pub clock_skew: Duration,
    /// Longest time of one case; one that takes longer has failed.
    pub case_time_max: Duration,
    /// Other handles of the same store, as other processes have them: racing operations are spread
    /// over them, so that what is atomic must be so in the engine.
    pub peers: Vec<Arc<dyn StorageBackend>>,
    /// Runs only the cases whose names begin with this.
    pub only: Option<String>,
    /// Clock that expiry is compared with, and source of the random tag.
    pub env: Arc<dyn Env>,
}

impl Default for ConformanceOptions {
    fn default() -> Self {
        Self {
            value_bytes_max: 1 << 20,
            racing_writers: 16,
            ttl: Duration::from_millis(200),
            clock_skew: Duration::ZERO,
            case_time_max: Duration::from_secs(120),
            peers: Vec::new(),
            only: None,
            env: Arc::new(SystemEnv),
        }
    }
}

/// A case that a backend failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFailure {
    /// Name of the case, such as `ranges/cut`.
    pub case: &'static str,
    /// What was expected and what was seen.
    pub message: String,
}

/// A case that was not run, for want of a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseSkipped {
    /// Name of the case.
    pub case: &'static str,
    /// The capability that the backend does not declare.
    pub missing: &'static str,
}

/// What a run of the suite found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConformanceReport {
    /// Name of the backend, as it declares it.
    pub backend: String,
    /// Cases that the backend passed.
    pub passed: Vec<&'static str>,
    /// Cases that need what the backend does not declare.
    pub skipped: Vec<CaseSkipped>,
    /// Cases that the backend failed.
    pub failed: Vec<CaseFailure>,
}

impl ConformanceReport {
    /// The report if no case failed, else an error that lists those that did.
    ///
    /// # Errors
    /// [`NotConforming`] when a case failed, or when none was run.
    pub fn into_result(self) -> Result<Self, NotConforming> {
        if self.failed.is_empty() && !self.passed.is_empty() {
            Ok(self)
        } else {
            Err(NotConforming(self))
        }
    }
}

impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, skipped) = (self.passed.len(), self.skipped.len());
        let failed = self.failed.len();
        write!(f, "{}: {passed} passed, {skipped} skipped, {failed} failed", self.backend)?;
        for failure in &self.failed {
            write!(f, "\n  {}: {}", failure.case, failure.message)?;
        }
        Ok(())
    }
}

/// A backend that does not do what the trait demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the backend does not conform: {0}")]
pub struct NotConforming(pub ConformanceReport);

/// Runs the suite on a backend, which must be called from a tokio runtime with its timer enabled.
/// Never panics: a backend that panics or hangs fails the case in which it does.
#[must_use = "the report says whether the backend conforms"]
pub async fn run(
    backend: Arc<dyn StorageBackend>,
    options: ConformanceOptions,
) -> ConformanceReport {
    let capabilities = backend.capabilities();
    let mut report =
        ConformanceReport { backend: capabilities.name.to_owned(), ..ConformanceReport::default() };
    let options = Arc::new(options);
    let tag = format!("conformance-{:016x}", options.env.random_u64());
    for case in CASES {
        if options.only.as_ref().is_some_and(|only| !case.name.starts_with(only.as_str())) {
            continue;
        }
        if let Some(missing) = case.missing(&*backend) {
            report.skipped.push(CaseSkipped { case: case.name, missing });
            continue;
        }
        let context = Context::new(Arc::clone(&backend), Arc::clone(&options), &tag, case.name);
        match run_case(case, context).await {
            Ok(()) => report.passed.push(case.name),
            Err(message) => report.failed.push(CaseFailure { case: case.name, message }),
        }
    }
    report
}

async fn run_case(case: &Case, context: Context) -> Result<(), String> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err("the suite must be run from a tokio runtime".to_owned());
    };
    let time_max = context.options.case_time_max;
    let result = finish(runtime.spawn((case.run)(context.clone())), time_max).await;
    // What is left behind is not the case's verdict: a backend that cannot delete fails elsewhere.
    let _ = finish(runtime.spawn(context.clean()), time_max).await;
    result
}

/// The verdict of a task, also when it panics or hangs.
async fn finish(
    mut task: JoinHandle<Result<(), String>>,
    time_max: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(time_max, &mut task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(match error.try_into_panic() {
            Ok(panic) => format!("expected an answer, saw a panic: {}", panic_text(&*panic)),
            Err(error) => format!("expected an answer, saw {error}"),
        }),
        Err(_) => {
            task.abort();
            Err(format!("expected an answer within {time_max:?}, saw none"))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

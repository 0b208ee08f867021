//! A bound on how long an engine may take.

use std::future::Future;
use std::time::Duration;

use sira_store::{Result, Retry, StorageError};

/// What an operation leaves behind when its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it only looks.
    Read,
    /// Perhaps a change.
    Write,
}

impl Effect {
    /// Whether to try again when no answer came.
    pub(crate) const fn retry(self) -> Retry {
        match self {
            Self::Read => Retry::Temporary,
            Self::Write => Retry::Ambiguous,
        }
    }
}

/// Runs `work` for at most `limit`.
///
/// # Errors
/// [`StorageError::Timeout`] when it takes longer, and those of `work`.
pub(crate) async fn within<T>(
    limit: Duration,
    effect: Effect,
    engine: &str,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(StorageError::timeout(format!(
            "{engine} did not answer within {} ms; look at its load, or allow it more time",
            limit.as_millis()
        ))
        .with_retry(effect.retry()))
    })
}

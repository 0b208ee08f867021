//! Writes that are found again by their version.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::attempts::Attempts;
use super::{RetryLayer, helps, helps_a_read};
use crate::backend::ReadOptions;
use crate::error::{Result, Retry, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// A write with a version of its own.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) condition: Condition,
    pub(super) version: Version,
    /// The layer drew the version, and may draw another one while none was sent in vain.
    drawn: bool,
    /// An attempt with this version may have taken effect.
    pub(super) pending: bool,
    /// Conflicts in a row that no newer version explains.
    unexplained: u32,
}

/// What to do after a failed attempt.
pub(super) enum Next {
    /// Answer this.
    Answer(Result<Version>),
    /// Try again, if there may be another attempt; else answer the error.
    Again(StorageError),
}

impl RetryLayer {
    /// The version to write with, where the write is to be found again.
    pub(super) fn identify(&self, options: &StorageOptions) -> Option<Identified> {
        let conditional = options.condition != Condition::Always;
        let drawn = options.version.is_none();
        let wanted = !drawn || conditional || self.retries.options.identify_all;
        if !wanted || !self.inner.capabilities().exact_versions {
            return None;
        }
        let held = match options.condition {
            Condition::IfMatch(held) => Some(held),
            _ => None,
        };
        let version = options.version.unwrap_or_else(|| self.retries.draw_version(held));
        let condition = options.condition;
        Some(Identified { condition, version, drawn, pending: false, unexplained: 0 })
    }

    pub(super) async fn write(
        &self,
        key: &str,
        value: Bytes,
        mut options: StorageOptions,
    ) -> Result<Version> {
        let mut attempts = Attempts::begin(&self.retries);
        let Some(mut write) = self.identify(&options) else {
            return self.write_blindly(key, value, options, attempts).await;
        };
        loop {
            options.version = Some(write.version);
            let error = match self.inner.put(key, value.clone(), options.clone()).await {
                Ok(version) => {
                    self.retries.clock.observe(version);
                    return Ok(version);
                }
                Err(error) => error,
            };
            match self.after(key, Some(&value), &mut write, error, &mut attempts).await {
                Next::Answer(answer) => return answer,
                Next::Again(_) if attempts.again().await => {}
                Next::Again(error) if write.pending => return Err(self.retries.unknown(error)),
                Next::Again(StorageError::Conflict(_)) if write.drawn => {
                    // Others were faster each time, and nothing of this was written: the caller
                    // asked for no version, so the engine may choose one that does not lose.
                    options.version = None;
                    return self.write_blindly(key, value, options, attempts).await;
                }
                Next::Again(error) => return Err(error),
            }
            if write.unexplained > 1 && !write.pending {
                // What has expired still holds its version, and a clock that is ahead of ours gave
                // it: let the engine choose.
                options.version = None;
                return self.write_blindly(key, value, options, attempts).await;
            }
        }
    }

    /// Finds out what a failed attempt did. `value` is what was to be written, where it is at hand.
    pub(super) async fn after(
        &self,
        key: &str,
        value: Option<&Bytes>,
        write: &mut Identified,
        error: StorageError,
        attempts: &mut Attempts<'_>,
    ) -> Next {
        let refused =
            matches!(error, StorageError::PreconditionFailed(_) | StorageError::Conflict(_));
        if error.retry() == Retry::Ambiguous {
            write.pending = true;
        }
        if write.pending && (refused || error.retry() == Retry::Ambiguous) {
            return self.resolve(key, value, write, error, attempts).await;
        }
        if matches!(error, StorageError::Conflict(_)) {
            return self.explain_conflict(key, write, error, attempts).await;
        }
        if helps(&error) {
            return Next::Again(error);
        }
        Next::Answer(Err(if write.pending { self.retries.unknown(error) } else { error }))
    }

    /// Reads what the key holds, and tells by its version what became of the write.
    async fn resolve(
        &self,
        key: &str,
        value: Option<&Bytes>,
        write: &mut Identified,
        error: StorageError,
        attempts: &mut Attempts<'_>,
    ) -> Next {
        let Ok(head) = self.look(key, attempts).await else {
            return Next::Answer(Err(self.retries.unknown(error)));
        };
        let held = head.map(|head| head.version);
        match held {
            Some(held) if held == write.version => {
                match self.wrote(key, value, write.version, attempts).await {
                    Ok(true) => {
                        self.retries.found.fetch_add(1, Ordering::Relaxed);
                        Next::Answer(Ok(write.version))
                    }
                    // Ours would have been refused after the other's, and the other's after ours.
                    Ok(false) => {
                        let taken = StorageError::conflict("another write has this version");
                        self.explain_conflict(key, write, taken.with_key(key), attempts).await
                    }
                    Err(_) => Next::Answer(Err(self.retries.unknown(error))),
                }
            }
            Some(held) if held > write.version => Next::Answer(Err(self.retries.unknown(error))),
            _ => match write.condition.require(held) {
                Ok(()) => Next::Again(error),
                Err(refused) if held.is_some() => Next::Answer(Err(refused.with_key(key))),
                Err(_) => Next::Answer(Err(self.retries.unknown(error))),
            },
        }
    }

    /// Whether what the key holds with the write's version is the write's value: processes may draw
    /// the same version, and the answer that says so may be the one that was lost.
    async fn wrote(
        &self,
        key: &str,
        value: Option<&Bytes>,
        version: Version,
        attempts: &mut Attempts<'_>,
    ) -> Result<bool> {
        let Some(value) = value else { return Ok(true) };
        let options =
            ReadOptions { condition: Condition::IfMatch(version), ..ReadOptions::default() };
        loop {
            match self.inner.read(key, options.clone()).await {
                Ok(held) => return Ok(held.is_some_and(|held| held.value == *value)),
                Err(error) if helps_a_read(&error) && attempts.again().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A conflict of a write that surely had no effect: its version is too old, or another writer
    /// was in the way.
    async fn explain_conflict(
        &self,
        key: &str,
        write: &mut Identified,
        error: StorageError,
        attempts: &mut Attempts<'_>,
    ) -> Next {
        let held = match self.look(key, attempts).await {
            Ok(head) => head.map(|head| head.version),
            Err(_) => return Next::Again(error),
        };
        if held.is_some_and(|held| held >= write.version) {
            if !write.drawn {
                return Next::Answer(Err(error));
            }
            write.version = self.retries.draw_version(held);
            write.unexplained = 0;
        } else if write.drawn {
            write.unexplained += 1;
        }
        Next::Again(error)
    }

    /// A write that cannot be found again.
    async fn write_blindly(
        &self,
        key: &str,
        value: Bytes,
        options: StorageOptions,
        mut attempts: Attempts<'_>,
    ) -> Result<Version> {
        let idempotent = options.condition == Condition::Always && options.version.is_none();
        let mut pending = false;
        loop {
            let error = match self.inner.put(key, value.clone(), options.clone()).await {
                Ok(version) => {
                    self.retries.clock.observe(version);
                    return Ok(version);
                }
                Err(error) => error,
            };
            let ambiguous = error.retry() == Retry::Ambiguous;
            pending |= ambiguous;
            let again = helps(&error) || (ambiguous && idempotent);
            if again && attempts.again().await {
                continue;
            }
            return Err(if pending { self.retries.unknown(error) } else { error });
        }
    }
}

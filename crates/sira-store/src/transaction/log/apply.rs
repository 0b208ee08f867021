//! Writing committed transactions to their backends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::record::Write;
use super::{Shared, runtime};
use crate::backend::StorageBackend;
use crate::error::{Result, StorageError};
use crate::options::{Condition, Durability, StorageOptions};
use crate::placement::together;

/// Keys that are written at the same time.
const TOGETHER: usize = 32;

/// Times that a key is tried again at once because another writer was quicker.
const ATTEMPTS: usize = 8;

/// First wait before what failed is tried again; it doubles.
const WAIT: Duration = Duration::from_millis(50);

/// Longest such wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    /// Another process had written it in the meantime.
    Overtaken,
}

impl Shared {
    /// Writes a committed transaction to its backends from now on, by a task that ends with the log.
    pub(super) fn write_through(
        self: &Arc<Self>,
        id: String,
        writes: Arc<[Arc<Write>]>,
        bytes: u64,
    ) {
        self.figures.pending.fetch_add(1, Ordering::Relaxed);
        self.figures.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let shared = Arc::downgrade(self);
        // The log is opened within a runtime, and commits run on it.
        if let Ok(runtime) = runtime() {
            runtime.spawn(write_through(shared, id, writes, bytes));
        }
    }

    /// Makes one attempt at each of these writes, and answers those that are left.
    async fn attempt(&self, id: &str, writes: Vec<Arc<Write>>) -> Vec<Arc<Write>> {
        let mut left = Vec::new();
        for writes in writes.chunks(TOGETHER) {
            let attempts = writes.iter().map(|write| self.try_apply(write));
            for (write, outcome) in writes.iter().zip(together(attempts).await) {
                match outcome {
                    Ok(Some(Outcome::Written)) => {}
                    Ok(None) => left.push(Arc::clone(write)),
                    Ok(Some(Outcome::Overtaken)) => {
                        self.figures.overtaken.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(
                            transaction = id,
                            namespace = &*write.namespace,
                            key = write.key,
                            "another process has written a key of a committed transaction, and its version is greater"
                        );
                    }
                    Err(error) => {
                        self.figures.retries.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(
                            transaction = id,
                            namespace = &*write.namespace,
                            key = write.key,
                            %error,
                            "a committed transaction is not written to its backend yet; it is tried again"
                        );
                        left.push(Arc::clone(write));
                    }
                }
            }
        }
        left
    }

    /// Writes a key to its backend; `None` while nobody has opened its namespace.
    async fn try_apply(&self, write: &Write) -> Result<Option<Outcome>> {
        match self.backend(&write.namespace) {
            Some(backend) => self.apply(&*backend, write).await.map(Some),
            None => Ok(None),
        }
    }

    async fn apply(&self, backend: &dyn StorageBackend, write: &Write) -> Result<Outcome> {
        let now_ms = self.env.now_ms();
        match (&write.put, write.head(now_ms)) {
            (Some(put), Some(head)) => {
                let options = StorageOptions {
                    expires_at_ms: head.expires_at_ms,
                    metadata: head.metadata,
                    version: Some(write.version),
                    durability: Some(Durability::Sync),
                    ..StorageOptions::default()
                };
                apply_put(backend, write, put.value.clone(), options).await
            }
            // What has expired meanwhile replaces what was there before all the same.
            _ => apply_removal(backend, write).await,
        }
    }
}

async fn apply_put(
    backend: &dyn StorageBackend,
    write: &Write,
    value: bytes::Bytes,
    options: StorageOptions,
) -> Result<Outcome> {
    let mut attempt = 1;
    loop {
        match backend.put(&write.key, value.clone(), options.clone()).await {
            Ok(_) => return Ok(Outcome::Written),
            Err(error @ StorageError::Conflict(_)) => {
                match backend.head(&write.key).await?.map(|head| head.version) {
                    Some(held) if held == write.version => return Ok(Outcome::Written),
                    Some(held) if held > write.version => return Ok(Outcome::Overtaken),
                    _ if attempt < ATTEMPTS => attempt += 1,
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn apply_removal(backend: &dyn StorageBackend, write: &Write) -> Result<Outcome> {
    let mut attempt = 1;
    loop {
        let Some(head) = backend.head(&write.key).await? else { return Ok(Outcome::Written) };
        if head.version > write.version {
            return Ok(Outcome::Overtaken);
        }
        match backend.remove(&write.key, Condition::IfMatch(head.version)).await {
            Ok(_) => return Ok(Outcome::Written),
            Err(StorageError::PreconditionFailed(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn write_through(shared: Weak<Shared>, id: String, writes: Arc<[Arc<Write>]>, bytes: u64) {
    let mut left = writes.to_vec();
    let mut wait = WAIT;
    loop {
        let Some(log) = shared.upgrade() else { return };
        if !left.is_empty() {
            left = log.attempt(&id, left).await;
        }
        if left.is_empty() {
            match log.forget(&id).await {
                Ok(()) => {
                    log.table.release(&writes);
                    log.figures.applied.fetch_add(1, Ordering::Relaxed);
                    log.figures.pending.fetch_sub(1, Ordering::Relaxed);
                    log.figures.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    return;
                }
                Err(error) => {
                    tracing::warn!(transaction = id, %error, "the record of a transaction stays");
                }
            }
        }
        let arrived = Arc::clone(&log.arrived);
        drop(log);
        // A namespace that comes is what some wait for.
        wait = match tokio::time::timeout(wait, arrived.notified()).await {
            Ok(()) => WAIT,
            Err(_) => WAIT_MAX.min(wait * 2),
        };
    }
}

impl Shared {
    /// Removes the record of a transaction. Its keys are written by others only after that is
    /// durable: what is written through anew after a crash must not undo what came later.
    async fn forget(&self, id: &str) -> Result<()> {
        self.records.remove(id, Condition::Always).await?;
        self.records.flush().await
    }
}

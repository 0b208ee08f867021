//! Tokens that only grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::backend::{ReadOptions, StorageBackend};
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Tokens that are reserved at a time: more than can be waited for.
const RESERVED: u64 = 1 << 24;

/// Key of the object that keeps up to where tokens are reserved, as a decimal number.
const KEY: &str = "tokens";

/// Hands out tokens.
#[derive(Debug)]
pub(super) struct Fence {
    last: AtomicU64,
    /// Tokens up to this one are reserved.
    reserved: AtomicU64,
    kept: Option<Mutex<Kept>>,
}

/// Where reservations are kept.
#[derive(Debug)]
struct Kept {
    backend: Arc<dyn StorageBackend>,
    env: Arc<dyn Env>,
    /// Version of the reservation; `None` before the first.
    version: Option<Version>,
    opened: bool,
}

impl Fence {
    /// Tokens after the time of the clock.
    pub(super) fn of_clock(env: &dyn Env) -> Self {
        let last = AtomicU64::new(env.now_ms() << 16);
        Self { last, reserved: AtomicU64::new(u64::MAX), kept: None }
    }

    /// Tokens after all that `backend` says were reserved, which is read when the first is wanted.
    pub(super) fn kept_in(backend: Arc<dyn StorageBackend>, env: Arc<dyn Env>) -> Self {
        let kept = Kept { backend, env, version: None, opened: false };
        Self { last: AtomicU64::new(0), reserved: AtomicU64::new(0), kept: Some(Mutex::new(kept)) }
    }

    /// Makes sure that there are tokens for all who may be waiting.
    pub(super) async fn ensure(&self) -> Result<()> {
        let short = || {
            let reserved = self.reserved.load(Ordering::Acquire);
            reserved.saturating_sub(self.last.load(Ordering::Acquire)) < RESERVED / 2
        };
        let Some(kept) = self.kept.as_ref().filter(|_| short()) else { return Ok(()) };
        let mut kept = kept.lock().await;
        if !short() {
            return Ok(());
        }
        if kept.opened {
            let from = self.reserved.load(Ordering::Acquire);
            self.reserved.store(kept.reserve(from).await?, Ordering::Release);
            return Ok(());
        }
        let last = (kept.env.now_ms() << 16).max(kept.read().await?);
        let reserved = kept.reserve(last).await?;
        kept.opened = true;
        self.last.store(last, Ordering::Release);
        self.reserved.store(reserved, Ordering::Release);
        Ok(())
    }

    /// The next token.
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Kept {
    /// The last token that was reserved; 0 before the first.
    async fn read(&mut self) -> Result<u64> {
        let Some(object) = self.backend.read(KEY, ReadOptions::default()).await? else {
            self.version = None;
            return Ok(0);
        };
        self.version = Some(object.head.version);
        let text = std::str::from_utf8(&object.value).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            StorageError::corrupt("what says which tokens of locks were given is no number")
                .with_key(KEY)
        })
    }

    /// Reserves tokens after this one, and answers the last of them.
    async fn reserve(&mut self, after: u64) -> Result<u64> {
        let reserved = after.saturating_add(RESERVED);
        let condition = self.version.map_or(Condition::IfAbsent, Condition::IfMatch);
        let options = StorageOptions { condition, ..StorageOptions::default() };
        let written = self.backend.put(KEY, reserved.to_string().into(), options).await;
        self.version = Some(written.map_err(|error| match error {
            StorageError::PreconditionFailed(_) => {
                StorageError::conflict("another process gives locks with the same tokens")
            }
            error => error,
        })?);
        Ok(reserved)
    }
}

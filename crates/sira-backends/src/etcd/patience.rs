//! Writers that meet at a key.

use std::time::Duration;

use sira_store::StorageError;
use sira_store::env::{Env, SystemEnv};

/// Times that a change is tried again because another writer was faster.
pub(super) const RETRIES: u32 = 64;

/// Refusals in a row after which a writer waits before the next attempt.
const HASTE: u32 = 4;

/// Lets others write who were faster several times: some time, longer with each attempt and not as
/// long as others do.
pub(super) async fn give_way(attempt: u32) {
    if attempt >= HASTE {
        let most_ms = (2_u64 << (attempt - HASTE).min(6)).min(100);
        tokio::time::sleep(Duration::from_millis(SystemEnv.random_u64() % most_ms)).await;
    }
}

pub(super) fn contended() -> StorageError {
    StorageError::conflict("other writers were faster each time; nothing was written, try again")
}

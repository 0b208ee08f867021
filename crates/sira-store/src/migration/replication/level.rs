//! One key of the target, as the source has it.

use super::Replication;
use crate::backend::{Object, ReadOptions};
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Times that a key is looked at again because it was written meanwhile.
const ATTEMPTS: usize = 32;

/// Brings the newest state of a key to the target. What the source does not have is removed there if
/// it is of a version below the one that is given.
pub(super) async fn level(
    replication: &Replication,
    key: &str,
    remove_below: Version,
) -> Result<()> {
    for _ in 0..ATTEMPTS {
        match attempt(replication, key, remove_below).await {
            Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => {}
            result => return result,
        }
    }
    Err(StorageError::conflict("the object is written faster than it can be followed"))
}

/// Errors of the kinds that tell of other writers begin the key again.
async fn attempt(replication: &Replication, key: &str, remove_below: Version) -> Result<()> {
    let Replication { source, target, meter, options, env, .. } = replication;
    let Some(head) = source.head(key).await? else {
        let Some(held) = target.head(key).await? else { return Ok(()) };
        if held.version >= remove_below {
            return Ok(());
        }
        settle(replication).await?;
        // It may have come back before that was durable.
        if source.exists(key).await? {
            return Err(StorageError::conflict("the object has come back"));
        }
        target.remove(key, Condition::IfMatch(held.version)).await?;
        meter.removed();
        return Ok(());
    };
    let held = target.head(key).await?.map(|held| held.version);
    if held >= Some(head.version) {
        if held > Some(head.version) {
            meter.newer();
        }
        return Ok(());
    }
    meter.throttle.wait(&**env, head.size, options.bytes_per_second_max).await;
    let pinned = ReadOptions { condition: Condition::IfMatch(head.version), range: None };
    let Some(Object { head, value, .. }) = source.read(key, pinned).await? else {
        return Err(StorageError::conflict("the object was removed"));
    };
    settle(replication).await?;
    let options = StorageOptions {
        expires_at_ms: head.expires_at_ms,
        metadata: head.metadata,
        version: Some(head.version),
        condition: held.map_or(Condition::IfAbsent, Condition::IfMatch),
        ..StorageOptions::default()
    };
    match target.put(key, value, options).await {
        // It has expired on its way.
        Err(StorageError::InvalidInput(_))
            if head.expires_at_ms.is_some_and(|at| at <= env.now_ms()) =>
        {
            Err(StorageError::conflict("the object has expired"))
        }
        Err(error) => Err(error),
        Ok(_) => {
            meter.copied(head.size);
            Ok(())
        }
    }
}

/// What the source could still lose does not go to the target.
async fn settle(replication: &Replication) -> Result<()> {
    match &replication.log {
        Some(log) => log.settle().await,
        None => Ok(()),
    }
}

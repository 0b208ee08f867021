//! What is done about a key, each write on the condition of what was seen.

use bytes::Bytes;

use super::TwoWaySync;
use super::decide::{Bring, Step};
use crate::backend::{Object, ObjectHead, ReadOptions};
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::migration::{Side, Verify};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides have this version, or nothing.
    Settled(Option<Version>),
    /// The objects have one version, and are two.
    Differ,
    /// Someone has written the key meanwhile: look at it again.
    Again,
}

/// Runs a step. A write that it makes stores `version`.
pub(super) async fn apply(
    sync: &TwoWaySync,
    key: &str,
    step: Step,
    version: Version,
) -> Result<Outcome> {
    let outcome = match step {
        Step::Settled(agreed) => return Ok(Outcome::Settled(agreed)),
        Step::Compare(version) => compare(sync, key, version).await,
        Step::Bring(bring) => self::bring(sync, key, *bring, version).await,
        Step::Remove { from, version } => {
            let removed = sync.side(from).remove(key, Condition::IfMatch(version)).await;
            removed.map(|_| {
                sync.meter.removed(from);
                Outcome::Settled(None)
            })
        }
    };
    match outcome {
        Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => Ok(Outcome::Again),
        outcome => outcome,
    }
}

/// Whether both sides hold the same object under one version.
async fn compare(sync: &TwoWaySync, key: &str, version: Version) -> Result<Outcome> {
    let (source, target) = (sync.side(Side::Source), sync.side(Side::Target));
    let (here, there) =
        (read(sync, Side::Source, key, version), read(sync, Side::Target, key, version));
    let (Some(here), Some(there)) = (here.await?, there.await?) else {
        return Ok(Outcome::Again);
    };
    sync.meter.count(|report| report.verified += 1);
    let described = source.capabilities().metadata && target.capabilities().metadata;
    let same =
        here.value == there.value && (!described || here.head.metadata == there.head.metadata);
    Ok(if same { Outcome::Settled(Some(version)) } else { Outcome::Differ })
}

async fn bring(sync: &TwoWaySync, key: &str, bring: Bring, version: Version) -> Result<Outcome> {
    let Bring { to, head, over, conflict, aside } = bring;
    let Some(object) = read(sync, to.other(), key, head.version).await? else {
        return Ok(Outcome::Again);
    };
    if let (Some(separator), Some(over)) = (aside, over)
        && !keep_aside(sync, key, &separator, to, over).await?
    {
        return Ok(Outcome::Again);
    }
    let again = version != head.version;
    let (value, metadata) = if again {
        sync.stamp.restamp(object, key, key, version)?
    } else {
        (object.value, object.head.metadata)
    };
    let condition = over.map_or(Condition::IfAbsent, Condition::IfMatch);
    put(sync, to, key, &value, &metadata, &head, version, condition).await?;
    if again {
        let condition = Condition::IfMatch(head.version);
        put(sync, to.other(), key, &value, &metadata, &head, version, condition).await?;
    }
    verify(sync, to, key, version, &value).await?;
    sync.meter.copied(to, head.size, conflict);
    Ok(Outcome::Settled(Some(version)))
}

/// Keeps what a side holds under another key, on both sides; false when it is gone.
async fn keep_aside(
    sync: &TwoWaySync,
    key: &str,
    separator: &str,
    side: Side,
    version: Version,
) -> Result<bool> {
    let Some(object) = read(sync, side, key, version).await? else { return Ok(false) };
    let head = object.head.clone();
    let to_key = format!("{key}{separator}{version}");
    let (value, metadata) = sync.stamp.restamp(object, key, &to_key, version)?;
    for side in [side, side.other()] {
        let condition = Condition::IfAbsent;
        let kept = put(sync, side, &to_key, &value, &metadata, &head, version, condition).await;
        match kept {
            // An earlier run has put it there.
            Ok(()) | Err(StorageError::PreconditionFailed(_)) => {}
            Err(error) => return Err(error.with_key(to_key)),
        }
    }
    Ok(true)
}

/// The object of this version, if a side still has it.
async fn read(
    sync: &TwoWaySync,
    side: Side,
    key: &str,
    version: Version,
) -> Result<Option<Object>> {
    let options = ReadOptions { condition: Condition::IfMatch(version), range: None };
    sync.side(side).read(key, options).await
}

async fn put(
    sync: &TwoWaySync,
    side: Side,
    key: &str,
    value: &Bytes,
    metadata: &Metadata,
    head: &ObjectHead,
    version: Version,
    condition: Condition,
) -> Result<()> {
    let options = StorageOptions {
        expires_at_ms: head.expires_at_ms,
        metadata: metadata.clone(),
        version: Some(version),
        condition,
        ..StorageOptions::default()
    };
    match sync.side(side).put(key, value.clone(), options).await {
        // It has expired on its way.
        Err(StorageError::InvalidInput(_))
            if head.expires_at_ms.is_some_and(|at| at <= sync.env.now_ms()) =>
        {
            Err(StorageError::conflict("the object has expired"))
        }
        result => result.map(drop),
    }
}

/// Reads back what was written, if that is wanted.
async fn verify(
    sync: &TwoWaySync,
    side: Side,
    key: &str,
    version: Version,
    value: &Bytes,
) -> Result<()> {
    if !sync.options.verify.takes(key) {
        return Ok(());
    }
    match read(sync, side, key, version).await {
        // Written or removed since.
        Ok(None) | Err(StorageError::PreconditionFailed(_)) => Ok(()),
        Ok(Some(object)) if object.value == *value => {
            sync.meter.count(|report| report.verified += 1);
            Ok(())
        }
        Ok(Some(_)) => Err(StorageError::corrupt(
            "what was copied is not what the other side holds, which was left alone",
        )
        .with_backend(sync.side(side).capabilities().name)),
        Err(error) => Err(error),
    }
}

impl Verify {
    /// Whether the object under a key is read back.
    pub(in crate::migration) fn takes(self, key: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::OneOf(count) => {
                u64::from(crc32c::crc32c(key.as_bytes())) % u64::from(count.max(1)) == 0
            }
        }
    }
}

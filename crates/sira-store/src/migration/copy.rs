//! One object, from the source to the target.

use bytes::Bytes;

use super::{ConflictRule, Migration, Side, Verify};
use crate::backend::{ListEntry, Object, ObjectHead, ReadOptions};
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::seal::Seal;
use crate::version::Version;

/// Times that a copy begins again because the object was written meanwhile.
const ATTEMPTS: usize = 16;

/// What became of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    /// Version of the source's object; `None` when it has gone since.
    pub(super) version: Option<Version>,
    /// Bytes of its value.
    pub(super) bytes: u64,
    /// It was brought to the target.
    pub(super) copied: bool,
    /// The target had another version.
    pub(super) conflict: bool,
    /// It was read back.
    pub(super) verified: bool,
    /// It was removed from the source.
    pub(super) removed: bool,
}

/// Copies an object.
pub(super) async fn copy(migration: &Migration, entry: &ListEntry) -> Result<Copied> {
    let key = entry.key.as_str();
    for _ in 0..ATTEMPTS {
        match attempt(migration, entry).await {
            Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => {}
            result => return result,
        }
    }
    Err(StorageError::conflict("the object is written faster than it can be copied").with_key(key))
}

/// Conflicts are errors of the kinds that begin the copy again.
async fn attempt(migration: &Migration, entry: &ListEntry) -> Result<Copied> {
    let (key, options) = (entry.key.as_str(), &migration.options);
    let held = migration.target.head(key).await?;
    if let (Some(held), Some(version)) = (&held, entry.version)
        && held.version == version
        && !options.remove_source
        && options.verify == Verify::None
    {
        return Ok(Copied { version: Some(version), ..Copied::default() });
    }
    let Some(head) = migration.source.head(key).await? else { return Ok(Copied::default()) };
    let mut copied = Copied { version: Some(head.version), bytes: head.size, ..Copied::default() };
    if options.since.is_some_and(|since| head.version <= since) {
        return Ok(copied);
    }
    let same = held.as_ref().is_some_and(|held| held.version == head.version);
    copied.conflict = held.is_some() && !same;
    if options.dry_run {
        copied.copied = !same;
        return Ok(copied);
    }
    if !same {
        copied.copied = bring(migration, key, &head, held.as_ref()).await?;
    }
    if options.verify.takes(key) && (same || copied.copied) {
        verify(migration, key, head.version).await?;
        copied.verified = true;
    }
    if options.remove_source && (same || copied.copied) {
        copied.removed = migration.source.remove(key, Condition::IfMatch(head.version)).await?;
    }
    Ok(copied)
}

/// Brings the source's object to the target, if the rule says so.
async fn bring(
    migration: &Migration,
    key: &str,
    head: &ObjectHead,
    held: Option<&ObjectHead>,
) -> Result<bool> {
    let mut to = key.to_owned();
    let mut exact = Some(head.version);
    let mut condition = Condition::Always;
    if let Some(held) = held {
        let winner = match &migration.options.conflict {
            ConflictRule::Newest if head.version > held.version => Side::Source,
            ConflictRule::Newest | ConflictRule::Target => Side::Target,
            ConflictRule::Source => Side::Source,
            ConflictRule::KeepBoth { separator } => {
                to = format!("{key}{separator}{}", head.version);
                let there = migration.target.head(&to).await?;
                if there.is_some_and(|there| there.version == head.version) {
                    return Ok(false);
                }
                Side::Source
            }
            ConflictRule::Rule(choose) => choose(key, head, held),
        };
        if winner == Side::Target {
            return Ok(false);
        }
        if to == key {
            condition = Condition::IfMatch(held.version);
            exact = exact.filter(|version| *version > held.version);
        }
    }
    let pinned = ReadOptions { condition: Condition::IfMatch(head.version), range: None };
    let Some(object) = migration.source.read(key, pinned).await? else { return Ok(false) };
    if exact.is_none() || to != key {
        refuse_encrypted(&object)?;
    }
    let Object { head, value, .. } = object;
    let options = StorageOptions {
        expires_at_ms: head.expires_at_ms,
        metadata: head.metadata,
        version: exact,
        condition,
        ..StorageOptions::default()
    };
    migration.target.put(&to, value, options).await?;
    Ok(true)
}

/// Encrypted bytes are bound to their key and version, and no keys are known here.
fn refuse_encrypted(object: &Object) -> Result<()> {
    let Some(seal) = object.head.metadata.seal.as_deref() else { return Ok(()) };
    match Seal::decode(seal)?.encryption() {
        None => Ok(()),
        Some(_) => Err(StorageError::unsupported(
            "both sides have an encrypted object, and the rule has the source's stored under another \
             key or version, where it does not open: let the newest or the target win",
        )),
    }
}

/// Reads an object back and compares it with the source's.
async fn verify(migration: &Migration, key: &str, version: Version) -> Result<()> {
    let read = ReadOptions { condition: Condition::IfMatch(version), range: None };
    let value = |object: Option<Object>| object.map(|object| object.value);
    let there = match migration.target.read(key, read.clone()).await {
        // Under the rule that the source wins, or after a later write, it has another version.
        Err(StorageError::PreconditionFailed(_)) => return Ok(()),
        read => value(read?),
    };
    let here = value(migration.source.read(key, read).await?);
    if there.as_deref().map(crc32c::crc32c) != here.as_deref().map(crc32c::crc32c)
        || there.as_ref().map(Bytes::len) != here.as_ref().map(Bytes::len)
    {
        return Err(StorageError::corrupt(
            "what was copied is not what the source holds; the source's object was left alone",
        )
        .with_key(key));
    }
    Ok(())
}

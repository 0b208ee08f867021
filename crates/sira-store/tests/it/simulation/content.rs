//! What an engine holds, read through every door it has.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use sira_log::env::SeededRandom;
use sira_store::embedded::{Engine, NamespaceId, StoredObject};
use sira_store::{StorageError, Version};

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Bytes,
    pub(super) value: Bytes,
}

impl From<StoredObject> for Found {
    fn from(object: StoredObject) -> Self {
        let StoredObject { version, expires_at_ms, metadata, value, .. } = object;
        Self { version, expires_at_ms, metadata, value }
    }
}

/// Number and objects of each namespace, by name.
pub(super) type Content = BTreeMap<String, (NamespaceId, BTreeMap<Vec<u8>, Found>)>;

/// Why the content could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// A call failed.
    Failed(StorageError),
    /// Two doors disagree.
    Wrong(String),
}

impl From<StorageError> for Unread {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

/// Reads everything.
pub(super) fn read(engine: &Engine, rng: &mut SeededRandom) -> Result<Content, Unread> {
    let mut content = Content::new();
    for (name, namespace) in engine.namespaces() {
        let mut keys = Vec::new();
        engine.scan(namespace, b"", None, |entry| {
            keys.push((entry.key.to_vec(), entry.size));
            ControlFlow::Continue(())
        })?;
        if !keys.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(Unread::Wrong(format!("a scan of {name:?} is out of order")));
        }
        let mut objects = BTreeMap::new();
        for (key, size) in keys {
            let found =
                read_one(engine, namespace, &key, size, rng).map_err(|unread| match unread {
                    Unread::Wrong(what) => {
                        Unread::Wrong(format!("{name:?} {}: {what}", key.escape_ascii()))
                    }
                    failed => failed,
                })?;
            objects.insert(key, found);
        }
        content.insert(name, (namespace, objects));
    }
    Ok(content)
}

fn read_one(
    engine: &Engine,
    namespace: NamespaceId,
    key: &[u8],
    size: u64,
    rng: &mut SeededRandom,
) -> Result<Found, Unread> {
    let wrong = |what: &str| Unread::Wrong(what.to_owned());
    let object = engine.get(namespace, key)?.ok_or_else(|| wrong("scanned and not found"))?;
    if object.size != size || object.value.len() as u64 != size {
        return Err(wrong("the size of the scan is not that of the value"));
    }
    let head = engine.head(namespace, key)?.ok_or_else(|| wrong("found and has no head"))?;
    if head.version != object.version
        || head.expires_at_ms != object.expires_at_ms
        || head.metadata != object.metadata
        || head.size != size
        || !head.value.is_empty()
    {
        return Err(wrong("the head is not that of the object"));
    }
    if rng.chance(1, 4) {
        let (from, to) = (rng.below(size + 2), rng.below(size + 100));
        let range = from..to.max(from);
        let part = engine.get_range(namespace, key, range.clone())?;
        let part = part.ok_or_else(|| wrong("found and has no range"))?;
        let end = range.end.min(size) as usize;
        let start = (range.start as usize).min(end);
        if part.value != object.value.slice(start..end) || part.size != size {
            return Err(wrong("a range is not that of the value"));
        }
    }
    if rng.chance(1, 4) {
        let lent = engine.read(namespace, key, |lent| {
            lent.value == object.value
                && lent.metadata == object.metadata
                && lent.version == object.version
                && lent.expires_at_ms == object.expires_at_ms
        })?;
        if lent != Some(true) {
            return Err(wrong("what is lent is not the object"));
        }
    }
    Ok(object.into())
}

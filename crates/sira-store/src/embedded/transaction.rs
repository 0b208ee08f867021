//! Reads and writes of some keys as one step.

use std::collections::HashMap;

use bytes::Bytes;

use super::engine::{
    Change, Engine, Put, apply_batch, apply_one, check, check_version, collect_if_expired,
};
use super::stripes::Held;
use super::{Commit, NamespaceId, StoredObject, Ticket, WriteOptions};
use crate::driver::check_newer;
use crate::error::{Result, StorageError};
use crate::version::Version;

/// Reads and writes of some keys as one step: what it read does not change until it ends, and its
/// writes become visible and durable together or not at all. Dropped without commit, it does
/// nothing.
#[derive(Debug)]
pub struct Transaction<'a> {
    engine: &'a Engine,
    _held: Held<'a>,
    staged: Vec<Staged>,
    /// Places in `staged` by key, once there are many.
    places: HashMap<(NamespaceId, Bytes), usize>,
}

/// Staged changes up to which looking through all of them is quicker than hashing.
const PLAIN_SEARCH_MAX: usize = 8;

#[derive(Debug)]
struct Staged {
    namespace: NamespaceId,
    key: Bytes,
    /// `None` removes the key.
    object: Option<StoredObject>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(engine: &'a Engine, held: Held<'a>) -> Self {
        Self { engine, _held: held, staged: Vec::new(), places: HashMap::new() }
    }

    fn place(&self, namespace: NamespaceId, key: &[u8]) -> Option<usize> {
        if self.staged.len() <= PLAIN_SEARCH_MAX {
            return self
                .staged
                .iter()
                .position(|staged| staged.namespace == namespace && staged.key == key);
        }
        self.places.get(&(namespace, Bytes::copy_from_slice(key))).copied()
    }

    fn staged(&self, namespace: NamespaceId, key: &[u8]) -> Option<&Staged> {
        self.staged.get(self.place(namespace, key)?)
    }

    /// The object under a key, the transaction's own writes included; those have the version that
    /// they give themselves, or 0 until they are committed.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        match self.staged(namespace, key) {
            Some(staged) => Ok(staged.object.clone()),
            None => self.met(namespace, key, self.engine.get(namespace, key)),
        }
    }

    /// All but the bytes.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn head(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        match self.staged(namespace, key) {
            Some(staged) => Ok(staged
                .object
                .as_ref()
                .map(|object| StoredObject { value: Bytes::new(), ..object.clone() })),
            None => self.met(namespace, key, self.engine.head(namespace, key)),
        }
    }

    /// A key that has expired leaves the index when a transaction meets it, so that the number of
    /// keys is right at once.
    fn met(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        found: Result<Option<StoredObject>>,
    ) -> Result<Option<StoredObject>> {
        if matches!(found, Ok(None)) {
            collect_if_expired(self.engine, namespace, key);
        }
        found
    }

    /// Stages a write.
    ///
    /// # Errors
    /// As [`Engine::put`], for what can be told before writing; nothing is staged then.
    pub fn put(
        &mut self,
        namespace: NamespaceId,
        key: &[u8],
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> Result<()> {
        let WriteOptions { expires_at_ms, metadata, version } = options;
        let put = Put { value: &value, expires_at_ms, metadata, version };
        check(self.engine, &Change { namespace, key, put: Some(put) })?;
        if let Some(version) = version {
            let staged = self.staged(namespace, key).and_then(|staged| staged.object.as_ref());
            check_newer(version, staged.map(|object| object.version))?;
            check_version(self.engine, namespace, key, version)?;
        }
        let object = StoredObject {
            version: version.unwrap_or_default(),
            expires_at_ms: options.expires_at_ms,
            metadata: Bytes::copy_from_slice(options.metadata),
            size: value.len() as u64,
            value,
        };
        self.stage(Staged { namespace, key: Bytes::copy_from_slice(key), object: Some(object) });
        Ok(())
    }

    /// Stages a removal; says whether an object is there.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn delete(&mut self, namespace: NamespaceId, key: &[u8]) -> Result<bool> {
        match self.head(namespace, key) {
            Ok(None) => return Ok(false),
            // What cannot be read any more can still be removed.
            Ok(Some(_)) | Err(StorageError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
        self.stage(Staged { namespace, key: Bytes::copy_from_slice(key), object: None });
        Ok(true)
    }

    /// A later write of a key takes the place of an earlier one.
    fn stage(&mut self, new: Staged) {
        let place = self.place(new.namespace, &new.key);
        if let Some(old) = place.and_then(|place| self.staged.get_mut(place)) {
            *old = new;
            return;
        }
        if self.staged.len() == PLAIN_SEARCH_MAX {
            let places = self.staged.iter().enumerate();
            self.places = places.map(|(at, old)| ((old.namespace, old.key.clone()), at)).collect();
        }
        if self.staged.len() >= PLAIN_SEARCH_MAX {
            self.places.insert((new.namespace, new.key.clone()), self.staged.len());
        }
        self.staged.push(new);
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Applies the staged writes in one atomic frame. With none, nothing is written, and the commit
    /// has the version 0 and a ticket that covers every write that the transaction could read.
    ///
    /// # Errors
    /// As [`Engine::put`]; nothing has changed then.
    pub fn commit(self) -> Result<Commit> {
        let changes: Vec<_> = self
            .staged
            .iter()
            .map(|staged| Change {
                namespace: staged.namespace,
                key: &staged.key,
                put: staged.object.as_ref().map(|object| Put {
                    value: &object.value,
                    expires_at_ms: object.expires_at_ms,
                    metadata: &object.metadata,
                    version: Some(object.version).filter(|version| *version != Version::default()),
                }),
            })
            .collect();
        for change in &changes {
            check(self.engine, change)?;
        }
        match changes.as_slice() {
            [] => Ok(Commit {
                version: Version::default(),
                ticket: Ticket(self.engine.log.appended()),
            }),
            [change] => apply_one(self.engine, change),
            changes => apply_batch(self.engine, changes),
        }
    }
}

//! The store as commands see it: the same inside a transaction and outside.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use sira_store::StorageError;
use sira_store::embedded::{
    Engine, NamespaceId, ObjectRef, StoredObject, Ticket, Transaction, WriteOptions,
};
use sira_store::limits::KEY_BYTES_MAX;

use crate::limits::RESP_DATABASES;

use super::command::Failure;

/// Namespaces of the databases, by number.
pub(crate) type Spaces = [NamespaceId; RESP_DATABASES];

/// A key in its namespace.
pub(crate) type KeyIn<'k> = (NamespaceId, &'k [u8]);

/// Reads, and writes as one step, of the keys that the unit was begun with.
#[derive(Debug)]
pub(crate) struct Unit<'e> {
    transaction: Transaction<'e>,
    /// Staged keys and whether they are there, kept where commands look at all keys.
    staged: Option<BTreeMap<(NamespaceId, Bytes), bool>>,
}

impl Unit<'_> {
    pub(crate) fn get(
        &self,
        space: NamespaceId,
        key: &[u8],
    ) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX { Ok(None) } else { Ok(self.transaction.get(space, key)?) }
    }

    pub(crate) fn head(
        &self,
        space: NamespaceId,
        key: &[u8],
    ) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX { Ok(None) } else { Ok(self.transaction.head(space, key)?) }
    }

    pub(crate) fn exists(&self, space: NamespaceId, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.head(space, key)?.is_some())
    }

    pub(crate) fn put(
        &mut self,
        space: NamespaceId,
        key: &[u8],
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> Result<(), Failure> {
        check_key(key)?;
        self.transaction.put(space, key, value, options)?;
        if let Some(staged) = &mut self.staged {
            staged.insert((space, Bytes::copy_from_slice(key)), true);
        }
        Ok(())
    }

    /// Puts a value in the place of an object whose expiry and metadata stay.
    pub(crate) fn replace(
        &mut self,
        space: NamespaceId,
        key: &[u8],
        value: Bytes,
        old: Option<&StoredObject>,
    ) -> Result<(), Failure> {
        let options = old.map_or_else(WriteOptions::default, |old| WriteOptions {
            expires_at_ms: old.expires_at_ms,
            metadata: &old.metadata,
            ..WriteOptions::default()
        });
        self.put(space, key, value, options)
    }

    pub(crate) fn delete(&mut self, space: NamespaceId, key: &[u8]) -> Result<bool, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(false);
        }
        let there = self.transaction.delete(space, key)?;
        if let Some(staged) = &mut self.staged {
            staged.insert((space, Bytes::copy_from_slice(key)), false);
        }
        Ok(there)
    }
}

/// What the commands of one client work on, for the length of a tick.
#[derive(Debug)]
pub(crate) struct Data<'e> {
    engine: &'e Engine,
    spaces: Spaces,
    unit: Option<Unit<'e>>,
    /// What the last write waits for.
    ticket: Option<Ticket>,
    /// Commits so far.
    pub(crate) writes: u64,
}

impl<'e> Data<'e> {
    pub(crate) fn new(engine: &'e Engine, spaces: Spaces) -> Self {
        Self { engine, spaces, unit: None, ticket: None, writes: 0 }
    }

    pub(crate) fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The namespace of a database.
    #[inline]
    pub(crate) fn space(&self, database: u8) -> NamespaceId {
        self.spaces[usize::from(database) % RESP_DATABASES]
    }

    pub(crate) fn set_spaces(&mut self, spaces: Spaces) {
        self.spaces = spaces;
    }

    /// The newest write's ticket, and forgets it.
    #[inline]
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    #[inline]
    fn wrote(&mut self, ticket: Ticket) {
        self.ticket = self.ticket.max(Some(ticket));
        self.writes += 1;
    }

    pub(crate) fn in_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// Begins the unit that all commands run in until [`Data::commit`] or [`Data::abandon`].
    pub(crate) fn begin(&mut self, keys: &[KeyIn<'_>]) {
        self.unit = Some(Unit { transaction: self.engine.begin(keys), staged: None });
    }

    /// As [`Data::begin`], over all keys of all databases.
    pub(crate) fn begin_exclusive(&mut self) {
        let transaction = self.engine.begin_exclusive();
        self.unit = Some(Unit { transaction, staged: Some(BTreeMap::new()) });
    }

    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        if let Some(unit) = self.unit.take()
            && !unit.transaction.is_empty()
        {
            let commit = unit.transaction.commit()?;
            self.wrote(commit.ticket);
        }
        Ok(())
    }

    pub(crate) fn abandon(&mut self) {
        self.unit = None;
    }

    /// Lends the object under a key to `visit`.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        space: NamespaceId,
        key: &[u8],
        visit: impl FnOnce(ObjectRef<'_>) -> R,
    ) -> Result<Option<R>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => Ok(self.engine.read(space, key, visit)?),
            Some(unit) => Ok(unit.get(space, key)?.map(|object| {
                visit(ObjectRef {
                    version: object.version,
                    expires_at_ms: object.expires_at_ms,
                    metadata: &object.metadata,
                    value: &object.value,
                })
            })),
        }
    }

    /// The object under a key, without a copy.
    pub(crate) fn get(
        &self,
        space: NamespaceId,
        key: &[u8],
    ) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => Ok(self.engine.get(space, key)?),
            Some(unit) => unit.get(space, key),
        }
    }

    /// The object under a key without its bytes.
    pub(crate) fn head(
        &self,
        space: NamespaceId,
        key: &[u8],
    ) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => Ok(self.engine.head(space, key)?),
            Some(unit) => unit.head(space, key),
        }
    }

    /// Writes one object, whatever was there.
    #[inline]
    pub(crate) fn put(
        &mut self,
        space: NamespaceId,
        key: &[u8],
        value: &[u8],
        options: WriteOptions<'_>,
    ) -> Result<(), Failure> {
        check_key(key)?;
        match &mut self.unit {
            None => {
                let commit = self.engine.put(space, key, value, options)?;
                self.wrote(commit.ticket);
                Ok(())
            }
            Some(unit) => unit.put(space, key, Bytes::copy_from_slice(value), options),
        }
    }

    /// Reads and writes the keys as one step. `change` stages its writes after all that can fail.
    pub(crate) fn update<R>(
        &mut self,
        keys: &[KeyIn<'_>],
        change: impl FnOnce(&mut Unit<'e>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        if let Some(unit) = &mut self.unit {
            return change(unit);
        }
        for (_, key) in keys {
            check_key(key)?;
        }
        let mut unit = Unit { transaction: self.engine.begin(keys), staged: None };
        let result = change(&mut unit)?;
        if !unit.transaction.is_empty() {
            let commit = unit.transaction.commit()?;
            self.wrote(commit.ticket);
        }
        Ok(result)
    }

    /// Visits the keys of a namespace in order, those staged included.
    pub(crate) fn scan(
        &self,
        space: NamespaceId,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let staged = self.unit.as_ref().and_then(|unit| unit.staged.as_ref());
        let Some(staged) = staged.filter(|staged| !staged.is_empty()) else {
            return Ok(self.engine.scan(space, prefix, start_after, |entry| visit(entry.key))?);
        };
        let wanted =
            |key: &[u8]| key.starts_with(prefix) && start_after.is_none_or(|after| key > after);
        let mut keys = std::collections::BTreeSet::new();
        self.engine.scan(space, prefix, start_after, |entry| {
            keys.insert(Bytes::copy_from_slice(entry.key));
            ControlFlow::Continue(())
        })?;
        for ((staged_space, key), there) in staged {
            if *staged_space != space || !wanted(key) {
                continue;
            }
            if *there {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        for key in keys {
            if visit(&key).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Number of keys of a namespace.
    pub(crate) fn count(&self, space: NamespaceId) -> Result<u64, Failure> {
        if self.unit.is_none() {
            return Ok(self.engine.count(space));
        }
        let mut keys = 0;
        self.scan(space, b"", None, |_| {
            keys += 1;
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// Removes every key of a namespace within the unit.
    pub(crate) fn clear(&mut self, space: NamespaceId) -> Result<(), Failure> {
        let mut keys = Vec::new();
        self.scan(space, b"", None, |key| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        })?;
        if let Some(unit) = &mut self.unit {
            for key in keys {
                unit.delete(space, &key)?;
            }
        }
        Ok(())
    }

    /// Exchanges two namespaces' objects within the unit.
    pub(crate) fn swap(&mut self, left: NamespaceId, right: NamespaceId) -> Result<(), Failure> {
        let mut moves = Vec::new();
        for (from, to) in [(left, right), (right, left)] {
            let mut keys = Vec::new();
            self.scan(from, b"", None, |key| {
                keys.push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            })?;
            for key in keys {
                if let Some(object) = self.get(from, &key)? {
                    moves.push((to, key, object));
                }
            }
        }
        self.clear(left)?;
        self.clear(right)?;
        if let Some(unit) = &mut self.unit {
            for (space, key, object) in moves {
                unit.replace(space, &key, object.value.clone(), Some(&object))?;
            }
        }
        Ok(())
    }
}

#[inline]
fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.len() > KEY_BYTES_MAX {
        return Err(StorageError::too_large(format!(
            "key of {} bytes is too long: at most {KEY_BYTES_MAX} bytes",
            key.len()
        ))
        .into());
    }
    Ok(())
}

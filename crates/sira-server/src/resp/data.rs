//! The store as commands see it: the same inside a transaction and outside, for databases on the
//! engine and for those away.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use sira_store::StorageError;
use sira_store::embedded::{
    Engine, NamespaceId, ObjectRef, StoredObject, Ticket, Transaction, WriteOptions,
};
use sira_store::limits::KEY_BYTES_MAX;

use crate::limits::RESP_DATABASES;

use super::away::Snapshot;
use super::command::Failure;

/// Where a database's objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// In this namespace of the engine, where a loop works on them at once.
    Here(NamespaceId),
    /// Where the client keeps the database of this number.
    Away(u8),
}

impl Space {
    pub(crate) fn is_away(self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// Where the databases' objects lie, by number.
pub(crate) type Spaces = [Space; RESP_DATABASES];

/// A key in its database.
pub(crate) type KeyIn<'k> = (Space, &'k [u8]);

/// Reads, and writes as one step, of the keys that the unit was begun with.
#[derive(Debug)]
pub(crate) struct Unit<'e> {
    work: Work<'e>,
    /// Staged keys and whether they are there, kept where commands look at all keys.
    staged: Option<BTreeMap<(Space, Bytes), bool>>,
}

/// What a unit reads from and writes to.
#[derive(Debug)]
enum Work<'e> {
    Here(Transaction<'e>),
    Away(Box<Snapshot>),
}

impl Unit<'_> {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match (&self.work, space) {
            (Work::Here(transaction), Space::Here(space)) => Ok(transaction.get(space, key)?),
            (Work::Away(snapshot), Space::Away(database)) => snapshot.get(database, key),
            _ => Err(Failure::Away),
        }
    }

    pub(crate) fn head(&self, space: Space, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match (&self.work, space) {
            (Work::Here(transaction), Space::Here(space)) => Ok(transaction.head(space, key)?),
            (Work::Away(snapshot), Space::Away(database)) => snapshot.head(database, key),
            _ => Err(Failure::Away),
        }
    }

    /// Makes what was read hold until the writes have taken effect, where that is not so anyway.
    fn hold_reads(&mut self) {
        if let Work::Away(snapshot) = &mut self.work {
            snapshot.hold_reads();
        }
    }

    pub(crate) fn exists(&self, space: Space, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.head(space, key)?.is_some())
    }

    pub(crate) fn put(
        &mut self,
        space: Space,
        key: &[u8],
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> Result<(), Failure> {
        check_key(key)?;
        match (&mut self.work, space) {
            (Work::Here(transaction), Space::Here(space)) => {
                transaction.put(space, key, value, options)?;
            }
            (Work::Away(snapshot), Space::Away(database)) => {
                snapshot.put(database, key, value, options);
            }
            _ => return Err(Failure::Away),
        }
        if let Some(staged) = &mut self.staged {
            staged.insert((space, Bytes::copy_from_slice(key)), true);
        }
        Ok(())
    }

    /// Puts a value in the place of an object whose expiry and metadata stay.
    pub(crate) fn replace(
        &mut self,
        space: Space,
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

    pub(crate) fn delete(&mut self, space: Space, key: &[u8]) -> Result<bool, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(false);
        }
        let there = match (&mut self.work, space) {
            (Work::Here(transaction), Space::Here(space)) => transaction.delete(space, key)?,
            (Work::Away(snapshot), Space::Away(database)) => snapshot.delete(database, key)?,
            _ => return Err(Failure::Away),
        };
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

    /// What a command works on whose database is away: what was read of it so far.
    pub(crate) fn away(engine: &'e Engine, snapshot: Box<Snapshot>) -> Self {
        let spaces = std::array::from_fn(|database| Space::Away(database as u8));
        let unit = Unit { work: Work::Away(snapshot), staged: None };
        Self { unit: Some(unit), ..Self::new(engine, spaces) }
    }

    /// What is known after a command that worked on databases which are away.
    pub(crate) fn into_snapshot(self) -> Option<Box<Snapshot>> {
        match self.unit?.work {
            Work::Away(snapshot) => Some(snapshot),
            Work::Here(_) => None,
        }
    }

    /// Whether the databases are worked on where they are away.
    pub(crate) fn is_away(&self) -> bool {
        self.snapshot().is_some()
    }

    /// Empties databases where they are.
    pub(crate) fn flush_away(&mut self, databases: std::ops::Range<usize>) -> Result<(), Failure> {
        match self.unit.as_mut().map(|unit| &mut unit.work) {
            Some(Work::Away(snapshot)) => snapshot.flush(databases),
            _ => Err(Failure::Away),
        }
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        match &self.unit.as_ref()?.work {
            Work::Away(snapshot) => Some(snapshot),
            Work::Here(_) => None,
        }
    }

    pub(crate) fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The namespace of a database.
    #[inline]
    pub(crate) fn space(&self, database: u8) -> Space {
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

    /// Begins the unit that all commands run in until [`Data::commit`] or [`Data::abandon`]. Away,
    /// every command is in one already.
    pub(crate) fn begin(&mut self, keys: &[KeyIn<'_>]) -> Result<(), Failure> {
        match &mut self.unit {
            None => {
                let transaction = self.take_keys(keys)?;
                self.unit = Some(Unit { work: Work::Here(transaction), staged: None });
            }
            Some(unit) => unit.hold_reads(),
        }
        Ok(())
    }

    /// As [`Data::begin`], over all keys of all databases.
    pub(crate) fn begin_exclusive(&mut self) {
        match &mut self.unit {
            None => {
                let work = Work::Here(self.engine.begin_exclusive());
                self.unit = Some(Unit { work, staged: Some(BTreeMap::new()) });
            }
            Some(unit) => unit.hold_reads(),
        }
    }

    fn take_keys(&self, keys: &[KeyIn<'_>]) -> Result<Transaction<'e>, Failure> {
        if let [(Space::Here(space), key)] = keys {
            return Ok(self.engine.begin(&[(*space, *key)]));
        }
        let mut here = Vec::with_capacity(keys.len());
        for (space, key) in keys {
            let Space::Here(space) = space else { return Err(Failure::Away) };
            here.push((*space, *key));
        }
        Ok(self.engine.begin(&here))
    }

    /// Ends the unit. What is staged away is written by who gave the snapshot.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        if self.snapshot().is_some() {
            return Ok(());
        }
        if let Some(Unit { work: Work::Here(transaction), .. }) = self.unit.take()
            && !transaction.is_empty()
        {
            let commit = transaction.commit()?;
            self.wrote(commit.ticket);
        }
        Ok(())
    }

    /// Ends the unit without its writes, unless it is one that is away.
    pub(crate) fn abandon(&mut self) {
        if self.snapshot().is_none() {
            self.unit = None;
        }
    }

    /// Lends the object under a key to `visit`.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        space: Space,
        key: &[u8],
        visit: impl FnOnce(ObjectRef<'_>) -> R,
    ) -> Result<Option<R>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => match space {
                Space::Here(space) => Ok(self.engine.read(space, key, visit)?),
                Space::Away(_) => Err(Failure::Away),
            },
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
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => match space {
                Space::Here(space) => Ok(self.engine.get(space, key)?),
                Space::Away(_) => Err(Failure::Away),
            },
            Some(unit) => unit.get(space, key),
        }
    }

    /// The object under a key without its bytes.
    pub(crate) fn head(&self, space: Space, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        match &self.unit {
            None => match space {
                Space::Here(space) => Ok(self.engine.head(space, key)?),
                Space::Away(_) => Err(Failure::Away),
            },
            Some(unit) => unit.head(space, key),
        }
    }

    /// Writes one object, whatever was there.
    #[inline]
    pub(crate) fn put(
        &mut self,
        space: Space,
        key: &[u8],
        value: &[u8],
        options: WriteOptions<'_>,
    ) -> Result<(), Failure> {
        check_key(key)?;
        match &mut self.unit {
            None => {
                let Space::Here(space) = space else { return Err(Failure::Away) };
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
        let mut unit = Unit { work: Work::Here(self.take_keys(keys)?), staged: None };
        let result = change(&mut unit)?;
        if let Work::Here(transaction) = unit.work
            && !transaction.is_empty()
        {
            let commit = transaction.commit()?;
            self.wrote(commit.ticket);
        }
        Ok(result)
    }

    /// Visits the keys of a namespace in order, those staged included.
    pub(crate) fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let space = match (self.snapshot(), space) {
            (Some(snapshot), Space::Away(database)) => {
                return snapshot.scan(database, prefix, start_after, visit);
            }
            (None, Space::Here(space)) => space,
            _ => return Err(Failure::Away),
        };
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
            if *staged_space != Space::Here(space) || !wanted(key) {
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
    pub(crate) fn count(&self, space: Space) -> Result<u64, Failure> {
        if let (None, Space::Here(space)) = (&self.unit, space) {
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
    pub(crate) fn clear(&mut self, space: Space) -> Result<(), Failure> {
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
    pub(crate) fn swap(&mut self, left: Space, right: Space) -> Result<(), Failure> {
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

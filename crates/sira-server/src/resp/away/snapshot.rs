//! What a command knows of databases that are away, and what it wants to write there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::Version;
use sira_store::embedded::{StoredObject, WriteOptions};

use super::super::command::{Failure, Outcome};

/// A key in the database of this number.
pub(super) type Key = (u8, Bytes);

/// What was read under a key.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) object: Option<StoredObject>,
    /// The bytes were read too.
    pub(super) whole: bool,
}

/// Keys of a database in order, as far as they were read.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) database: u8,
    pub(super) prefix: Bytes,
    pub(super) start_after: Option<Bytes>,
    pub(super) keys: Vec<Bytes>,
    /// Where the next page begins; `None` when there is none.
    pub(super) next: Next,
}

/// How a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing was read yet.
    First,
    /// After this key.
    After(String),
    /// There are no more keys.
    End,
}

/// What has to be done before the command can go on.
#[derive(Debug, Clone)]
pub(super) enum Want {
    /// Read this object.
    Object { key: Key, whole: bool },
    /// Read more of the listing of this number.
    Keys(usize),
    /// Begin this listing.
    Listing { database: u8, prefix: Bytes, start_after: Option<Bytes> },
    /// Empty these databases.
    Flush(Range<usize>),
}

/// What was read, and what is staged.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(super) found: BTreeMap<Key, Found>,
    pub(super) staged: BTreeMap<Key, Option<StoredObject>>,
    pub(super) listings: Vec<Listing>,
    pub(super) flushed: Option<Range<usize>>,
    /// What was read must still hold when the writes take effect, also of keys that are not written.
    pub(super) holds_reads: bool,
    want: Mutex<Option<Want>>,
}

impl Snapshot {
    /// Forgets what the last run staged.
    pub(super) fn begin(&mut self) {
        self.staged.clear();
        self.holds_reads = false;
        *self.want.get_mut() = None;
    }

    pub(super) fn take_want(&mut self) -> Option<Want> {
        self.want.get_mut().take()
    }

    pub(crate) fn hold_reads(&mut self) {
        self.holds_reads = true;
    }

    fn wants<T>(&self, want: Want) -> Result<T, Failure> {
        *self.want.lock() = Some(want);
        Err(Failure::Away)
    }

    fn look(&self, database: u8, key: &[u8], whole: bool) -> Result<Option<StoredObject>, Failure> {
        let key = (database, Bytes::copy_from_slice(key));
        if let Some(staged) = self.staged.get(&key) {
            return Ok(staged.clone());
        }
        match self.found.get(&key) {
            Some(found) if found.whole || !whole => Ok(found.object.clone()),
            _ => self.wants(Want::Object { key, whole }),
        }
    }

    pub(crate) fn get(&self, database: u8, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        self.look(database, key, true)
    }

    pub(crate) fn head(&self, database: u8, key: &[u8]) -> Result<Option<StoredObject>, Failure> {
        let found = self.look(database, key, false)?;
        Ok(found.map(|object| StoredObject { value: Bytes::new(), ..object }))
    }

    pub(crate) fn put(
        &mut self,
        database: u8,
        key: &[u8],
        value: Bytes,
        options: WriteOptions<'_>,
    ) {
        let object = StoredObject {
            version: Version::default(),
            expires_at_ms: options.expires_at_ms,
            metadata: Bytes::copy_from_slice(options.metadata),
            size: value.len() as u64,
            value,
        };
        self.staged.insert((database, Bytes::copy_from_slice(key)), Some(object));
    }

    /// Stages a removal; says whether an object is there.
    pub(crate) fn delete(&mut self, database: u8, key: &[u8]) -> Result<bool, Failure> {
        let there = self.look(database, key, false)?.is_some();
        if there {
            self.staged.insert((database, Bytes::copy_from_slice(key)), None);
        }
        Ok(there)
    }

    /// Visits the keys of a database in order, those staged included.
    pub(crate) fn scan(
        &self,
        database: u8,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Outcome {
        let known = self.listings.iter().position(|listing| {
            listing.database == database
                && listing.prefix == prefix
                && listing.start_after.as_deref() == start_after
        });
        let Some((number, listing)) =
            known.and_then(|number| Some((number, self.listings.get(number)?)))
        else {
            return self.wants(Want::Listing {
                database,
                prefix: Bytes::copy_from_slice(prefix),
                start_after: start_after.map(Bytes::copy_from_slice),
            });
        };
        let last = listing.keys.last();
        let reached =
            |key: &Bytes| listing.next == Next::End || last.is_some_and(|last| key <= last);
        let wanted =
            |key: &[u8]| key.starts_with(prefix) && start_after.is_none_or(|after| key > after);
        let mut keys: BTreeSet<&Bytes> = listing.keys.iter().collect();
        for ((of, key), object) in &self.staged {
            if *of != database || !wanted(key) || !reached(key) {
                continue;
            }
            if object.is_some() {
                keys.insert(key);
            } else {
                keys.remove(key);
            }
        }
        for key in keys {
            if visit(key).is_break() {
                return Ok(());
            }
        }
        if listing.next == Next::End { Ok(()) } else { self.wants(Want::Keys(number)) }
    }

    /// Empties databases. That is no part of a transaction.
    pub(crate) fn flush(&mut self, databases: Range<usize>) -> Outcome {
        if self.holds_reads {
            return Err(Failure::fixed(
                "ERR a database with a policy of its own cannot be emptied within a transaction",
            ));
        }
        if self.flushed.as_ref() == Some(&databases) {
            return Ok(());
        }
        self.wants(Want::Flush(databases))
    }
}

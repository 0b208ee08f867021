//! The table of namespaces.
//!
//! Names and numbers are kept in one small file, replaced whole; a number is never used again. To
//! drop a namespace is to take its number out of the table: its objects are invisible from then on,
//! and their space is reclaimed later.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sira_log::disk::{Disk, read_all, write_atomically};

use super::NamespaceId;
use crate::error::{Result, StorageError};
use crate::key::check_namespace;
use crate::limits::NAMESPACES_MAX;

/// Keys of one namespace, expired ones included.
#[derive(Debug, Default)]
pub(super) struct KeyCount(AtomicI64);

impl KeyCount {
    pub(super) fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

#[derive(Debug, Default, Clone)]
struct Table {
    ids: BTreeMap<String, u32>,
    /// By number, ascending: every new number is the greatest.
    counts: Vec<(u32, Arc<KeyCount>)>,
    next: u32,
}

impl Table {
    fn count(&self, id: u32) -> Option<&KeyCount> {
        let at = self.counts.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.counts.get(at).map(|(_, count)| &**count)
    }
}

/// The stored form.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Stored {
    format: u32,
    next: u32,
    namespaces: BTreeMap<String, u32>,
    /// CRC32C of the stored form with 0 here.
    crc32c: u32,
}

const FORMAT: u32 = 1;

/// All namespaces of an engine.
#[derive(Debug)]
pub(super) struct Namespaces {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    table: ArcSwap<Table>,
    /// Held while the table is changed and written.
    change: Mutex<()>,
}

impl Namespaces {
    /// Reads the table; without a file it is empty.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self> {
        let mut table = Table { next: 1, ..Table::default() };
        if disk.exists(&path) {
            let text = read_all(&*disk, &path)?;
            let stored: Stored = serde_json::from_slice(&text).map_err(|error| {
                StorageError::corrupt(format!("{} is not readable", path.display()))
                    .with_source(error)
            })?;
            if checksum(&stored)? != stored.crc32c {
                return Err(StorageError::corrupt(format!(
                    "{} fails its checksum: restore it from a backup",
                    path.display()
                )));
            }
            if stored.format != FORMAT {
                return Err(StorageError::unsupported(format!(
                    "{} has format {}, this version reads {FORMAT}",
                    path.display(),
                    stored.format
                )));
            }
            table.counts = stored.namespaces.values().map(|id| (*id, Arc::default())).collect();
            table.counts.sort_unstable_by_key(|(id, _)| *id);
            table.ids = stored.namespaces;
            table.next = stored.next;
        }
        Ok(Self { disk, path, table: ArcSwap::from_pointee(table), change: Mutex::new(()) })
    }

    pub(super) fn find(&self, name: &str) -> Option<NamespaceId> {
        self.table.load().ids.get(name).map(|id| NamespaceId(*id))
    }

    pub(super) fn list(&self) -> Vec<(String, NamespaceId)> {
        let table = self.table.load();
        table.ids.iter().map(|(name, id)| (name.clone(), NamespaceId(*id))).collect()
    }

    /// Whether the number is in use.
    pub(super) fn is_live(&self, id: NamespaceId) -> bool {
        self.table.load().count(id.0).is_some()
    }

    /// Lends the key count of a namespace that is in use.
    pub(super) fn with_count<R>(
        &self,
        id: NamespaceId,
        visit: impl FnOnce(&KeyCount) -> R,
    ) -> Option<R> {
        self.table.load().count(id.0).map(visit)
    }

    /// The number of this name, taken durably if it is new.
    pub(super) fn ensure(&self, name: &str) -> Result<NamespaceId> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        check_namespace(name)?;
        self.change(|table| {
            if let Some(id) = table.ids.get(name) {
                return Ok((false, NamespaceId(*id)));
            }
            Ok((true, take(table, name)?))
        })
    }

    /// Forgets a name; says which number it had.
    pub(super) fn remove(&self, name: &str) -> Result<Option<NamespaceId>> {
        self.change(|table| {
            let id = table.ids.remove(name);
            if let Some(id) = id {
                table.counts.retain(|(other, _)| *other != id);
            }
            Ok((id.is_some(), id.map(NamespaceId)))
        })
    }

    /// Gives a name a new, empty number; returns the old one and the new one.
    pub(super) fn clear(&self, name: &str) -> Result<(Option<NamespaceId>, NamespaceId)> {
        check_namespace(name)?;
        self.change(|table| {
            let old = table.ids.remove(name);
            if let Some(old) = old {
                table.counts.retain(|(other, _)| *other != old);
            }
            Ok((true, (old.map(NamespaceId), take(table, name)?)))
        })
    }

    /// Exchanges the numbers of two names.
    pub(super) fn swap(&self, a: &str, b: &str) -> Result<()> {
        let (a_id, b_id) = (self.ensure(a)?, self.ensure(b)?);
        self.change(|table| {
            table.ids.insert(a.to_owned(), b_id.0);
            table.ids.insert(b.to_owned(), a_id.0);
            Ok((a != b, ()))
        })
    }

    /// The stored form of the table, and what `look` finds while the table does not change.
    pub(super) fn encode_with<R>(&self, look: impl FnOnce() -> R) -> Result<(Vec<u8>, R)> {
        let _held = self.change.lock();
        Ok((encode(&self.table.load())?, look()))
    }

    fn change<R>(&self, edit: impl FnOnce(&mut Table) -> Result<(bool, R)>) -> Result<R> {
        let _held = self.change.lock();
        let mut table = Table::clone(&self.table.load());
        let (changed, result) = edit(&mut table)?;
        if changed {
            write_atomically(&*self.disk, &self.path, &encode(&table)?)?;
            self.table.store(Arc::new(table));
        }
        Ok(result)
    }
}

fn encode(table: &Table) -> Result<Vec<u8>> {
    let namespaces = table.ids.clone();
    let mut stored = Stored { format: FORMAT, next: table.next, namespaces, crc32c: 0 };
    stored.crc32c = checksum(&stored)?;
    to_json(&stored)
}

fn to_json(stored: &Stored) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(stored)
        .map_err(|error| StorageError::io("cannot encode the namespaces").with_source(error))
}

fn checksum(stored: &Stored) -> Result<u32> {
    let Stored { format, next, ref namespaces, .. } = *stored;
    let namespaces = namespaces.clone();
    Ok(crc32c::crc32c(&to_json(&Stored { format, next, namespaces, crc32c: 0 })?))
}

fn take(table: &mut Table, name: &str) -> Result<NamespaceId> {
    if table.ids.len() >= NAMESPACES_MAX {
        return Err(StorageError::too_large(format!("there are {NAMESPACES_MAX} namespaces")));
    }
    let id = table.next;
    table.next = id.checked_add(1).ok_or_else(|| {
        StorageError::too_large("the store has used all of its namespace numbers")
    })?;
    table.ids.insert(name.to_owned(), id);
    table.counts.push((id, Arc::default()));
    Ok(NamespaceId(id))
}

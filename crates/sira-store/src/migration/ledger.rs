//! What two sides had in common when they were last brought level, kept in a backend.
//!
//! A ledger is a table and pages of keys, each an object. The table says from which key on each page
//! counts and is only written when a page is split, or has become empty; a page is replaced in its
//! place, which is one write. Every key stands for itself, so pages need not change together.
//!
//! A run that opens a ledger takes the table over. What an earlier run that still goes on writes
//! after that is refused, where the backend has conditions.

mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::options::{Condition, Durability, StorageOptions};
use crate::version::Version;

pub(super) use page::{Entry, Pending};
use page::{PageRef, Table, decode_page, encode_page, wrong};

/// Keys of a page up to which it is not split.
const PAGE_KEYS_MAX: usize = 2000;

/// Keys of the pages that a page is split into.
const PAGE_KEYS: usize = 1000;

/// Pages that are held in memory.
const HELD_PAGES: usize = 4;

/// What two sides had in common when they were last brought level, kept as objects of a backend:
/// under its name, and under names that begin with it and a `/`.
///
/// It belongs to its two sides: with the ledger of others, objects that only one side has are taken
/// for objects that the other side has removed.
#[derive(Debug, Clone)]
pub struct Ledger {
    backend: Arc<dyn StorageBackend>,
    name: String,
}

impl Ledger {
    /// A ledger that is kept under a name in a backend, which should keep what it acknowledges.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>, name: impl Into<String>) -> Self {
        Self { backend, name: name.into() }
    }

    /// Forgets everything: the next sync removes nothing, and brings to each side what only the
    /// other one has.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn delete(&self) -> Result<()> {
        let table = match self.load_table().await {
            Ok((table, _)) => table,
            Err(StorageError::Corrupt(_) | StorageError::Unsupported(_)) => Table::default(),
            Err(error) => return Err(error),
        };
        self.backend.delete(&self.name).await?;
        let numbers = table.pages.iter().map(|page| page.number).chain(table.retired);
        for number in numbers {
            self.backend.delete(&self.page_key(number)).await?;
        }
        Ok(())
    }

    fn page_key(&self, number: u64) -> String {
        format!("{}/{number:016x}", self.name)
    }

    async fn load_table(&self) -> Result<(Table, Option<Version>)> {
        match self.backend.read(&self.name, ReadOptions::default()).await? {
            Some(object) => Ok((Table::decode(&object.value)?, Some(object.head.version))),
            None => Ok((Table::default(), None)),
        }
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Version> {
        let condition = match self.backend.capabilities().conditional {
            true => condition,
            false => Condition::Always,
        };
        let durability = Some(Durability::Sync);
        let options = StorageOptions { condition, durability, ..StorageOptions::default() };
        match self.backend.put(key, Bytes::from(bytes), options).await {
            Err(StorageError::PreconditionFailed(_)) => Err(StorageError::conflict(
                "another sync has taken the ledger over; let one at a time use it",
            )
            .with_key(key)),
            result => result,
        }
    }
}

/// A page in memory.
#[derive(Debug, Clone)]
struct Page {
    entries: Vec<(String, Entry)>,
    /// `None` for one that is not stored.
    version: Option<Version>,
}

/// A ledger in use.
#[derive(Debug)]
pub(super) struct OpenLedger {
    ledger: Ledger,
    table: Table,
    table_version: Option<Version>,
    held: BTreeMap<u64, Page>,
}

impl OpenLedger {
    /// Takes the ledger over, and removes what an earlier run left behind; with `look`, it is only
    /// read.
    pub(super) async fn open(ledger: &Ledger, look: bool) -> Result<Self> {
        let (table, table_version) = ledger.load_table().await?;
        let mut open = Self { ledger: ledger.clone(), table, table_version, held: BTreeMap::new() };
        if look {
            return Ok(open);
        }
        // Pages that were made, and whose run died before the table named them, follow each other.
        let (epoch, mut made) = (open.table.epoch, open.table.made);
        while ledger.backend.exists(&ledger.page_key(number(epoch, made))).await? {
            open.table.retired.push(number(epoch, made));
            made = made.wrapping_add(1);
        }
        open.table.epoch = epoch.wrapping_add(1);
        open.table.made = 0;
        open.store_table().await?;
        for number in &open.table.retired {
            ledger.backend.delete(&ledger.page_key(*number)).await?;
        }
        Ok(open)
    }

    /// Whether no key is known that begins with a prefix.
    pub(super) async fn is_empty(&mut self, prefix: &str) -> Result<bool> {
        for at in self.place(prefix)..self.table.pages.len() {
            let page = self.page(at).await?;
            let begins = page.entries.partition_point(|(key, _)| key.as_str() < prefix);
            if let Some((key, _)) = page.entries.get(begins) {
                return Ok(!key.starts_with(prefix));
            }
        }
        Ok(true)
    }

    /// What is known of the keys after one, or from a prefix on, up to the end of a page; and the
    /// start of the next page, where there is one.
    pub(super) async fn read(
        &mut self,
        from: &str,
    ) -> Result<(Vec<(String, Entry)>, Option<String>)> {
        let at = self.place(from);
        let next = self.table.pages.get(at + 1).map(|page| page.from.clone());
        let page = self.page(at).await?;
        let begins = page.entries.partition_point(|(key, _)| key.as_str() < from);
        Ok((page.entries.get(begins..).unwrap_or_default().to_vec(), next))
    }

    /// Puts down what is known of some keys now; keys ascend.
    pub(super) async fn update(&mut self, changes: &[(String, Entry)]) -> Result<()> {
        let mut rest = changes;
        while let Some((key, _)) = rest.first() {
            let at = self.place(key);
            let until = self.table.pages.get(at + 1).map(|page| page.from.clone());
            let count = match &until {
                Some(until) => rest.partition_point(|(key, _)| key < until),
                None => rest.len(),
            };
            let (here, behind) = rest.split_at(count);
            self.update_page(at, here).await?;
            rest = behind;
        }
        Ok(())
    }

    async fn update_page(&mut self, at: usize, changes: &[(String, Entry)]) -> Result<()> {
        let Page { entries, version } = self.page(at).await?.clone();
        let mut merged: BTreeMap<String, Entry> = entries.iter().cloned().collect();
        for (key, entry) in changes {
            if entry.is_empty() {
                merged.remove(key);
            } else {
                merged.insert(key.clone(), *entry);
            }
        }
        let merged: Vec<(String, Entry)> = merged.into_iter().collect();
        if merged == entries {
            return Ok(());
        }
        let only = self.table.pages.len() <= 1;
        match self.table.pages.get(at).map(|page| page.number) {
            Some(number) if merged.len() <= PAGE_KEYS_MAX && (only || !merged.is_empty()) => {
                let condition = version.map_or(Condition::IfAbsent, Condition::IfMatch);
                let bytes = encode_page(number, &merged)?;
                let key = self.ledger.page_key(number);
                let version = Some(self.ledger.put(&key, bytes, condition).await?);
                self.hold(number, Page { entries: merged, version });
                Ok(())
            }
            _ => self.replace_page(at, &merged).await,
        }
    }

    /// Puts pages in the place of one, or of none where there is none yet. They count at once, when
    /// the table is stored.
    async fn replace_page(&mut self, at: usize, entries: &[(String, Entry)]) -> Result<()> {
        let mut table = self.table.clone();
        let old = table.pages.get(at).cloned();
        let mut from = old.as_ref().map(|page| page.from.clone()).unwrap_or_default();
        let mut pages = Vec::new();
        let mut made = Vec::new();
        for (count, part) in entries.chunks(PAGE_KEYS).enumerate() {
            if let (Some((first, _)), true) = (part.first(), count > 0) {
                from.clone_from(first);
            }
            let number = number(table.epoch, table.made);
            table.made = table.made.wrapping_add(1);
            let key = self.ledger.page_key(number);
            let bytes = encode_page(number, part)?;
            let version = Some(self.ledger.put(&key, bytes, Condition::IfAbsent).await?);
            made.push((number, Page { entries: part.to_vec(), version }));
            pages.push(PageRef { from: from.clone(), number });
        }
        let removed = usize::from(old.is_some());
        table.pages.splice(at..at + removed, pages);
        // Whoever comes first is about the first keys.
        if let Some(first) = table.pages.first_mut() {
            first.from.clear();
        }
        table.retired = old.iter().map(|page| page.number).collect();
        self.table = table;
        self.store_table().await?;
        for (number, page) in made {
            self.hold(number, page);
        }
        if let Some(old) = old {
            self.held.remove(&old.number);
            self.ledger.backend.delete(&self.ledger.page_key(old.number)).await?;
        }
        Ok(())
    }

    async fn store_table(&mut self) -> Result<()> {
        let condition = self.table_version.map_or(Condition::IfAbsent, Condition::IfMatch);
        let bytes = self.table.encode()?;
        self.table_version = Some(self.ledger.put(&self.ledger.name, bytes, condition).await?);
        Ok(())
    }

    /// Number of the page in order that a key belongs to.
    fn place(&self, key: &str) -> usize {
        self.table.pages.partition_point(|page| page.from.as_str() <= key).saturating_sub(1)
    }

    async fn page(&mut self, at: usize) -> Result<&Page> {
        let Some(number) = self.table.pages.get(at).map(|page| page.number) else {
            self.held.insert(0, Page { entries: Vec::new(), version: None });
            return self.held.get(&0).ok_or_else(|| wrong("no pages"));
        };
        if !self.held.contains_key(&number) {
            let key = self.ledger.page_key(number);
            let Some(object) = self.ledger.backend.read(&key, ReadOptions::default()).await? else {
                return Err(wrong("a page that is not there").with_key(key));
            };
            let entries =
                decode_page(&object.value, number).map_err(|error| error.with_key(key))?;
            self.hold(number, Page { entries, version: Some(object.head.version) });
        }
        self.held.get(&number).ok_or_else(|| wrong("a page that is not there"))
    }

    fn hold(&mut self, number: u64, page: Page) {
        while self.held.len() >= HELD_PAGES {
            self.held.pop_first();
        }
        self.held.insert(number, page);
    }
}

/// Number of a page; those of a run begin with its epoch, so that no two runs make the same one.
fn number(epoch: u32, made: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(made)
}

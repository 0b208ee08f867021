//! The pages of a namespace in a snapshot, as they are written.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use super::digest::Digest;
use super::entry::{PageBuilder, SnapshotEntry};
use super::reader::{ChunkReader, Entries};
use super::writer::PackWriter;
use crate::error::{Result, StorageError};

/// Changes by key; `None` is a removal.
pub(super) type Overlay = BTreeMap<Vec<u8>, Option<SnapshotEntry>>;

/// What was written of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) pages: Vec<Digest>,
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

/// Writes entries, in byte order of their keys.
#[derive(Debug, Default)]
pub(super) struct TreeBuilder {
    tree: Tree,
    page: PageBuilder,
}

impl TreeBuilder {
    pub(super) async fn push(
        &mut self,
        entry: &SnapshotEntry,
        writer: &mut PackWriter,
    ) -> Result<()> {
        self.tree.objects += 1;
        self.tree.bytes += entry.size;
        match self.page.push(entry)? {
            Some(page) => self.store(&page, writer).await,
            None => Ok(()),
        }
    }

    async fn store(&mut self, page: &[u8], writer: &mut PackWriter) -> Result<()> {
        let digest = Digest::of(page);
        writer.add(digest, page).await?;
        self.tree.pages.push(digest);
        Ok(())
    }

    pub(super) async fn finish(mut self, writer: &mut PackWriter) -> Result<Tree> {
        if let Some(page) = self.page.finish() {
            self.store(&page, writer).await?;
        }
        Ok(self.tree)
    }
}

/// Writes what a tree becomes by some changes. Its pages must be stored.
pub(super) async fn merge(
    tree: &Tree,
    overlay: Overlay,
    reader: &ChunkReader,
    writer: &mut PackWriter,
) -> Result<Tree> {
    let mut merged = Merged::new(Entries::new(reader, &tree.pages), overlay);
    let mut builder = TreeBuilder::default();
    while let Some(item) = merged.next().await? {
        let (Item::Entry(entry) | Item::Change(_, entry)) = item;
        builder.push(&entry, writer).await?;
    }
    builder.finish(writer).await
}

/// An object of entries with changes made to them.
pub(super) enum Item<V> {
    /// It has not changed.
    Entry(SnapshotEntry),
    /// Its key, and what it has become.
    Change(Vec<u8>, V),
}

/// Entries with changes made to them, in byte order of their keys.
pub(super) struct Merged<'a, V> {
    entries: Entries<'a>,
    changes: Peekable<btree_map::IntoIter<Vec<u8>, Option<V>>>,
}

impl<'a, V> Merged<'a, V> {
    pub(super) fn new(entries: Entries<'a>, changes: BTreeMap<Vec<u8>, Option<V>>) -> Self {
        Self { entries, changes: changes.into_iter().peekable() }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Item<V>>> {
        loop {
            let base = self.entries.peek().await?.map(|entry| entry.key.as_slice());
            let change = self.changes.peek().map(|(key, _)| key.as_slice());
            let (take_base, take_change) = match (base, change) {
                (None, None) => return Ok(None),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(base), Some(change)) => (base <= change, change <= base),
            };
            let base = if take_base { self.entries.next().await? } else { None };
            if !take_change {
                return Ok(base.map(Item::Entry));
            }
            if let Some((key, Some(value))) = self.changes.next() {
                return Ok(Some(Item::Change(key, value)));
            }
        }
    }

    /// See [`Entries::damaged`].
    pub(super) fn damaged(&mut self) -> Vec<(Digest, StorageError)> {
        self.entries.damaged()
    }
}

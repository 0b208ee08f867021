//! Keys of a backend in their order, a page at a time.

use std::sync::Arc;

use crate::backend::{ListEntry, ListOptions, StorageBackend};
use crate::error::Result;

/// Keys of one page.
pub(crate) const PAGE_KEYS: usize = 1000;

/// Keys of a backend that begin with a prefix.
pub(crate) struct Keys {
    backend: Arc<dyn StorageBackend>,
    prefix: String,
    entries: std::iter::Peekable<std::vec::IntoIter<ListEntry>>,
    after: Option<String>,
    ended: bool,
}

impl Keys {
    pub(crate) fn new(backend: Arc<dyn StorageBackend>, prefix: &str) -> Self {
        let entries = Vec::new().into_iter().peekable();
        Self { backend, prefix: prefix.to_owned(), entries, after: None, ended: false }
    }

    /// The next key, which stays the next one.
    pub(crate) async fn peek(&mut self) -> Result<Option<&str>> {
        while self.entries.peek().is_none() && !self.ended {
            let page = self
                .backend
                .list(ListOptions {
                    prefix: self.prefix.clone(),
                    start_after: self.after.take(),
                    delimiter: None,
                    limit: PAGE_KEYS,
                })
                .await?;
            self.entries = page.entries.into_iter().peekable();
            self.ended = page.next.is_none();
            self.after = page.next;
        }
        Ok(self.entries.peek().map(|entry| entry.key.as_str()))
    }

    /// Takes the next key if it is this one.
    pub(crate) fn take(&mut self, key: &str) -> Option<ListEntry> {
        self.entries.next_if(|entry| entry.key == key)
    }
}

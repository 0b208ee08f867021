//! Leaving a backend for good.

use super::backend::PlacedBackend;
use super::catalog::{Catalog, NamespaceRecord};
use crate::backend::ListOptions;
use crate::error::{Result, StorageError};
use crate::limits::LIST_LIMIT_MAX;

impl PlacedBackend {
    /// The first key whose object lies on a backend. Copies, and what a move or a write left behind,
    /// are no objects.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that is not there, and those of the catalog and the
    /// backend.
    pub async fn first_key_on(&self, name: &str) -> Result<Option<String>> {
        let backend = self.backend(name)?;
        let mut start_after = None;
        loop {
            let options =
                ListOptions { start_after, limit: LIST_LIMIT_MAX, ..ListOptions::default() };
            let page = backend.list(options).await.map_err(|error| error.with_backend(name))?;
            for listed in page.entries {
                let entry = self.find(&listed.key).await?.entry;
                if entry.at == name || entry.moving.is_some_and(|moving| moving.to == name) {
                    return Ok(Some(listed.key));
                }
            }
            match page.next {
                Some(next) => start_after = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// Ends the use of a backend on which no object of the namespace lies any more. Objects without
    /// an entry, if they were looked for there, are looked for at `to` from now on. Nothing may put
    /// objects there meanwhile: no policy, in any process that shares the catalog.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when an object lies there, [`StorageError::NotFound`] for a
    /// backend that is not there, and those of the catalog and the backends. Then the backend stays
    /// in use, and the same call goes on.
    pub async fn retire(&self, from: &str, to: &str) -> Result<()> {
        self.backend(to)?;
        self.check_left(from).await?;
        // Entries of objects that are no more may lead there.
        let mut start_after = None;
        loop {
            let (keys, next) = self.entries.that_lead_to(from, start_after).await?;
            for key in keys {
                self.relocate(&key, to).await.map_err(|error| error.with_key(&key))?;
            }
            match next {
                Some(next) => start_after = Some(next),
                None => break,
            }
        }
        self.check_left(from).await?;
        let record = self.entries.retire(from, to).await?;
        *self.record.write() = record;
        Ok(())
    }

    async fn check_left(&self, from: &str) -> Result<()> {
        let Some(key) = self.first_key_on(from).await? else { return Ok(()) };
        Err(StorageError::invalid_input(
            "an object of the namespace lies on this backend: move it away first",
        )
        .with_backend(from)
        .with_namespace(&*self.namespace)
        .with_key(key))
    }
}

impl Catalog {
    /// Ends the use of a backend that has nothing of a namespace any more, as
    /// [`PlacedBackend::retire`] does, while nothing is done in the namespace by way of the catalog.
    ///
    /// # Errors
    /// Those of the catalog's backend; then the same call goes on.
    pub async fn retire(&self, namespace: &str, from: &str, to: &str) -> Result<NamespaceRecord> {
        let (entries, _) = self.open(namespace, to).await?;
        let mut start_after = None;
        loop {
            let (keys, next) = entries.that_lead_to(from, start_after).await?;
            for key in keys {
                entries.lead_to(&key, to).await.map_err(|error| error.with_key(&key))?;
            }
            match next {
                Some(next) => start_after = Some(next),
                None => return entries.retire(from, to).await,
            }
        }
    }
}

//! Leaving a backend for good.

use super::backend::PlacedBackend;
use crate::backend::ListOptions;
use crate::error::{Result, StorageError};
use crate::limits::LIST_LIMIT_MAX;

impl PlacedBackend {
    /// Ends the use of a backend that holds nothing of the namespace any more. Objects without an
    /// entry, if they were looked for there, are looked for at `to` from now on. Nothing may put
    /// objects there meanwhile: no policy, in any process that shares the catalog.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when something of the namespace lies there,
    /// [`StorageError::NotFound`] for a backend that is not there, and those of the catalog and the
    /// backends. Then the backend stays in use, and the same call goes on.
    pub async fn retire(&self, from: &str, to: &str) -> Result<()> {
        self.backend(to)?;
        self.check_vacant(from).await?;
        // Entries of objects that are no more may lead there.
        let mut start_after = None;
        loop {
            let options =
                ListOptions { start_after, limit: LIST_LIMIT_MAX, ..ListOptions::default() };
            let page = self.entries.keys(options).await?;
            for listed in page.entries {
                let entry = self.find(&listed.key).await?.entry;
                let comes = entry.moving.as_ref().is_some_and(|moving| moving.to == from);
                if comes || entry.at == from {
                    let moved = self.relocate(&listed.key, to).await;
                    moved.map_err(|error| error.with_key(&listed.key))?;
                }
            }
            match page.next {
                Some(next) => start_after = Some(next),
                None => break,
            }
        }
        self.check_vacant(from).await?;
        let record = self.entries.retire(from, to).await?;
        *self.record.write() = record;
        Ok(())
    }

    async fn check_vacant(&self, from: &str) -> Result<()> {
        let page = ListOptions { limit: 1, ..ListOptions::default() };
        let found =
            self.backend(from)?.list(page).await.map_err(|error| error.with_backend(from))?;
        let Some(entry) = found.entries.into_iter().next() else { return Ok(()) };
        Err(StorageError::invalid_input(
            "an object or a copy of the namespace lies on this backend: move it away first",
        )
        .with_backend(from)
        .with_namespace(&*self.namespace)
        .with_key(entry.key))
    }
}

//! Dropping versions of which there are too many, and those that nobody wants.

use super::{VersionedBackend, kept_key, of_kept_key};
use crate::backend::ListOptions;
use crate::error::Result;
use crate::limits::LIST_LIMIT_MAX;
use crate::options::Condition;
use crate::version::Version;

/// One of so many writes looks whether its key has more versions than are kept.
const EVERY: u64 = 8;

impl VersionedBackend {
    /// Drops versions past the number that is kept, at some writes. Listings show as many as are
    /// kept, whether or not there are more.
    pub(super) async fn prune_now_and_then(&self, key: &str) {
        if self.keep.count.is_none() || !self.env.random_u64().is_multiple_of(EVERY) {
            return;
        }
        // The write is made; a later one prunes what this one cannot.
        if let Err(error) = self.prune(key).await {
            tracing::debug!(namespace = %self.namespace, key, %error, "versions were not pruned");
        }
    }

    /// Drops the versions of a key past the number that is kept, and says how many that were.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn prune(&self, key: &str) -> Result<u64> {
        let Some(count) = self.keep.count else { return Ok(0) };
        let current = self.reader.head(key).await?.map(|head| head.version);
        let mut versions = self.kept_of(key, None, count + LIST_LIMIT_MAX / 2).await?;
        versions.retain(|version| Some(*version) != current);
        let mut dropped = 0;
        for version in versions.into_iter().skip(count) {
            dropped += u64::from(self.kept.delete(&kept_key(key, version)).await?);
        }
        Ok(dropped)
    }

    /// Erases earlier versions of a key: one, or all of them. Says how many there were. The object
    /// itself stays.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn erase(&self, key: &str, version: Option<Version>) -> Result<u64> {
        if let Some(version) = version {
            let erased = self.kept.remove(&kept_key(key, version), Condition::Always).await;
            return erased.map(u64::from).map_err(|error| self.locate(error, key));
        }
        let mut erased = 0;
        loop {
            let versions = self.kept_of(key, None, LIST_LIMIT_MAX).await?;
            if versions.is_empty() {
                return Ok(erased);
            }
            for version in versions {
                erased += u64::from(self.kept.delete(&kept_key(key, version)).await?);
            }
        }
    }

    /// Versions of a key that are copied, older than this one, newest first; up to this many.
    pub(super) async fn kept_of(
        &self,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<Vec<Version>> {
        let mut found = Vec::new();
        let mut start_after = before.map(|version| kept_key(key, version));
        while found.len() < limit {
            let prefix = format!("{key}@");
            let limit = (limit - found.len()).min(LIST_LIMIT_MAX);
            let options = ListOptions { prefix, start_after, delimiter: None, limit };
            let page = self.kept.list(options).await?;
            // A key may itself hold an `@`.
            let of_key = page.entries.iter().filter_map(|entry| of_kept_key(&entry.key));
            found.extend(of_key.filter(|(of, _)| *of == key).map(|(_, version)| version));
            match page.next {
                Some(next) => start_after = Some(next),
                None => break,
            }
        }
        Ok(found)
    }
}

//! Which versions there are.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{VersionedBackend, kept_key, of_kept_key};
use crate::backend::{ListOptions, ObjectHead};
use crate::error::Result;
use crate::limits::LIST_LIMIT_MAX;
use crate::version::Version;

/// Versions that are looked at, at a time.
const CONCURRENCY: usize = 16;

/// Milliseconds between a copy and the write that it was made for, at most.
const COPY_LEAD_MS: u64 = 10_000;

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectVersion {
    /// The key.
    pub key: String,
    /// The version.
    #[serde(serialize_with = "as_text")]
    pub version: Version,
    /// Size of the value in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_at_ms: u64,
    /// When it was overwritten or removed, in milliseconds since the Unix epoch; `None` for the one
    /// that the key holds.
    pub ended_at_ms: Option<u64>,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// A page of the versions of a key, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VersionPage {
    /// The versions.
    pub versions: Vec<ObjectVersion>,
    /// There are older ones: those before the last of these.
    pub more: bool,
}

/// A page of objects that were removed and can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RemovedObjects {
    /// The newest version of each.
    pub objects: Vec<ObjectVersion>,
    /// Pass this as `start_after` for the next page; `None` on the last.
    pub next: Option<String>,
}

fn as_text<S: serde::Serializer>(
    version: &Version,
    out: S,
) -> std::result::Result<S::Ok, S::Error> {
    out.collect_str(version)
}

impl VersionedBackend {
    /// Versions of a key, newest first: the one that it holds, if `before` is `None`, and those that
    /// are kept, older than `before`. Up to `limit` of them; 0 is 1,000.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn versions(
        &self,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<VersionPage> {
        let locate = |error| self.locate(error, key);
        let limit = if limit == 0 { crate::limits::LIST_LIMIT_DEFAULT } else { limit };
        let limit = limit.min(LIST_LIMIT_MAX - 1);
        let current = self.reader.head(key).await.map_err(locate)?;
        let held = current.as_ref().map(|head| head.version);
        let older = held.is_none_or(|held| before.is_none_or(|before| before > held));
        let mut page = VersionPage::default();
        // A cut by number is by all that are kept, wherever the page begins.
        let wanted = self.keep.count.map_or(limit + 2, |count| count + 1);
        let from = if self.keep.count.is_some() { None } else { before };
        let mut kept = self.kept_of(key, from, wanted).await.map_err(locate)?;
        kept.retain(|version| Some(*version) != held);
        kept.truncate(self.keep.count.unwrap_or(usize::MAX));
        kept.retain(|version| before.is_none_or(|before| *version < before));
        if let Some(head) = current.filter(|_| older && before.is_none()) {
            page.versions.push(shown(key, head.version, &head, None));
        }
        let room = limit - page.versions.len().min(limit);
        page.more = kept.len() > room;
        kept.truncate(room);
        let heads = kept.into_iter().map(|version| async move {
            let head = self.kept.head(&kept_key(key, version)).await?;
            Ok(head.map(|head| (version, head)))
        });
        let heads: Vec<Option<(Version, ObjectHead)>> =
            stream::iter(heads).buffered(CONCURRENCY).try_collect().await.map_err(locate)?;
        // One that was dropped since the listing is no longer of it.
        for (version, head) in heads.into_iter().flatten() {
            page.versions.push(shown(key, version, &head, Some(head.version.time_ms())));
        }
        Ok(page)
    }

    /// Objects that begin with `prefix`, were removed and can be restored, with their newest version;
    /// a page may be short, or empty, and not be the last.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn removed(
        &self,
        prefix: &str,
        start_after: Option<String>,
        limit: usize,
    ) -> Result<RemovedObjects> {
        let options =
            ListOptions { prefix: prefix.to_owned(), start_after, delimiter: None, limit };
        let page = self.kept.list(options).await?;
        let mut newest: Vec<(String, Version)> = Vec::new();
        for (key, version) in page.entries.iter().filter_map(|entry| of_kept_key(&entry.key)) {
            if key.starts_with(prefix) && newest.last().is_none_or(|(last, _)| last != key) {
                newest.push((key.to_owned(), version));
            }
        }
        let looks = newest.into_iter().map(|(key, version)| async move {
            // A page before may have shown newer versions of the first key.
            let newest = self.kept_of(&key, None, 1).await?;
            if newest.first() != Some(&version) || self.reader.exists(&key).await? {
                return Ok(None);
            }
            let head = self.kept.head(&kept_key(&key, version)).await?;
            let shown = head.map(|head| shown(&key, version, &head, Some(head.version.time_ms())));
            Result::<_>::Ok(shown)
        });
        let looks: Vec<Option<ObjectVersion>> =
            stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
        Ok(RemovedObjects { objects: looks.into_iter().flatten().collect(), next: page.next })
    }

    /// The version that a key held at a time, in milliseconds since the Unix epoch; `None` where it
    /// held none, or none that is kept.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn version_at(&self, key: &str, time_ms: u64) -> Result<Option<Version>> {
        let mut before = None;
        let mut replaced_at_ms = None;
        loop {
            let page = self.versions(key, before, 0).await?;
            for one in &page.versions {
                if one.written_at_ms > time_ms {
                    replaced_at_ms = Some(one.written_at_ms);
                    continue;
                }
                let Some(ended_at_ms) = one.ended_at_ms else { return Ok(Some(one.version)) };
                // What replaced it was written soon after the copy, unless it was removed.
                let until_ms = replaced_at_ms
                    .filter(|at| at.saturating_sub(ended_at_ms) <= COPY_LEAD_MS)
                    .map_or(ended_at_ms, |at| at.max(ended_at_ms));
                return Ok((until_ms > time_ms).then_some(one.version));
            }
            match page.versions.last().filter(|_| page.more) {
                Some(last) => before = Some(last.version),
                None => return Ok(None),
            }
        }
    }
}

fn shown(
    key: &str,
    version: Version,
    head: &ObjectHead,
    ended_at_ms: Option<u64>,
) -> ObjectVersion {
    ObjectVersion {
        key: key.to_owned(),
        version,
        size: head.size,
        written_at_ms: version.time_ms(),
        ended_at_ms,
        expires_at_ms: head.expires_at_ms,
    }
}

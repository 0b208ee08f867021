//! Listings that show what committed transactions have written.

use std::collections::{BTreeMap, BTreeSet};

use super::Shared;
use crate::backend::{ListEntry, ListOptions, ListPage, StorageBackend};
use crate::error::Result;
use crate::limits::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use crate::transaction::engine::ListedKeys;

/// A page of keys as they are with what transactions have written.
///
/// # Errors
/// Those of the backend.
pub(super) async fn page(
    shared: &Shared,
    namespace: &str,
    backend: &dyn StorageBackend,
    options: &ListOptions,
) -> Result<ListPage> {
    let prefix = options.prefix.as_str();
    let after = options.start_after.as_deref();
    // What is written through while the backend lists may be missing from both, but for this.
    let before = shared.table.written_after(namespace, prefix, after).await?;
    let page = backend.list(options.clone()).await?;
    let now = shared.table.written_after(namespace, prefix, after).await?;
    if before.is_empty() && now.is_empty() {
        return Ok(page);
    }
    let mut heads = BTreeMap::new();
    let now_ms = shared.env.now_ms();
    for write in &before {
        if !now.iter().any(|other| other.key == write.key) {
            heads.insert(write.key.clone(), backend.head(&write.key).await?);
        }
    }
    for write in &now {
        heads.insert(write.key.clone(), write.head(now_ms));
    }
    let entries = heads.into_iter().map(|(key, head)| {
        let entry = head.map(|head| ListEntry {
            key: key.clone(),
            size: head.size,
            version: Some(head.version),
            expires_at_ms: head.expires_at_ms,
        });
        (key, entry)
    });
    Changes { entries: entries.collect() }.make(backend, options, page).await
}

/// The keys that a transaction has listed, as they are now.
///
/// # Errors
/// Those of the backend.
pub(super) async fn again(
    shared: &Shared,
    namespace: &str,
    backend: &dyn StorageBackend,
    listed: &ListedKeys,
) -> Result<ListPage> {
    let mut options = listed.again();
    let most = options.limit;
    let mut all = page(shared, namespace, backend, &options).await?;
    // A page that keys were taken out of is short, and one that ends where they were says that
    // there is more.
    while all.entries.len() < most || (listed.complete && all.entries.len() == most) {
        let Some(next) = all.next.take() else { break };
        options.start_after = Some(next);
        options.limit = (most - all.entries.len()).max(1);
        let more = page(shared, namespace, backend, &options).await?;
        all.entries.extend(more.entries);
        all.next = more.next;
    }
    Ok(all)
}

/// Keys that are not as the backend lists them.
struct Changes {
    /// What is under them now.
    entries: BTreeMap<String, Option<ListEntry>>,
}

impl Changes {
    async fn make(
        self,
        backend: &dyn StorageBackend,
        options: &ListOptions,
        page: ListPage,
    ) -> Result<ListPage> {
        let end = page.next.clone();
        let within = |key: &str| end.as_deref().is_none_or(|end| key <= end);
        // One that the listing begins after was on the page before.
        let is_new = |prefix: &str| options.start_after.as_deref().is_none_or(|at| prefix > at);
        let delimiter = options.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let folded = |key: &str| {
            let rest = key.strip_prefix(options.prefix.as_str())?;
            let at = rest.find(delimiter?)?;
            Some(key[..options.prefix.len() + at + delimiter?.len()].to_owned())
        };
        let mut entries: BTreeMap<String, ListEntry> =
            page.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let mut prefixes: BTreeSet<String> = page.common_prefixes.into_iter().collect();
        let mut doubtful = BTreeSet::new();
        for (key, entry) in &self.entries {
            match (folded(key), entry) {
                (Some(prefix), Some(_)) if within(&prefix) && is_new(&prefix) => {
                    prefixes.insert(prefix);
                }
                (Some(prefix), None) => drop(doubtful.insert(prefix)),
                (None, Some(entry)) if within(key) => {
                    entries.insert(key.clone(), entry.clone());
                }
                (None, None) => drop(entries.remove(key)),
                _ => {}
            }
        }
        for prefix in doubtful {
            if prefixes.contains(&prefix) && !self.has_any(backend, &prefix).await? {
                prefixes.remove(&prefix);
            }
        }
        Ok(cut(entries, prefixes, options.limit, page.next))
    }

    /// Whether a key with the prefix is left.
    async fn has_any(&self, backend: &dyn StorageBackend, prefix: &str) -> Result<bool> {
        let under = || self.entries.iter().filter(|(key, _)| key.starts_with(prefix));
        if under().any(|(_, entry)| entry.is_some()) {
            return Ok(true);
        }
        let removed = under().count();
        let keys = backend.list_keys(prefix, removed + 1).await?;
        Ok(keys.iter().any(|key| !self.entries.contains_key(key)))
    }
}

/// The first entries and prefixes, as many as a page has.
fn cut(
    entries: BTreeMap<String, ListEntry>,
    prefixes: BTreeSet<String>,
    limit: usize,
    next: Option<String>,
) -> ListPage {
    let most = match limit {
        0 => LIST_LIMIT_DEFAULT,
        limit => limit.min(LIST_LIMIT_MAX),
    };
    let names: BTreeSet<&String> = entries.keys().chain(&prefixes).collect();
    let last = (names.len() > most).then(|| names.into_iter().nth(most - 1).cloned()).flatten();
    let next = last.clone().or(next);
    let within = |name: &String| last.as_ref().is_none_or(|last| name <= last);
    ListPage {
        common_prefixes: prefixes.into_iter().filter(within).collect(),
        entries: entries.into_values().filter(|entry| within(&entry.key)).collect(),
        next,
    }
}

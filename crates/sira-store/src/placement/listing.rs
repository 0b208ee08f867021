//! Listings over several backends.

use std::collections::BTreeMap;

use super::backend::PlacedBackend;
use super::copies::together;
use super::replicas::is_of_backend;
use super::replication::Consistency;
use crate::backend::{ListEntry, ListOptions, ListPage, StorageBackend};
use crate::error::{Result, StorageError};
use crate::limits::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};

/// Objects that are looked at at the same time.
const AT_ONCE: usize = 64;

/// Keys that are looked at to see whether there is any.
const FIRST: usize = 8;

/// Whether there is a key with a prefix.
async fn has_any(placed: &PlacedBackend, prefix: &str) -> Result<bool> {
    let mut start_after = None;
    loop {
        let prefix = prefix.to_owned();
        let options = ListOptions { prefix, start_after, limit: FIRST, ..ListOptions::default() };
        let page = page(placed, &options).await?;
        match page.next {
            _ if !page.entries.is_empty() => return Ok(true),
            None => return Ok(false),
            next => start_after = next,
        }
    }
}

/// Backends that could not be listed.
struct Away {
    count: usize,
    failure: Option<StorageError>,
}

impl Away {
    /// Goes on without a replica, as long as the others are sure to know every key.
    fn note(&mut self, placed: &PlacedBackend, error: StorageError) -> Result<()> {
        self.count += 1;
        let Some(replication) = &placed.replication else { return Err(error) };
        let spare = match replication.consistency {
            Consistency::Strong => replication.needed() - 1,
            // What has not come to the others yet is missing.
            Consistency::Eventual | Consistency::Weak => replication.replicas.len() - 1,
        };
        if self.count > spare || !placed.record.read().complete || !is_of_backend(&error) {
            return Err(error);
        }
        self.failure = Some(error);
        Ok(())
    }
}

/// Makes a page of the pages of all backends: names in order, each key from where it lies.
pub(super) async fn page(placed: &PlacedBackend, options: &ListOptions) -> Result<ListPage> {
    let limit = match options.limit {
        0 => LIST_LIMIT_DEFAULT,
        limit => limit.min(LIST_LIMIT_MAX),
    };
    // Another process may have begun to use one more.
    let used = placed.newest_record().await?.used;
    let mut entries: BTreeMap<String, Vec<(String, ListEntry)>> = BTreeMap::new();
    let mut prefixes = BTreeMap::new();
    // Names after the end of a page that is not the last are not known of that backend.
    let mut known_to: Option<String> = None;
    let mut away = Away { count: 0, failure: None };
    let lists = used.iter().map(|name| {
        let options = ListOptions { limit, ..options.clone() };
        async move {
            let listed = match placed.backend(name) {
                Ok(backend) => backend.list(options).await,
                Err(error) => Err(error),
            };
            (name, listed.map_err(|error| error.with_backend(name)))
        }
    });
    for (name, listed) in together(lists).await {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                away.note(placed, error)?;
                continue;
            }
        };
        if let Some(next) = &listed.next
            && known_to.as_ref().is_none_or(|known| next < known)
        {
            known_to = Some(next.clone());
        }
        for entry in listed.entries {
            entries.entry(entry.key.clone()).or_default().push((name.clone(), entry));
        }
        for prefix in listed.common_prefixes {
            *prefixes.entry(prefix).or_insert(0_usize) += 1;
        }
    }
    let known = |name: &str| known_to.as_deref().is_none_or(|known| name <= known);
    let mut names: BTreeMap<String, Option<ListEntry>> = BTreeMap::new();
    entries.retain(|key, _| known(key));
    if away.failure.is_some() {
        // Where an object lies may be away: whatever answers for it.
        let keys: Vec<String> = entries.into_keys().collect();
        for some in keys.chunks(AT_ONCE) {
            let heads = together(some.iter().map(|key| placed.head(key))).await;
            for (key, head) in some.iter().zip(heads) {
                let entry = head?.map(|head| ListEntry {
                    key: key.clone(),
                    size: head.size,
                    version: Some(head.version),
                    expires_at_ms: head.expires_at_ms,
                });
                names.extend(entry.map(|entry| (key.clone(), Some(entry))));
            }
        }
    } else {
        for (key, found) in entries {
            let place = placed.find(&key).await?.entry;
            let here = |at: &str| found.iter().find(|(name, _)| name == at).map(|(_, entry)| entry);
            let moving = place.moving.as_ref().filter(|moving| moving.copied.is_some());
            let there = moving.and_then(|moving| here(&moving.to));
            // One that its own replica has lost.
            let copy = || {
                let held = |name: &str| place.copies.on.get(name).copied().flatten();
                let exact = |(name, entry): &&(String, ListEntry)| {
                    entry.version.is_some_and(|version| held(name) == Some(version.as_u64()))
                };
                found.iter().find(exact).map(|(_, entry)| entry)
            };
            let lost = || placed.replication.as_ref().and_then(|_| copy());
            if let Some(entry) = here(&place.at).or(there).or_else(lost) {
                names.insert(key, Some(entry.clone()));
            }
        }
    }
    for (prefix, listed_by) in prefixes {
        if !known(&prefix) {
            continue;
        }
        // On a replica that is behind, there may be what is there no more.
        let certain = placed.replication.is_none() || listed_by == used.len();
        if certain || Box::pin(has_any(placed, &prefix)).await? {
            names.insert(prefix, None);
        }
    }

    let mut page = ListPage::default();
    let more = known_to.is_some() || names.len() > limit;
    let mut last = known_to.clone();
    for (count, (name, entry)) in names.into_iter().enumerate() {
        if count == limit {
            break;
        }
        if count + 1 == limit {
            last = Some(name.clone());
        }
        match entry {
            Some(entry) => page.entries.push(entry),
            None => page.common_prefixes.push(name),
        }
    }
    page.next = last.filter(|_| more);
    Ok(page)
}

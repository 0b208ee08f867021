//! Listings over several backends.

use std::collections::BTreeMap;

use super::backend::PlacedBackend;
use crate::backend::{ListEntry, ListOptions, ListPage};
use crate::error::Result;
use crate::limits::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};

/// Makes a page of the pages of all backends: names in order, each key from where it lies.
pub(super) async fn page(placed: &PlacedBackend, options: &ListOptions) -> Result<ListPage> {
    let limit = match options.limit {
        0 => LIST_LIMIT_DEFAULT,
        limit => limit.min(LIST_LIMIT_MAX),
    };
    // Another process may have begun to use one more.
    let used = placed.newest_record().await?.used;
    let (mut entries, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
    // Names after the end of a page that is not the last are not known of that backend.
    let mut known_to: Option<String> = None;
    for name in &used {
        let options = ListOptions { limit, ..options.clone() };
        let listed = placed.backend(name)?.list(options).await;
        let listed = listed.map_err(|error| error.with_backend(name))?;
        if let Some(next) = &listed.next
            && known_to.as_ref().is_none_or(|known| next < known)
        {
            known_to = Some(next.clone());
        }
        for entry in listed.entries {
            entries.entry(entry.key.clone()).or_insert_with(Vec::new).push((name.clone(), entry));
        }
        for prefix in listed.common_prefixes {
            prefixes.insert(prefix, ());
        }
    }
    let known = |name: &str| known_to.as_deref().is_none_or(|known| name <= known);
    let mut names: BTreeMap<String, Option<ListEntry>> = BTreeMap::new();
    for (key, found) in entries {
        if !known(&key) {
            continue;
        }
        let place = placed.find(&key).await?.entry;
        let here = |at: &str| found.iter().find(|(name, _)| name == at).map(|(_, entry)| entry);
        let moving = place.moving.as_ref().filter(|moving| moving.copied.is_some());
        let there = moving.and_then(|moving| here(&moving.to));
        if let Some(entry) = here(&place.at).or(there) {
            names.insert(key, Some(entry.clone()));
        }
    }
    names.extend(prefixes.into_keys().filter(|prefix| known(prefix)).map(|prefix| (prefix, None)));

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

//! Small objects, several to a request.
//!
//! What the target has no object of is read from the source in one request and written to the target
//! in one. Everything else is copied [by itself](super::copy): what the target has in another version,
//! what the engines refused of the group, and what changed meanwhile.

use std::collections::BTreeMap;

use super::copy::{Copied, copy};
use super::{Migration, PAGE_KEYS, Verify};
use crate::backend::{BatchOperation, BatchResult, ListEntry, ListOptions, Object};
use crate::error::Result;
use crate::options::StorageOptions;
use crate::version::Version;

/// Most objects of a group.
const GROUP_OBJECTS: usize = 128;

/// Most bytes of a group.
const GROUP_BYTES: u64 = 1024 * 1024;

/// Largest object that goes in a group.
const OBJECT_BYTES_MAX: u64 = 64 * 1024;

/// Cuts a page of keys into groups; an object that must go by itself is a group of its own.
pub(super) fn groups(migration: &Migration, page: Vec<ListEntry>) -> Vec<Vec<ListEntry>> {
    let together = goes_together(migration);
    // A bound on the rate is one for every tenth of a second.
    let rate = migration.options.bytes_per_second_max.unwrap_or(u64::MAX);
    let bytes_max = GROUP_BYTES.min(rate / 10);
    let mut groups: Vec<Vec<ListEntry>> = Vec::new();
    let mut bytes = 0;
    for entry in page {
        let small = together && entry.size <= OBJECT_BYTES_MAX;
        bytes += entry.size;
        match groups.last_mut() {
            Some(group)
                if small
                    && group.len() < GROUP_OBJECTS
                    && bytes <= bytes_max
                    && group.last().is_some_and(|last| last.size <= OBJECT_BYTES_MAX) =>
            {
                group.push(entry);
            }
            _ => {
                bytes = entry.size;
                groups.push(vec![entry]);
            }
        }
    }
    groups
}

fn goes_together(migration: &Migration) -> bool {
    let options = &migration.options;
    let plain = !options.dry_run && !options.remove_source && options.verify == Verify::None;
    plain && migration.target.capabilities().list
}

/// Keys of the target with the versions of their objects, where a listing tells those.
pub(super) type Held = BTreeMap<String, Option<Version>>;

/// What the target has between the first key of a page and the last.
pub(super) async fn held(migration: &Migration, page: &[ListEntry]) -> Result<Held> {
    let mut held = Held::new();
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(held) };
    if page.len() == 1 || !goes_together(migration) {
        return Ok(held);
    }
    let mut options = ListOptions {
        prefix: migration.options.pattern.prefix().to_owned(),
        start_after: before(&first.key),
        delimiter: None,
        limit: PAGE_KEYS,
    };
    loop {
        let page = migration.target.list(options.clone()).await?;
        let reached = page.entries.last().is_none_or(|entry| entry.key >= last.key);
        held.extend(page.entries.into_iter().map(|entry| (entry.key, entry.version)));
        match page.next {
            Some(next) if !reached => options.start_after = Some(next),
            _ => return Ok(held),
        }
    }
}

/// A key that sorts before this one, with few in between.
fn before(key: &str) -> Option<String> {
    let end = key.char_indices().next_back().map(|(at, _)| at)?;
    key.get(..end).filter(|rest| !rest.is_empty()).map(str::to_owned)
}

/// Copies the objects of a group.
pub(super) async fn copy_group(
    migration: &Migration,
    group: &[ListEntry],
    held: &Held,
) -> Result<Vec<Copied>> {
    let mut copied = Vec::with_capacity(group.len());
    let (mut new, mut alone) = (Vec::new(), Vec::new());
    for entry in group {
        match held.get(&entry.key) {
            _ if group.len() == 1 => alone.push(entry),
            None => new.push(entry),
            Some(Some(version)) if Some(*version) == entry.version => {
                copied.push(Copied { version: Some(*version), ..Copied::default() });
            }
            Some(_) => alone.push(entry),
        }
    }
    alone.extend(bring(migration, new, &mut copied).await?);
    for entry in alone {
        copied.push(copy(migration, entry).await.map_err(|error| error.with_key(&entry.key))?);
    }
    Ok(copied)
}

/// Brings objects that the target does not have; answers those that must be copied by themselves.
async fn bring<'e>(
    migration: &Migration,
    entries: Vec<&'e ListEntry>,
    copied: &mut Vec<Copied>,
) -> Result<Vec<&'e ListEntry>> {
    if entries.is_empty() {
        return Ok(entries);
    }
    let reads = entries.iter().map(|entry| BatchOperation::Get { key: entry.key.clone() });
    let found = migration.source.batch(reads.collect()).await?;
    let (mut alone, mut under_way, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for (entry, result) in entries.into_iter().zip(found) {
        match result {
            BatchResult::Value(Some(object)) => {
                let Object { head, value, .. } = object;
                let done = Copied {
                    version: Some(head.version),
                    bytes: head.size,
                    copied: true,
                    ..Copied::default()
                };
                if migration.options.since.is_some_and(|since| head.version <= since) {
                    copied.push(Copied { copied: false, ..done });
                    continue;
                }
                let options = StorageOptions {
                    expires_at_ms: head.expires_at_ms,
                    metadata: head.metadata,
                    version: Some(head.version),
                    ..StorageOptions::default()
                };
                writes.push(BatchOperation::Put { key: entry.key.clone(), value, options });
                under_way.push((entry, done));
            }
            // It has gone since.
            BatchResult::Value(None) => copied.push(Copied::default()),
            BatchResult::Success { .. } | BatchResult::Error(_) => alone.push(entry),
        }
    }
    if writes.is_empty() {
        return Ok(alone);
    }
    let written = migration.target.batch(writes).await?;
    for ((entry, done), result) in under_way.into_iter().zip(written) {
        match result {
            BatchResult::Success { .. } => copied.push(done),
            // Another version is there by now, or one of those that had to go together was refused.
            BatchResult::Value(_) | BatchResult::Error(_) => alone.push(entry),
        }
    }
    Ok(alone)
}

#[cfg(test)]
mod tests;

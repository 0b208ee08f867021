//! What a write may replace or remove, as filters that the engine checks.

use ::mongodb::bson::{DateTime, Document, doc};
use sira_store::driver::Guard;
use sira_store::{Condition, Version};

use crate::signed;

/// What a record may replace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Put {
    /// Documents that it may replace; at most one has the `_id`.
    pub(super) query: Document,
    /// Whether it may be added where no document has the `_id`.
    pub(super) upsert: bool,
}

/// The version to try first: the record's own, unless the condition tells that it is too small.
pub(super) fn first_version(version: Version, guard: &Guard) -> Version {
    match guard.condition {
        Condition::IfMatch(held) if !guard.exact && version <= held => {
            Version::from_u64(held.as_u64().saturating_add(1))
        }
        _ => version,
    }
}

/// What a record of this version may replace under a guard.
pub(super) fn put(id: &str, version: Version, guard: &Guard) -> Put {
    let older = signed::from_version(version);
    let (query, upsert) = match guard.condition {
        Condition::Always => (doc! { "_id": id, "v": { "$lt": older } }, true),
        Condition::IfAbsent => (doc! { "_id": id, "v": { "$lt": older }, "x": over(guard) }, true),
        Condition::IfPresent => {
            (doc! { "_id": id, "v": { "$lt": older }, "x": not_over(guard) }, false)
        }
        Condition::IfMatch(held) => {
            let held = doc! { "$eq": signed::from_version(held), "$lt": older };
            (doc! { "_id": id, "v": held, "x": not_over(guard) }, false)
        }
        Condition::IfNoneMatch(other) => {
            (doc! { "_id": id, "v": { "$lt": older }, "$or": other_than(other, guard) }, true)
        }
    };
    Put { query, upsert }
}

/// What a removal may remove under a guard.
pub(super) fn remove(id: &str, guard: &Guard) -> Document {
    match guard.condition {
        Condition::Always => doc! { "_id": id },
        Condition::IfAbsent => doc! { "_id": id, "x": over(guard) },
        Condition::IfPresent => doc! { "_id": id, "x": not_over(guard) },
        Condition::IfMatch(held) => {
            doc! { "_id": id, "v": signed::from_version(held), "x": not_over(guard) }
        }
        Condition::IfNoneMatch(other) => doc! { "_id": id, "$or": other_than(other, guard) },
    }
}

/// The record has expired. Comparisons match dates only, so not the records that never do.
fn over(guard: &Guard) -> Document {
    doc! { "$lte": now(guard) }
}

fn not_over(guard: &Guard) -> Document {
    doc! { "$not": { "$lte": now(guard) } }
}

/// The record has another version, or has expired and counts as absent.
fn other_than(version: Version, guard: &Guard) -> Vec<Document> {
    vec![doc! { "v": { "$ne": signed::from_version(version) } }, doc! { "x": over(guard) }]
}

fn now(guard: &Guard) -> DateTime {
    DateTime::from_millis(signed::clamp(guard.now_ms))
}

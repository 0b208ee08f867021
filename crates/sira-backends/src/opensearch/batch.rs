//! Many operations in few requests.

use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sira_store::driver::{Change, Part, Place, Record};
use sira_store::{Condition, Result, StorageError, Version};

use super::client::{Answer, Client};
use super::document::{self, Name};
use super::{NAME, OpenSearchDriver, error};
use crate::deadline::{Effect, within};

/// Documents that one request asks for.
pub(super) const KEYS_PER_GET: usize = 64;

/// Bytes of one bulk request, but for the last operation.
const BULK_BYTES: usize = 8 * 1024 * 1024;

/// Operations of one bulk request.
const BULK_OPERATIONS_MAX: usize = 5000;

/// Changes that are made by themselves at the same time.
const ALONE_AT_ONCE: usize = 16;

/// What is known of a change: nothing yet, or its answer.
type Made = Option<Result<Option<Version>>>;

/// Reads documents; the answers are in the order of the names.
pub(super) async fn get(client: &Client, names: &[Name]) -> Result<Vec<Option<Record>>> {
    let ids: Vec<String> = names.iter().map(Name::id).collect();
    let body = Some(json!({ "ids": ids }).to_string().into_bytes());
    let answer = client.index(Method::POST, "_mget", body, Effect::Read).await?;
    let found = document::found_many(&answer)?;
    if found.len() != names.len() {
        return Err(error::malformed("an answer about other documents"));
    }
    let records = found.into_iter().map(|found| match found {
        Some(found) => found.record(&Part::Whole).map(Some),
        None => Ok(None),
    });
    records.collect()
}

/// Makes each change. What the engine judges by itself goes into bulk requests; the others, and
/// those that found something in their way, are made one by one.
pub(super) async fn apply(
    driver: &OpenSearchDriver,
    place: &Place,
    changes: Vec<Change>,
) -> Vec<Result<Option<Version>>> {
    let mut made: Vec<Made> = changes.iter().map(|_| None).collect();
    for bulk in bulks(place, &changes) {
        let sent = driver.client.bulk(bulk.body);
        match within(driver.timeout, Effect::Write, NAME, sent).await {
            Ok(answer) => file(&answer, &bulk.operations, &mut made),
            Err(error) => {
                for (index, _) in &bulk.operations {
                    let error = error.same_kind(error.detail().message.clone());
                    set(&mut made, *index, Some(Err(error)));
                }
            }
        }
    }
    stream::iter(changes.into_iter().zip(made))
        .map(|(change, made)| async move {
            match made {
                Some(made) => made,
                None => change.apply(driver, place).await,
            }
        })
        .buffered(ALONE_AT_ONCE)
        .collect()
        .await
}

/// A bulk request.
#[derive(Debug, Default)]
struct Bulk {
    body: Vec<u8>,
    /// Index of each change, and the version it writes.
    operations: Vec<(usize, Option<Version>)>,
}

fn bulks(place: &Place, changes: &[Change]) -> Vec<Bulk> {
    let mut bulks: Vec<Bulk> = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let name = Name::of(place, change.key());
        let Some(action) = action(&name, change) else { continue };
        let last = bulks.pop_if(|last| {
            last.body.len() < BULK_BYTES && last.operations.len() < BULK_OPERATIONS_MAX
        });
        let mut bulk = last.unwrap_or_default();
        bulk.body.extend_from_slice(action.to_string().as_bytes());
        bulk.body.push(b'\n');
        let version = match change {
            Change::Put { record, .. } => {
                bulk.body.extend_from_slice(&document::of_record(&name, record));
                bulk.body.push(b'\n');
                Some(record.version)
            }
            Change::Remove { .. } | Change::Check { .. } => None,
        };
        bulk.operations.push((index, version));
        bulks.push(bulk);
    }
    bulks
}

/// The first line of an operation, if the engine can judge it without a look.
fn action(name: &Name, change: &Change) -> Option<Value> {
    let id = name.id();
    match change {
        Change::Put { record, guard, .. } if guard.is_blind() => {
            let version = document::external_version(record.version)?;
            let index = json!({ "_id": id, "version": version, "version_type": "external" });
            Some(json!({ "index": index }))
        }
        Change::Put { guard, .. } if guard.condition == Condition::IfAbsent => {
            Some(json!({ "create": { "_id": id } }))
        }
        Change::Remove { guard, .. } if guard.condition == Condition::Always => {
            Some(json!({ "delete": { "_id": id } }))
        }
        Change::Put { .. } | Change::Remove { .. } | Change::Check { .. } => None,
    }
}

/// Files what an answer says of each operation.
fn file(answer: &Answer, operations: &[(usize, Option<Version>)], made: &mut [Made]) {
    #[derive(Deserialize)]
    struct Bulk {
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(alias = "index", alias = "create")]
        delete: Done,
    }
    #[derive(Deserialize)]
    struct Done {
        status: u16,
        #[serde(default)]
        error: Value,
    }
    let items = match serde_json::from_slice::<Bulk>(&answer.body) {
        Ok(bulk) if bulk.items.len() == operations.len() => bulk.items,
        _ => {
            for (index, _) in operations {
                let unreadable = StorageError::io("OpenSearch's answer to a batch is unreadable");
                set(made, *index, Some(Err(unreadable)));
            }
            return;
        }
    };
    for ((index, version), Item { delete: done }) in operations.iter().zip(items) {
        let status = StatusCode::from_u16(done.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let what = match status {
            // Something was in its way: it is made again by itself.
            StatusCode::CONFLICT => None,
            StatusCode::NOT_FOUND if version.is_none() && done.error.is_null() => Some(Ok(None)),
            status if status.is_success() => Some(Ok(*version)),
            status => Some(Err(error::of_error(status, &done.error, Effect::Write))),
        };
        set(made, *index, what);
    }
}

fn set(made: &mut [Made], index: usize, what: Made) {
    if let Some(slot) = made.get_mut(index) {
        *slot = what;
    }
}

#[cfg(test)]
mod tests;

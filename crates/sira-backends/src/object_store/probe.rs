//! What a store does with conditions, found out by trying.

use bytes::Bytes;
use sira_store::env::{Env, SystemEnv};
use sira_store::{Result, StorageError};

use super::adapter::{Demand, Found, Store, Tag, TagKind};
use super::layout::Layout;
use super::options::Conditions;

/// Tries conditional writes and deletes on an object of their own. Also shows that the store can be
/// reached, that the bucket is there and that the credentials are good. Sets how the store wants
/// its tags.
pub(super) async fn conditions(store: &mut Store, layout: &Layout) -> Result<Conditions> {
    let path = layout.probe(SystemEnv.random_u64());
    let found = try_on(store, &path).await;
    if !matches!(found, Ok(Conditions::All | Conditions::AllButAbsence)) {
        let cleaned = store.delete(&path, None).await;
        if found.is_ok() {
            cleaned?;
        }
    }
    found
}

async fn try_on(store: &mut Store, path: &str) -> Result<Conditions> {
    // All bodies differ, so that all tags do.
    let body = |number: u8| vec![Bytes::from(vec![b'p', number])];
    if store.put(path, body(1), Demand::Absent).await?.is_none() {
        return Err(StorageError::unavailable(
            "the store says that an object with a random name is there already",
        ));
    }
    if store.put(path, body(2), Demand::Absent).await?.is_some() {
        return Ok(Conditions::None);
    }
    let mut old = tag(store, path).await?;
    if store.put(path, body(3), Demand::Same(&old)).await?.is_none() {
        if store.tags() != TagKind::Quoted {
            return Ok(Conditions::None);
        }
        store.set_tags(TagKind::Unquoted);
        old = tag(store, path).await?;
        if store.put(path, body(4), Demand::Same(&old)).await?.is_none() {
            return Ok(Conditions::None);
        }
    }
    if store.put(path, body(5), Demand::Same(&old)).await?.is_some() {
        return Ok(Conditions::None);
    }
    let new = tag(store, path).await?;
    // A delete must spare another object, take the right one, and tell that it is gone.
    if store.delete(path, Some(&old)).await? || !store.delete(path, Some(&new)).await? {
        return Ok(Conditions::Writes);
    }
    if !matches!(store.get(path, None, None).await?, Found::Absent) {
        return Ok(Conditions::Writes);
    }
    let silent = store.delete(path, Some(&new)).await?;
    Ok(if silent { Conditions::AllButAbsence } else { Conditions::All })
}

async fn tag(store: &Store, path: &str) -> Result<Tag> {
    match store.get(path, None, None).await? {
        Found::Object(fetched) => fetched.tag().cloned(),
        Found::Absent | Found::Changed => Err(StorageError::unavailable(
            "the store does not show an object that it has just taken",
        )),
    }
}

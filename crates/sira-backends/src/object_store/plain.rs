//! Plain objects, which other clients of the bucket read and write.
//!
//! An object's name is `PREFIX/NAMESPACE/KEY`. Its state is a hash of its ETag, or generation.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::driver::{After, Driver, Expiry, Listed, Scan, names};
use sira_store::plain::{PlainDriver, PlainObject, PlainProfile, PlainWrite};
use sira_store::{Condition, HealthStatus, Result, StorageError, Version};

use super::adapter::{Demand, Found, Seen, Tag, pause};
use super::driver::ObjectStoreDriver;
use super::options::Conditions;

/// How often a change is tried when other writers come first.
const ATTEMPTS: u32 = 64;

/// Longest name of an object, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Largest object, in bytes: that of one write without parts.
const VALUE_BYTES_MAX: u64 = 5 << 30;

/// Objects of one folder of a bucket.
#[derive(Debug)]
pub(super) struct PlainObjects {
    driver: Arc<ObjectStoreDriver>,
    root: String,
}

impl PlainObjects {
    pub(super) fn new(driver: Arc<ObjectStoreDriver>, namespace: &str) -> Self {
        let root = format!("{}{}/", driver.layout.root(), names::escape(namespace.as_bytes()));
        Self { driver, root }
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    async fn see(&self, path: &str) -> Result<Option<Seen>> {
        self.driver.store.stat(path).await
    }

    /// What the store is asked to demand, so that the condition holds of what was seen.
    async fn demand(&self, path: &str, condition: Condition) -> Result<Option<Tag>> {
        if matches!(condition, Condition::Always | Condition::IfAbsent) {
            return Ok(None);
        }
        let seen = self.see(path).await?;
        condition.require(seen.as_ref().map(|seen| state_of(&seen.tag)))?;
        Ok(seen.map(|seen| seen.tag))
    }
}

fn state_of(tag: &Tag) -> Version {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(tag.as_str().trim_matches('"').as_bytes());
    let head = digest.first_chunk::<8>().copied().unwrap_or_default();
    Version::of_state(u64::from_be_bytes(head))
}

fn crowded() -> StorageError {
    StorageError::conflict("other writers were faster each time; nothing was written, try again")
}

fn is_name(key: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..");
    key.split('/').all(segment) && !key.chars().any(char::is_control)
}

#[async_trait]
impl PlainDriver for PlainObjects {
    fn profile(&self) -> PlainProfile {
        let profile = self.driver.profile();
        PlainProfile {
            name: profile.name,
            persistent: profile.persistent,
            ttl: false,
            conditional: self.driver.conditions() == Conditions::All,
            list: true,
            content_type: true,
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if self.root.len() + key.len() > NAME_BYTES_MAX {
            return Err(StorageError::too_large(format!(
                "names of objects have up to {NAME_BYTES_MAX} bytes, this one has {}",
                self.root.len() + key.len()
            )));
        }
        if is_name(key) {
            return Ok(());
        }
        Err(StorageError::invalid_input(
            "plain keys of an object store are names between slashes, none of them empty, `.` or \
             `..`, without control characters",
        ))
    }

    async fn put(&self, key: &str, write: PlainWrite) -> Result<Version> {
        let path = self.path(key);
        for attempt in 0..ATTEMPTS {
            let tag = self.demand(&path, write.condition).await?;
            let demand = match (&tag, write.condition) {
                (Some(tag), _) => Demand::Same(tag),
                (None, Condition::Always) => Demand::Nothing,
                (None, _) => Demand::Absent,
            };
            let (body, content_type) = (vec![write.value.clone()], write.content_type.clone());
            let written = self.driver.store.put_as(&path, body, content_type, demand).await?;
            match written {
                Some(written) => {
                    let tag = match written.tag {
                        Some(tag) => Some(tag),
                        None => self.see(&path).await?.map(|seen| seen.tag),
                    };
                    // Deleted since, it had some state that no reader will see.
                    return Ok(tag.as_ref().map_or(Version::of_state(0), state_of));
                }
                None if write.condition == Condition::IfAbsent => {
                    return Err(StorageError::precondition_failed(
                        "the key holds an object where none was demanded",
                    ));
                }
                None => pause(attempt).await,
            }
        }
        Err(crowded())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<PlainObject>> {
        let path = self.path(key);
        for attempt in 0..ATTEMPTS {
            let Some(seen) = self.see(&path).await? else { return Ok(None) };
            let range = range.clone().unwrap_or(0..seen.size);
            let range = range.start..range.end.min(seen.size);
            let found = if range.start >= range.end {
                Some(Bytes::new())
            } else {
                let whole = range == (0..seen.size);
                let asked = (!whole).then_some(range);
                match self.driver.store.get(&path, asked, Some(&seen.tag)).await? {
                    Found::Object(fetched) => Some(fetched.bytes),
                    Found::Absent => return Ok(None),
                    Found::Changed => None,
                }
            };
            if let Some(value) = found {
                let version = state_of(&seen.tag);
                let Seen { size, content_type, .. } = seen;
                let expires_at_ms = None;
                return Ok(Some(PlainObject { version, size, expires_at_ms, content_type, value }));
            }
            pause(attempt).await;
        }
        Err(StorageError::conflict("the object changed each time that it was read; try again"))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let path = self.path(key);
        for attempt in 0..ATTEMPTS {
            let Some(seen) = self.see(&path).await? else {
                return condition.require(None).map(|()| false);
            };
            condition.require(Some(state_of(&seen.tag)))?;
            let same = (self.driver.conditions() == Conditions::All).then_some(&seen.tag);
            if self.driver.store.delete(&path, same).await? {
                return Ok(true);
            }
            pause(attempt).await;
        }
        Err(crowded())
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Listed>> {
        let prefix = self.path(&scan.prefix);
        let after = scan.after.as_ref().map(|after| match after {
            After::Key(key) => self.path(key),
            After::Prefix(prefix) => format!("{}{}", self.path(prefix), char::MAX),
        });
        let mut listing = self.driver.store.list(&prefix, after, scan.limit).await?;
        let mut found = Vec::new();
        while found.len() < scan.limit {
            let Some((path, size)) = listing.next().await? else { break };
            let Some(key) = path.strip_prefix(&self.root) else { continue };
            // What others name so that no key of ours can be it is left out.
            if is_name(key) && scan.covers(key) {
                let (key, expiry) = (key.to_owned(), Expiry::Never);
                found.push(Listed { key, size, version: None, expiry });
            }
        }
        Ok(found)
    }

    async fn health_check(&self) -> HealthStatus {
        self.driver.health_check().await
    }
}

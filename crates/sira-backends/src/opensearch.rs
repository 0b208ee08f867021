//! OpenSearch 2 and newer, and Elasticsearch 7.10 and newer, over their REST interface.
//!
//! One index holds a document a record, under the hash of place and key: an `_id` may have 512
//! bytes, a key has up to 1,024. Reads by `_id` are of the newest state. Listings are searches over
//! the field that holds the key, which the engine sorts by its bytes; they see what a refresh has
//! shown, so each one refreshes the index first.
//!
//! # Writes
//!
//! A write without a condition takes one round trip: the record's version goes along as the
//! document's external version, and the engine refuses a smaller one. A write that must not find
//! anything creates the document. All others look first, and then write if the document still has
//! the sequence number that they saw. Such writes count the engine's own version on by one only, so
//! after one, a write without a condition from a process whose clock is behind can store a smaller
//! version than the key held. It is still one write, whole, with a version of its own.
//!
//! # Scale
//!
//! A search engine is made for finding: a document is JSON with the bytes in base64, is indexed
//! again on each write, and takes some milliseconds. It serves where the engine is there anyway.

mod batch;
mod client;
mod connect;
mod document;
mod error;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;
use sira_store::driver::{
    Change, Driver, DriverBackend, DriverProfile, Guard, Held, Listed, Part, Place, Record, Scan,
};
use sira_store::{Condition, HealthStatus, Result, StorageError, StorageStats, Version};

pub use connect::OpenSearchOptions;

use crate::deadline::{Effect, within};
use client::Client;
use document::Name;

/// What the engine is called.
const NAME: &str = "opensearch";

/// Largest body of one document. Base64 makes a third more of it, and it passes through the heap of
/// the server several times.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Tries of a write that others keep overtaking.
const TRIES: u32 = 64;

/// Documents of one answer to a search; the engine allows 10,000.
const HITS_MAX: usize = 5000;

sira_store::named_backend! {
    /// Objects in OpenSearch or Elasticsearch.
    pub struct OpenSearchBackend;
}

impl OpenSearchBackend {
    /// Connects with the defaults; see [`OpenSearchOptions::url`].
    ///
    /// # Errors
    /// As [`OpenSearchDriver::connect`].
    pub async fn new(url: impl Into<String>) -> Result<Self> {
        Self::connect(OpenSearchOptions::new(url)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`OpenSearchDriver::connect`].
    pub async fn connect(options: OpenSearchOptions) -> Result<Self> {
        Ok(DriverBackend::new(OpenSearchDriver::connect(options).await?).into())
    }
}

/// Objects in Elasticsearch, which takes the same requests.
pub type ElasticsearchBackend = OpenSearchBackend;

/// Records in an index of OpenSearch.
#[derive(Debug, Clone)]
pub struct OpenSearchDriver {
    client: Arc<Client>,
    timeout: Duration,
}

/// A document that a write looked at.
#[derive(Debug, Clone, Copy)]
struct Seen {
    held: Held,
    sequence: u64,
    term: u64,
}

impl OpenSearchDriver {
    async fn look(&self, name: &Name) -> Result<Option<Seen>> {
        let query = "_source_includes=v,x";
        let answer = self.client.document(Method::GET, name, query, None, Effect::Read).await?;
        let Some(found) = document::found(&answer)? else { return Ok(None) };
        Ok(Some(Seen { held: found.held()?, sequence: found.sequence, term: found.term }))
    }

    async fn put_record(&self, name: &Name, mut record: Record, guard: Guard) -> Result<Version> {
        let created = match guard.condition {
            Condition::Always if guard.is_blind() => self.write_newer(name, &record).await?,
            Condition::IfAbsent => self.write(name, &record, "op_type=create").await?,
            _ => false,
        };
        if created {
            return Ok(record.version);
        }
        for attempt in 0..TRIES {
            let seen = self.look(name).await?;
            record.version = guard.admit(seen.map(|seen| seen.held), record.version)?;
            let condition = match seen {
                Some(seen) => seen.unchanged(),
                None => "op_type=create".to_owned(),
            };
            if self.write(name, &record, &condition).await? {
                return Ok(record.version);
            }
            pause(attempt).await;
        }
        Err(overtaken())
    }

    /// Writes a record over an older one, or where none is.
    async fn write_newer(&self, name: &Name, record: &Record) -> Result<bool> {
        match document::external_version(record.version) {
            Some(version) => {
                let condition = format!("version={version}&version_type=external");
                self.write(name, record, &condition).await
            }
            None => Ok(false),
        }
    }

    /// Writes a record if the engine's condition holds, and says whether it did.
    async fn write(&self, name: &Name, record: &Record, condition: &str) -> Result<bool> {
        let body = Some(document::of_record(name, record));
        let query = format!("require_alias=true&{condition}");
        let answer = self.client.document(Method::PUT, name, &query, body, Effect::Write).await?;
        Ok(!answer.is_conflict())
    }

    async fn remove_record(&self, name: &Name, guard: Guard) -> Result<bool> {
        for attempt in 0..TRIES {
            let seen = self.look(name).await?;
            let live = guard.admit_removal(seen.map(|seen| seen.held))?;
            let Some(seen) = seen else { return Ok(false) };
            let condition = seen.unchanged();
            let answer =
                self.client.document(Method::DELETE, name, &condition, None, Effect::Write);
            if !answer.await?.is_conflict() {
                return Ok(live);
            }
            pause(attempt).await;
        }
        Err(overtaken())
    }

    async fn read(&self, name: &Name, part: &Part) -> Result<Option<Record>> {
        let query = match part {
            Part::Head => "_source_excludes=b",
            Part::Whole | Part::Range(_) => "",
        };
        let answer = self.client.document(Method::GET, name, query, None, Effect::Read).await?;
        document::found(&answer)?.map(|found| found.record(part)).transpose()
    }

    /// Pages of a search, until there are as many keys as asked for or no more.
    async fn search(&self, place: &Place, scan: &Scan) -> Result<Vec<Listed>> {
        self.client.index(Method::POST, "_refresh", None, Effect::Read).await?;
        let mut listed: Vec<Listed> = Vec::new();
        while listed.len() < scan.limit {
            let size = (scan.limit - listed.len()).min(HITS_MAX);
            let after = listed.last().map(|last| last.key.as_str());
            let query = document::search(place, scan, after, size);
            let answer = self.client.index(Method::POST, "_search", Some(query), Effect::Read);
            let page = document::listed(&answer.await?, place)?;
            let is_last = page.len() < size;
            listed.extend(page);
            if is_last {
                break;
            }
        }
        Ok(listed)
    }

    async fn find_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        for keys in keys.chunks(batch::KEYS_PER_GET) {
            let names: Vec<Name> = keys.iter().map(|key| Name::of(place, key)).collect();
            records.extend(batch::get(&self.client, &names).await?);
        }
        Ok(records)
    }

    async fn collect(&self, now_ms: u64, limit: usize) -> Result<u64> {
        self.client.index(Method::POST, "_refresh", None, Effect::Read).await?;
        let path = format!("_delete_by_query?conflicts=proceed&max_docs={limit}");
        let now_ms = crate::signed::clamp(now_ms);
        let query = json!({ "query": { "range": { "x": { "lte": now_ms } } } });
        let query = Some(query.to_string().into_bytes());
        let answer = self.client.index(Method::POST, &path, query, Effect::Write).await?;
        Ok(answer.json()?.get("deleted").and_then(serde_json::Value::as_u64).unwrap_or(0))
    }

    async fn figures(&self) -> Result<StorageStats> {
        let index = self.client.index(Method::GET, "_stats/docs,store", None, Effect::Read).await?;
        let disk = "_nodes/stats/fs?filter_path=nodes.*.fs.total.available_in_bytes";
        let disk = self.client.root(Method::GET, disk, None, Effect::Read).await?;
        Ok(document::stats(&index.json()?, &disk.json()?))
    }

    async fn health(&self) -> Result<HealthStatus> {
        let path = format!("_cluster/health/{}", self.client.index_name());
        let answer = self.client.root(Method::GET, &path, None, Effect::Read).await?.json()?;
        let status = answer.get("status").and_then(serde_json::Value::as_str).unwrap_or_default();
        Ok(match status {
            "green" => HealthStatus::Healthy,
            "yellow" => HealthStatus::Warning("the index lacks some of its replicas".to_owned()),
            _ => HealthStatus::Critical("the index lacks a part of its data".to_owned()),
        })
    }
}

impl Seen {
    /// The engine's condition that the document is as it was seen.
    fn unchanged(&self) -> String {
        format!("if_seq_no={}&if_primary_term={}", self.sequence, self.term)
    }
}

#[async_trait]
impl Driver for OpenSearchDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: NAME,
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: false,
            atomic_batch: false,
            commit_changes_max: 0,
            body_bytes_max: BODY_BYTES_MAX,
            value_bytes_max: sira_store::limits::STREAM_VALUE_BYTES_MAX,
        }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let name = Name::of(place, key);
        within(self.timeout, Effect::Write, NAME, self.put_record(&name, record, guard)).await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let name = Name::of(place, key);
        within(self.timeout, Effect::Read, NAME, self.read(&name, &part)).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let name = Name::of(place, key);
        within(self.timeout, Effect::Write, NAME, self.remove_record(&name, guard)).await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        within(self.timeout, Effect::Read, NAME, self.search(place, &scan)).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        within(self.timeout, Effect::Read, NAME, self.find_many(place, keys)).await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        batch::apply(self, place, changes).await
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        within(self.timeout, Effect::Write, NAME, self.collect(now_ms, limit)).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        within(self.timeout, Effect::Read, NAME, self.figures()).await
    }

    async fn health_check(&self) -> HealthStatus {
        within(self.timeout, Effect::Read, NAME, self.health())
            .await
            .unwrap_or_else(|error| HealthStatus::Critical(error.to_string()))
    }
}

/// Lets others finish, the longer the more often they were faster.
async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)))).await;
}

fn overtaken() -> StorageError {
    StorageError::conflict(
        "other writers of this key were faster each time; try again with fewer of them",
    )
}

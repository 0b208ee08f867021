//! MongoDB 4.4 and newer, and what speaks its protocol.
//!
//! One collection holds a document a record. Its `_id` is text whose order is that of the keys'
//! bytes, so that listings are ranges of the one index that is always there. A write is one
//! `update` that names in its filter what may be replaced: a smaller version, and what the guard
//! demands. If nothing matches, an upsert runs into the document that is in the way, and what that
//! holds decides whether to refuse or to try again with a greater version. So a write takes one
//! round trip unless it has lost, and needs neither transactions nor sessions.
//!
//! Writes are answered by a majority of the replica set and reads see what a majority has, unless
//! the URL says otherwise. Documents expire by an index of their own, an hour late: until then reads
//! look at the time themselves.

mod batch;
mod connect;
mod document;
mod error;
mod filter;

use std::time::Duration;

use ::mongodb::bson::{Document, RawDocumentBuf, doc};
use ::mongodb::options::ReadConcern;
use ::mongodb::{Client, Collection, Database};
use async_trait::async_trait;
use sira_store::driver::{
    Change, Driver, DriverBackend, DriverProfile, Expiry, Guard, Held, Listed, Part, Place, Record,
    Scan,
};
use sira_store::{HealthStatus, Result, StorageError, StorageStats, Version};

pub use connect::MongoOptions;

use crate::deadline::{Effect, within};
use document::Keys;

/// What the engine is called.
const NAME: &str = "mongodb";

/// Largest body of one document. The engine takes documents of 16 MiB, of which the envelope and a
/// replica set's own log of the write need a part.
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Tries of a write that others keep overtaking.
const TRIES: u32 = 64;

/// Keys that one `find` names.
const KEYS_PER_FIND: usize = 1000;

sira_store::named_backend! {
    /// Objects in MongoDB.
    pub struct MongoBackend;
}

impl MongoBackend {
    /// Connects with the defaults; see [`MongoOptions::url`].
    ///
    /// # Errors
    /// As [`MongoDriver::connect`].
    pub async fn new(url: impl Into<String>) -> Result<Self> {
        Self::connect(MongoOptions::new(url)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`MongoDriver::connect`].
    pub async fn connect(options: MongoOptions) -> Result<Self> {
        Ok(DriverBackend::new(MongoDriver::connect(options).await?).into())
    }
}

/// Records in a collection of MongoDB.
#[derive(Debug, Clone)]
pub struct MongoDriver {
    client: Client,
    database: Database,
    records: Collection<RawDocumentBuf>,
    timeout: Duration,
}

impl MongoDriver {
    /// Ends the connections. Operations after this fail.
    pub async fn close(self) {
        self.client.shutdown().await;
    }

    /// Runs `work` within the time that an operation has.
    async fn within<T>(
        &self,
        effect: Effect,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        within(self.timeout, effect, NAME, work).await
    }

    /// What a guard looks at: the newest state, also if no majority has it yet.
    async fn held(&self, id: &str) -> Result<Option<Held>> {
        let found = self
            .records
            .find_one(doc! { "_id": id })
            .projection(doc! { "v": 1, "x": 1 })
            .read_concern(ReadConcern::local())
            .await
            .map_err(|error| error::of(error, Effect::Read))?;
        found.map(|found| document::held(&found)).transpose()
    }

    async fn put_record(&self, id: &str, mut record: Record, guard: Guard) -> Result<Version> {
        record.version = filter::first_version(record.version, &guard);
        for attempt in 0..TRIES {
            let replacement = document::of_record(id, &record)?;
            if self.replace(filter::put(id, record.version, &guard), replacement).await? {
                return Ok(record.version);
            }
            let held = self.held(id).await?;
            record.version = guard.admit(held, record.version)?;
            pause(attempt).await;
        }
        Err(overtaken())
    }

    /// Replaces the document that matches, or adds one where the filter allows it, and says whether
    /// that was done.
    async fn replace(&self, filter: filter::Put, replacement: RawDocumentBuf) -> Result<bool> {
        let answer =
            self.records.replace_one(filter.query, replacement).upsert(filter.upsert).await;
        match answer {
            Ok(done) => Ok(done.matched_count > 0 || done.upserted_id.is_some()),
            Err(failed) if error::is_duplicate(&failed) => Ok(false),
            Err(failed) => Err(error::of(failed, Effect::Write)),
        }
    }

    async fn remove_record(&self, id: &str, guard: Guard) -> Result<bool> {
        for attempt in 0..TRIES {
            let removed = self
                .records
                .find_one_and_delete(filter::remove(id, &guard))
                .projection(doc! { "v": 1, "x": 1 })
                .await
                .map_err(|error| error::of(error, Effect::Write))?;
            if let Some(removed) = removed {
                return Ok(document::held(&removed)?.lives(guard.now_ms));
            }
            let held = self.held(id).await?;
            guard.admit_removal(held)?;
            if held.is_none() {
                return Ok(false);
            }
            pause(attempt).await;
        }
        Err(overtaken())
    }

    async fn find_page(&self, keys: &Keys, scan: &Scan) -> Result<Vec<Listed>> {
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
        let mut cursor = self
            .records
            .find(doc! { "_id": keys.range(scan) })
            .projection(doc! { "v": 1, "x": 1, "s": 1 })
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await
            .map_err(|error| error::of(error, Effect::Read))?;
        let mut listed = Vec::new();
        while cursor.advance().await.map_err(|error| error::of(error, Effect::Read))? {
            let found = cursor.current();
            let held = document::held(found)?;
            listed.push(Listed {
                key: keys.key(document::id(found)?)?,
                size: document::size(found)?,
                version: Some(held.version),
                expiry: Expiry::from(held.expires_at_ms),
            });
        }
        Ok(listed)
    }

    async fn find_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let place = Keys::of(place);
        let ids: Vec<String> = keys.iter().map(|key| place.id(key)).collect();
        let mut order: Vec<(&str, usize)> =
            ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        order.sort_unstable();
        let mut records = vec![None; keys.len()];
        for ids in ids.chunks(KEYS_PER_FIND) {
            let mut cursor = self
                .records
                .find(doc! { "_id": { "$in": ids } })
                .await
                .map_err(|error| error::of(error, Effect::Read))?;
            while cursor.advance().await.map_err(|error| error::of(error, Effect::Read))? {
                let found = cursor.current();
                let id = document::id(found)?;
                let at = order.binary_search_by_key(&id, |(id, _)| id).ok();
                let slot = at.and_then(|at| order.get(at)).and_then(|(_, at)| records.get_mut(*at));
                if let Some(slot) = slot {
                    *slot = Some(document::record(found.to_owned(), &Part::Whole)?);
                }
            }
        }
        Ok(records)
    }

    async fn command(&self, command: Document) -> Result<Document> {
        self.database.run_command(command).await.map_err(|error| error::of(error, Effect::Read))
    }
}

#[async_trait]
impl Driver for MongoDriver {
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
        let id = Keys::of(place).id(key);
        self.within(Effect::Write, self.put_record(&id, record, guard)).await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let mut find = self.records.find_one(doc! { "_id": Keys::of(place).id(key) });
        if part == Part::Head {
            find = find.projection(doc! { "b": 0 });
        }
        let found = async { find.await.map_err(|error| error::of(error, Effect::Read)) };
        let found = self.within(Effect::Read, found).await?;
        found.map(|found| document::record(found, &part)).transpose()
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let id = Keys::of(place).id(key);
        self.within(Effect::Write, self.remove_record(&id, guard)).await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        self.within(Effect::Read, self.find_page(&Keys::of(place), &scan)).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        self.within(Effect::Read, self.find_many(place, keys)).await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        batch::apply(self, place, changes).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        let of_records = self.command(doc! { "collStats": self.records.name() });
        let of_records = self.within(Effect::Read, of_records).await?;
        let of_disk = self.within(Effect::Read, self.command(doc! { "dbStats": 1 })).await?;
        Ok(document::stats(&of_records, &of_disk))
    }

    async fn health_check(&self) -> HealthStatus {
        match self.within(Effect::Read, self.command(doc! { "ping": 1 })).await {
            Ok(_) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }
}

/// Lets others finish, the longer the more often they were faster.
async fn pause(attempt: u32) {
    if attempt < 4 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)))).await;
    }
}

fn overtaken() -> StorageError {
    StorageError::conflict(
        "other writers of this key were faster each time; try again with fewer of them",
    )
}

//! Cassandra 4 and newer, and ScyllaDB.
//!
//! # Layout
//!
//! One table. A partition is one bucket of a namespace, its rows are keys in byte order: a key is in
//! the bucket that its hash names. So the keys of a namespace spread over the cluster, and a listing
//! merges as many sorted partitions as there are buckets. The number of buckets is chosen when the
//! table is made and stays; see [`CassandraOptions::buckets`].
//!
//! # Writes are lightweight transactions
//!
//! Every write to an object is a compare-and-set (`IF`), also one without a condition. Cassandra
//! resolves plain writes by timestamps of clocks that differ, and transactions by ballots: a plain
//! write that follows a transaction may carry the smaller timestamp, is acknowledged, and never
//! seen. A key that is only ever written by transactions has one order of its writes, which is what
//! conditions, growing versions and removals that tell what was there need. It costs: a transaction
//! takes three to four round trips between the replicas where a plain write takes one, and
//! transactions of one bucket wait for each other. A transaction that loses against another of the
//! same partition backs off for milliseconds, so those of one process are lined up before they are
//! sent.
//!
//! Chunks of large values are written once under a name that nobody else uses, so plain writes do
//! for them.
//!
//! A transaction whose answer was lost is looked up by a serial read, which finishes whatever was
//! begun: if its version is there, it was made; if not, the error says that it is unknown.
//!
//! ScyllaDB refuses transactions in keyspaces with tablets up to version 2025.3: make such a keyspace
//! by hand, with `tablets = {'enabled': false}`.

mod connect;
mod error;
mod outcome;
mod scan;
mod schema;
mod statements;
mod write;

use std::sync::Arc;
use std::time::Duration;

use ::scylla::client::session::Session;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sira_store::driver::{
    Area, Change, Driver, DriverBackend, DriverProfile, Guard, Listed, Part, Place, Record, Scan,
};
use sira_store::{HealthStatus, Result, StorageError, StorageStats, Version};
use tokio::sync::Mutex;

pub use connect::{CassandraConsistency, CassandraOptions, Replication};

use crate::deadline::{Effect, within};
use crate::signed;
use statements::Statements;

/// What the engine is called.
const NAME: &str = "cassandra";

/// Largest body of one row. The engine takes 16 MiB, and works best far below.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Operations of a batch that are under way at once.
const BATCH_AT_ONCE: usize = 64;

/// Lines of transactions that wait for each other.
const LINES: usize = 1024;

/// The expiry of records that never do: greater than any.
const NEVER: i64 = i64::MAX;

sira_store::named_backend! {
    /// Objects in Cassandra or ScyllaDB.
    pub struct CassandraBackend;
}

impl CassandraBackend {
    /// Connects with the defaults; see [`CassandraOptions::nodes`].
    ///
    /// # Errors
    /// As [`CassandraDriver::connect`].
    pub async fn new(nodes: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        Self::connect(CassandraOptions::new(nodes)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`CassandraDriver::connect`].
    pub async fn connect(options: CassandraOptions) -> Result<Self> {
        Ok(DriverBackend::new(CassandraDriver::connect(options).await?).into())
    }
}

/// Records in a table of Cassandra.
#[derive(Debug, Clone)]
pub struct CassandraDriver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    statements: Statements,
    buckets: u32,
    timeout: Duration,
    /// Transactions of one partition, one after the other.
    lines: Vec<Mutex<()>>,
}

/// A row's place, as the table's columns have it.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    namespace: &'a str,
    area: &'static str,
    bucket: i32,
    key: &'a str,
}

impl Inner {
    fn row<'a>(&self, place: &'a Place, key: &'a str) -> Row<'a> {
        let bucket = crc32c::crc32c(key.as_bytes()) % self.buckets;
        Row {
            namespace: &place.namespace,
            area: place.area.code(),
            bucket: bucket.cast_signed(),
            key,
        }
    }

    /// The line of a row's partition.
    fn line(&self, row: &Row<'_>) -> Option<&Mutex<()>> {
        let hash = crc32c::crc32c(row.namespace.as_bytes());
        let hash = crc32c::crc32c_append(hash, &row.bucket.to_le_bytes());
        self.lines.get(hash as usize % self.lines.len().max(1))
    }

    async fn read(&self, row: &Row<'_>, part: &Part) -> Result<Option<Record>> {
        let key = row.key.as_bytes();
        let values = (row.namespace, row.area, row.bucket, key);
        let statement = match part {
            Part::Head => &self.statements.head,
            Part::Whole | Part::Range(_) => &self.statements.whole,
        };
        let answer = self.session.execute_unpaged(statement, values).await;
        let answer = answer
            .map_err(|error| error::of(error, Effect::Read))?
            .into_rows_result()
            .map_err(error::malformed)?;
        if *part == Part::Head {
            let found = answer.maybe_first_row::<(i64, i64, i64, Bytes)>();
            let Some(found) = found.map_err(error::malformed)? else { return Ok(None) };
            return record(found, Bytes::new()).map(Some);
        }
        let found = answer.maybe_first_row::<(i64, i64, i64, Bytes, Bytes)>();
        let Some((version, expires_at, size, envelope, body)) = found.map_err(error::malformed)?
        else {
            return Ok(None);
        };
        let body = match part {
            Part::Range(range) => {
                let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
                body.slice(at(range.start)..at(range.end).max(at(range.start)))
            }
            Part::Head | Part::Whole => body,
        };
        record((version, expires_at, size, envelope), body).map(Some)
    }

    async fn whole(&self, place: &Place, key: &str) -> Result<Option<Record>> {
        self.read(&self.row(place, key), &Part::Whole).await
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let row = self.row(place, key);
        within(self.timeout, Effect::Write, NAME, async {
            if place.area == Area::Chunks && guard.is_blind() {
                return self.insert(&row, record, &guard).await;
            }
            self.put_object(&row, record, guard).await
        })
        .await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let row = self.row(place, key);
        within(self.timeout, Effect::Write, NAME, self.remove_object(&row, guard)).await
    }
}

#[async_trait]
impl Driver for CassandraDriver {
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
        self.inner.put(place, key, record, guard).await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let row = self.inner.row(place, key);
        within(self.inner.timeout, Effect::Read, NAME, self.inner.read(&row, &part)).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        self.inner.remove(place, key, guard).await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        within(self.inner.timeout, Effect::Read, NAME, self.inner.page(place, &scan)).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let reads: Vec<_> = keys.iter().map(|key| self.inner.whole(place, key)).collect();
        let reads = stream::iter(reads).buffered(BATCH_AT_ONCE).try_collect();
        within(self.inner.timeout, Effect::Read, NAME, reads).await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        stream::iter(changes)
            .map(|change| change.apply(self, place))
            .buffered(BATCH_AT_ONCE)
            .collect()
            .await
    }

    async fn stats(&self) -> Result<StorageStats> {
        within(self.inner.timeout, Effect::Read, NAME, self.inner.stats()).await
    }

    async fn health_check(&self) -> HealthStatus {
        let ping = async {
            let answer = self.inner.session.execute_unpaged(&self.inner.statements.ping, ()).await;
            answer.map_err(|error| error::of(error, Effect::Read))
        };
        match within(self.inner.timeout, Effect::Read, NAME, ping).await {
            Ok(_) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }
}

impl Inner {
    /// The estimates that the node which answers keeps for its own share, made some minutes ago.
    async fn stats(&self) -> Result<StorageStats> {
        let answer = self.session.execute_unpaged(&self.statements.estimates, ()).await;
        let answer = answer
            .map_err(|error| error::of(error, Effect::Read))?
            .into_rows_result()
            .map_err(error::malformed)?;
        let mut used_bytes = 0_u64;
        for row in answer.rows::<(i64, i64)>().map_err(error::malformed)? {
            let (mean_bytes, partitions) = row.map_err(error::malformed)?;
            let bytes = u64::try_from(mean_bytes.saturating_mul(partitions)).unwrap_or(0);
            used_bytes = used_bytes.saturating_add(bytes);
        }
        Ok(StorageStats { used_bytes, ..StorageStats::default() })
    }
}

/// The record of a row: version, expiry, size, envelope and body.
fn record(row: (i64, i64, i64, Bytes), body: Bytes) -> Result<Record> {
    let (version, expires_at, size, envelope) = row;
    Ok(Record {
        version: signed::to_version(version),
        expires_at_ms: expiry(expires_at)?,
        size: u64::try_from(size).map_err(error::malformed)?,
        envelope,
        body,
    })
}

/// The expiry that a column holds.
fn expiry(expires_at: i64) -> Result<Option<u64>, StorageError> {
    match expires_at {
        NEVER => Ok(None),
        at => u64::try_from(at).map(Some).map_err(error::malformed),
    }
}

//! Redis, single or as a cluster, and what speaks its protocol and runs its scripts (Valkey).
//!
//! A record is one string; scripts judge the condition of a write from the record's first bytes and
//! make the change as one step, in one round trip. Indexes in byte order are kept beside the values,
//! so that keys can be listed; `layout.rs` has the names.
//!
//! The server's own expiry follows a record's by a minute, and only reclaims memory. A server with a
//! `maxmemory-policy` other than `noeviction` loses objects when it is full; the health check warns.
//! What survives a crash of the server is what its `appendfsync` says.
//!
//! Plain namespaces are strings `PREFIXNAMESPACE:KEY`.

mod error;
mod layout;
mod link;
mod options;
mod plain;
mod reply;
mod scan;
mod script;
mod status;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use redis::Value;
use sira_store::driver::{
    Area, Change, CommitError, Driver, DriverBackend, DriverProfile, Guard, Held, Listed, Part,
    Place, Record, Scan, apply_each,
};
use sira_store::env::{Env, SystemEnv};
use sira_store::plain::PlainDriver;
use sira_store::{HealthStatus, Result, StorageError, StorageStats, Version, limits};

use error::Effect;
use layout::{Layout, Names};
use link::Link;
pub use options::RedisOptions;
use plain::PlainStrings;
use reply::Outcome;
use script::{COLLECT, COMMIT, PUT, RANGE, REMOVE, Request};

/// Largest body of one record: a server is busy with nothing else while it moves one.
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most changes of one script, which keeps the server from other requests while it runs.
const COMMIT_CHANGES_MAX: usize = 1_000;

/// Bytes of a record that a read of its head asks for; most envelopes are smaller.
const HEAD_READ_BYTES: usize = 1024;

/// Times that a write takes a greater version because another writer was faster.
const VERSION_RETRIES: u32 = 64;

/// How much later than a record's expiry the server drops it by itself.
const EXPIRY_SLACK_MS: u64 = 60_000;

/// Longest time to live that the server is told of; what lives longer is removed by
/// [`Driver::collect_expired`] only.
const NATIVE_TTL_MS_MAX: u64 = 100 * 365 * 24 * 3600 * 1000;

sira_store::named_backend! {
    /// Objects in Redis.
    pub struct RedisBackend;
}

impl RedisBackend {
    /// Connects to a single server; see [`RedisOptions::urls`] and [`RedisOptions::prefix`].
    ///
    /// # Errors
    /// As [`RedisDriver::connect`].
    pub async fn new(url: impl Into<String>, prefix: impl Into<String>) -> Result<Self> {
        Self::connect(RedisOptions::new(url, prefix)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`RedisDriver::connect`].
    pub async fn connect(options: RedisOptions) -> Result<Self> {
        Ok(DriverBackend::new(RedisDriver::connect(options).await?).into())
    }
}

/// Records in Redis.
pub struct RedisDriver {
    link: Link,
    layout: Layout,
    options: RedisOptions,
    persistent: bool,
    /// Bucket at which the next collection begins.
    collected: AtomicUsize,
}

impl RedisDriver {
    /// Connects, and prepares the prefix when it is new.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that cannot be, or another number of buckets than
    /// the store has, [`StorageError::Unavailable`] and [`StorageError::Timeout`] when the server
    /// does not answer, [`StorageError::PermissionDenied`] when it refuses the user,
    /// [`StorageError::Unsupported`] for a store that a newer version wrote.
    pub async fn connect(options: RedisOptions) -> Result<Self> {
        let link = Link::connect(&options).await?;
        let buckets = status::describe(&link, &options).await?;
        let persistent = status::is_persistent(&link).await;
        match status::health(&link).await {
            HealthStatus::Healthy => {}
            HealthStatus::Warning(warning) | HealthStatus::Critical(warning) => {
                tracing::warn!(backend = "redis", "{warning}");
            }
        }
        let layout = Layout::new(&options.prefix, buckets);
        Ok(Self { link, layout, options, persistent, collected: AtomicUsize::new(0) })
    }

    /// Writes a record over what it was found not to be newer than, with a greater version, until
    /// the server takes it. `outcome` is the server's first answer.
    async fn insist(
        &self,
        names: Names,
        mut record: Record,
        guard: Guard,
        mut outcome: Outcome,
    ) -> Result<Version> {
        for attempt in 0..VERSION_RETRIES {
            let held = match outcome {
                Outcome::Applied(_) => return Ok(record.version),
                Outcome::Refused(held) => held,
            };
            let version = guard.admit(held, record.version)?;
            if version == record.version && held.is_some_and(|held| held.version >= version) {
                return Err(exhausted());
            }
            record.version = apart(version, &guard, attempt);
            let request = put_request(&names, &record, &guard);
            outcome = reply::outcome(self.link.run(&request, Effect::Write).await?)?;
        }
        match outcome {
            Outcome::Applied(_) => Ok(record.version),
            Outcome::Refused(_) => Err(StorageError::conflict(
                "other writers were faster each time; nothing was written, try again",
            )),
        }
    }

    /// Head and envelope of a record.
    async fn head(&self, names: &Names) -> Result<Option<Record>> {
        let mut len = HEAD_READ_BYTES;
        loop {
            let request = Request::new("GETRANGE", names.slot)
                .arg(&names.value)
                .arg(0)
                .arg(len.saturating_sub(1));
            let bytes = reply::bytes(self.link.run(&request, Effect::Read).await?)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let head = sira_store::driver::RecordHead::decode(&bytes)?;
            if head.body_start() <= bytes.len() || bytes.len() < len {
                return head.into_record(&bytes, bytes::Bytes::new()).map(Some);
            }
            len = head.body_start();
        }
    }

    async fn range(&self, names: &Names, from: u64, to: u64) -> Result<Option<Record>> {
        // Greater numbers would be inexact in the script, and no body is as long.
        let cut = |at: u64| at.min(1 << 48);
        let request = Request::call_on_value(&RANGE, names).arg(cut(from)).arg(cut(to));
        let (prefix, body) = reply::pair(self.link.run(&request, Effect::Read).await?)?;
        if prefix.is_empty() {
            return Ok(None);
        }
        sira_store::driver::RecordHead::decode(&prefix)?.into_record(&prefix, body).map(Some)
    }

    /// One attempt of a commit: `None` when it took effect, else what the keys hold.
    async fn try_commit(
        &self,
        names: &[Names],
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Option<Vec<Option<Held>>>> {
        let mut request = Request::call(&COMMIT, names).arg(now_ms);
        for change in changes {
            request = match change {
                Change::Put { record, guard, .. } => request
                    .record(record)
                    .condition(guard.condition)
                    .arg(native_ttl_ms(record, guard)),
                Change::Remove { guard, .. } => request.arg("").condition(guard.condition).arg(0),
                Change::Check { guard, .. } => request.arg("-").condition(guard.condition).arg(0),
            };
        }
        match self.link.run(&request, Effect::Write).await? {
            Value::Int(_) => Ok(None),
            value => {
                let heads = reply::array(value)?.into_iter();
                let held: Result<Vec<_>> =
                    heads.map(|head| reply::held(&reply::bytes(head)?)).collect();
                held.map(Some)
            }
        }
    }
}

#[async_trait]
impl Driver for RedisDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "redis",
            persistent: self.persistent,
            conditional: true,
            list: true,
            list_sizes: true,
            range: true,
            atomic_batch: !self.link.is_cluster(),
            commit_changes_max: COMMIT_CHANGES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            value_bytes_max: limits::STREAM_VALUE_BYTES_MAX,
        }
    }

    fn writes_in_one_step(&self) -> bool {
        true
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let names = self.layout.names(place, key);
        let request = put_request(&names, &record, &guard);
        let outcome = reply::outcome(self.link.run(&request, Effect::Write).await?)?;
        self.insist(names, record, guard, outcome).await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let names = self.layout.names(place, key);
        match part {
            Part::Head => self.head(&names).await,
            Part::Range(range) => self.range(&names, range.start, range.end).await,
            Part::Whole => {
                let request = Request::new("GET", names.slot).arg(&names.value);
                reply::record(self.link.run(&request, Effect::Read).await?)
            }
        }
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let request = remove_request(&self.layout.names(place, key), &guard);
        let outcome = reply::outcome(self.link.run(&request, Effect::Write).await?)?;
        removed(outcome, &guard)
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        scan::scan(&self.link, &self.layout, place, scan).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let names = keys.iter().map(|key| self.layout.names(place, key));
        let answers = if self.link.is_cluster() {
            let requests = names.map(|names| Request::new("GET", names.slot).arg(&names.value));
            self.link.run_all(requests.collect(), Effect::Read).await
        } else {
            let request =
                names.fold(Request::new("MGET", 0), |request, names| request.arg(names.value));
            let values = reply::array(self.link.run(&request, Effect::Read).await?)?;
            values.into_iter().map(Ok).collect()
        };
        answers.into_iter().map(|answer| reply::record(answer?)).collect()
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        if changes.iter().any(Change::is_check) {
            return apply_each(self, place, changes).await;
        }
        let requests = changes.iter().map(|change| {
            let names = self.layout.names(place, change.key());
            match change {
                Change::Put { record, guard, .. } => put_request(&names, record, guard),
                Change::Remove { guard, .. } | Change::Check { guard, .. } => {
                    remove_request(&names, guard)
                }
            }
        });
        let answers = self.link.run_all(requests.collect(), Effect::Write).await;
        let mut results = Vec::with_capacity(changes.len());
        for (change, answer) in changes.into_iter().zip(answers) {
            let outcome = answer.and_then(reply::outcome);
            results.push(match (change, outcome) {
                (_, Err(error)) => Err(error),
                (Change::Put { key, record, guard }, Ok(outcome)) => {
                    let names = self.layout.names(place, &key);
                    self.insist(names, record, guard, outcome).await.map(Some)
                }
                (Change::Remove { guard, .. } | Change::Check { guard, .. }, Ok(outcome)) => {
                    removed(outcome, &guard).map(|_| None)
                }
            });
        }
        results
    }

    async fn commit(
        &self,
        place: &Place,
        mut changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        if self.link.is_cluster() {
            let message = "a Redis cluster has no atomic batches: keys lie on several nodes";
            return Err(StorageError::unsupported(message).into());
        }
        let Some(now_ms) = changes.iter().map(|change| change.guard().now_ms).max() else {
            return Ok(Vec::new());
        };
        let names: Vec<_> =
            changes.iter().map(|change| self.layout.names(place, change.key())).collect();
        for attempt in 0..VERSION_RETRIES {
            let Some(held) = self.try_commit(&names, &changes, now_ms).await? else {
                return Ok(changes.iter().map(version_of).collect());
            };
            for (index, (change, held)) in changes.iter_mut().zip(held).enumerate() {
                admit(change, held, now_ms, attempt)
                    .map_err(|error| CommitError { index: Some(index), error })?;
            }
        }
        let message = "other writers were faster each time; nothing was written, try again";
        Err(StorageError::conflict(message).into())
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let buckets = self.layout.buckets();
        let begin = self.collected.fetch_add(1, Ordering::Relaxed);
        let mut collected = 0;
        let mut left = limit;
        for bucket in buckets.iter().cycle().skip(begin % buckets.len().max(1)).take(buckets.len())
        {
            for area in [Area::Objects, Area::Chunks] {
                let request = Request::new("ZRANGEBYSCORE", bucket.slot())
                    .arg(bucket.expiries(area))
                    .arg("-inf")
                    .arg(now_ms)
                    .arg("LIMIT")
                    .arg(0)
                    .arg(left);
                let members = reply::array(self.link.run(&request, Effect::Read).await?)?;
                left = left.saturating_sub(members.len());
                let mut requests = Vec::with_capacity(members.len());
                for member in members {
                    let names = bucket.names(area, &reply::bytes(member)?);
                    requests.push(Request::call(&COLLECT, &[names]).arg(now_ms));
                }
                for answer in self.link.run_all(requests, Effect::Write).await {
                    collected += reply::count(answer?)?;
                }
                if left == 0 {
                    return Ok(collected);
                }
            }
        }
        Ok(collected)
    }

    fn plain(self: Arc<Self>, namespace: &str) -> Option<Arc<dyn PlainDriver>> {
        Some(Arc::new(PlainStrings::new(self, namespace)))
    }

    async fn stats(&self) -> Result<StorageStats> {
        status::stats(&self.link, &self.layout).await
    }

    async fn health_check(&self) -> HealthStatus {
        status::health(&self.link).await
    }
}

impl fmt::Debug for RedisDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisDriver").field("options", &self.options).finish_non_exhaustive()
    }
}

fn put_request(names: &Names, record: &Record, guard: &Guard) -> Request {
    Request::call(&PUT, std::slice::from_ref(names))
        .record(record)
        .condition(guard.condition)
        .arg(guard.now_ms)
        .arg(native_ttl_ms(record, guard))
}

fn remove_request(names: &Names, guard: &Guard) -> Request {
    Request::call(&REMOVE, std::slice::from_ref(names)).condition(guard.condition).arg(guard.now_ms)
}

/// Time after which the server drops a record by itself, 0 for never. Told as a length of time, so
/// that the server's clock may be wrong.
fn native_ttl_ms(record: &Record, guard: &Guard) -> u64 {
    let Some(at) = record.expires_at_ms else { return 0 };
    let ttl = at.saturating_sub(guard.now_ms).saturating_add(EXPIRY_SLACK_MS);
    if ttl > NATIVE_TTL_MS_MAX { 0 } else { ttl }
}

fn removed(outcome: Outcome, guard: &Guard) -> Result<bool> {
    match outcome {
        Outcome::Applied(count) => Ok(count > 0),
        Outcome::Refused(held) => match guard.admit_removal(held) {
            Ok(_) => Err(exhausted()),
            Err(error) => Err(error),
        },
    }
}

/// A version that other writers, which saw the same, do not take as well: all but one of them would
/// be refused again.
fn apart(version: Version, guard: &Guard, attempt: u32) -> Version {
    if attempt == 0 || guard.exact {
        return version;
    }
    let spread = (1_u64 << (2 * attempt).min(16)) - 1;
    Version::from_u64(version.as_u64().saturating_add(SystemEnv.random_u64() & spread))
}

/// Judges one change of a commit that was refused, and gives it a greater version where that helps.
fn admit(change: &mut Change, held: Option<Held>, now_ms: u64, attempt: u32) -> Result<()> {
    match change {
        Change::Put { record, guard, .. } => {
            let version = Guard { now_ms, ..*guard }.admit(held, record.version)?;
            record.version = apart(version, guard, attempt);
        }
        Change::Remove { guard, .. } | Change::Check { guard, .. } => {
            Guard { now_ms, ..*guard }.admit_removal(held)?;
        }
    }
    Ok(())
}

fn version_of(change: &Change) -> Option<Version> {
    match change {
        Change::Put { record, .. } => Some(record.version),
        Change::Remove { .. } | Change::Check { .. } => None,
    }
}

/// The error of a key whose versions are used up, or of a server that judges other than we do.
fn exhausted() -> StorageError {
    StorageError::conflict("the key holds a version that no other can follow; remove it first")
}

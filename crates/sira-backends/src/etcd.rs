//! etcd, for small values that several gateways must agree on.
//!
//! A record is two keys, head and body, changed in one transaction that compares the head's bytes on
//! the server: most writes are one round trip. Reads are linearizable. etcd has no expiry that is
//! safe to use here (a lease is a key's own and ends by the leader's clock), so
//! [`Driver::collect_expired`] removes what has expired, by an index of its own.
//!
//! etcd keeps the history of every key until it is compacted: run it with
//! `--auto-compaction-retention`. It is made for some GiB in all.

mod change;
mod commit;
mod error;
mod layout;
mod link;
mod options;
mod patience;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};
use futures_util::{StreamExt, stream};
use sira_store::driver::{
    Area, Change, CommitError, Driver, DriverBackend, DriverProfile, Guard, Listed, Part, Place,
    Record, Scan, apply_each,
};
use sira_store::{HealthStatus, Result, StorageError, StorageStats, Version};

use change::Outcome;
use error::Effect;
use layout::{FORMAT, Names, StoredHead};
use link::Link;
pub use options::EtcdOptions;
use patience::{RETRIES, contended, give_way};

/// Largest body of one record; etcd takes requests of 1.5 MiB unless told otherwise.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Largest value: etcd is no place for larger ones.
const VALUE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most records that are collected in one request.
const COLLECT_ENTRIES: usize = 100;

/// Most changes, and bytes of them, that are sent in one request.
const REQUEST_CHANGES: usize = 100;
const REQUEST_BYTES: usize = 512 * 1024;

/// Requests of one batch that are on their way at once.
const REQUESTS: usize = 4;

/// Most records of one read.
const READ_KEYS: usize = 32;

/// Most heads of one read.
const HEADS: usize = 500;

sira_store::named_backend! {
    /// Objects in etcd.
    pub struct EtcdBackend;
}

impl EtcdBackend {
    /// Connects to a cluster; see [`EtcdOptions::endpoints`] and [`EtcdOptions::prefix`].
    ///
    /// # Errors
    /// As [`EtcdDriver::connect`].
    pub async fn new(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        prefix: impl Into<String>,
    ) -> Result<Self> {
        Self::connect(EtcdOptions::new(endpoints, prefix)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`EtcdDriver::connect`].
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        Ok(DriverBackend::new(EtcdDriver::connect(options).await?).into())
    }
}

/// Records in etcd.
pub struct EtcdDriver {
    link: Link,
    options: EtcdOptions,
}

impl EtcdDriver {
    /// Connects, and prepares the prefix when it is new.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that cannot be, [`StorageError::Unavailable`] and
    /// [`StorageError::Timeout`] when no member answers, [`StorageError::PermissionDenied`] when the
    /// user is refused, [`StorageError::Unsupported`] for a store that a newer version wrote.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let located = |error: StorageError| error.with_backend("etcd");
        let link = Link::connect(&options).await.map_err(located)?;
        let driver = Self { link, options };
        driver.check_format().await.map_err(|error| match error {
            StorageError::Timeout(_) => located(driver.options.unanswered()),
            error => located(error),
        })?;
        Ok(driver)
    }

    async fn check_format(&self) -> Result<()> {
        let key = format!("{}format", self.options.prefix);
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), FORMAT.to_string(), None)])
            .or_else([TxnOp::get(key.clone(), None)]);
        let response = self.link.txn(txn, Effect::Write).await?;
        let Some(TxnOpResponse::Get(found)) = response.op_responses().into_iter().next() else {
            return Ok(());
        };
        let text = found.kvs().first().and_then(|pair| pair.value_str().ok());
        match text.and_then(|text| text.parse::<u64>().ok()) {
            Some(format) if format <= FORMAT => Ok(()),
            Some(format) => Err(StorageError::unsupported(format!(
                "the store under prefix {:?} has layout {format}, and this version knows layouts up \
                 to {FORMAT}: use the version that wrote it, or a newer one",
                self.options.prefix
            ))),
            None => {
                Err(StorageError::corrupt(format!("the key {key:?} in etcd is not this store's")))
            }
        }
    }

    fn names(&self, place: &Place, key: &str) -> Names {
        Names::new(&self.options.prefix, place, key)
    }

    async fn change(&self, txn: Txn) -> Result<Outcome> {
        change::outcome(&self.link.txn(txn, Effect::Write).await?)
    }

    /// Writes a record over what was seen, until no other writer is faster.
    async fn insist_put(
        &self,
        names: &Names,
        mut record: Record,
        guard: Guard,
        mut outcome: Outcome,
    ) -> Result<Version> {
        for attempt in 0..RETRIES {
            let Outcome::Refused(seen) = outcome else { return Ok(record.version) };
            give_way(attempt).await;
            record.version = guard.admit(seen.held, record.version)?;
            outcome = self.change(change::put_over(names, &record, &seen)).await?;
        }
        match outcome {
            Outcome::Refused(_) => Err(contended()),
            _ => Ok(record.version),
        }
    }

    async fn insist_remove(
        &self,
        names: &Names,
        guard: Guard,
        mut outcome: Outcome,
    ) -> Result<bool> {
        for attempt in 0..RETRIES {
            match outcome {
                Outcome::Applied => return Ok(false),
                Outcome::Removed(held) => return Ok(held.is_some_and(|it| it.lives(guard.now_ms))),
                Outcome::Refused(seen) => {
                    guard.admit_removal(seen.held)?;
                    give_way(attempt).await;
                    outcome = self.change(change::remove_seen(names, &seen)).await?;
                }
            }
        }
        Err(contended())
    }

    /// Reads records as of one moment: `revision`, or the present where that is 0. Answers it.
    async fn read(&self, names: &[Names], revision: i64) -> Result<(Vec<Option<Record>>, i64)> {
        let options = || Some(GetOptions::new().with_revision(revision));
        let gets = names.iter().flat_map(|names| {
            [names.head.clone(), names.body.clone()].map(|key| TxnOp::get(key, options()))
        });
        let txn = Txn::new().and_then(gets.collect::<Vec<_>>());
        let response = self.link.txn(txn, Effect::Read).await?;
        let moment = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        let mut values = response.op_responses().into_iter().map(|answer| match answer {
            TxnOpResponse::Get(mut found) => {
                Ok(found.take_kvs().into_iter().next().map(|pair| pair.into_key_value().1))
            }
            _ => Err(unexpected()),
        });
        let mut records = Vec::with_capacity(names.len());
        for _ in names {
            let (Some(head), Some(body)) = (values.next(), values.next()) else {
                return Err(unexpected());
            };
            records.push(match (head?, body?) {
                (None, _) => None,
                (Some(head), Some(body)) => {
                    Some(StoredHead::decode(head)?.with_body(Bytes::from(body))?)
                }
                (Some(_), None) => {
                    return Err(StorageError::corrupt("a head in etcd has no body"));
                }
            });
        }
        Ok((records, if revision == 0 { moment } else { revision }))
    }

    /// Sends the first transaction of several changes as one request.
    async fn try_all(&self, txns: Vec<Txn>) -> Vec<Result<Outcome>> {
        let count = txns.len();
        let ops: Vec<_> = txns.into_iter().map(TxnOp::txn).collect();
        match self.link.txn(Txn::new().and_then(ops), Effect::Write).await {
            Ok(response) => {
                let answers = response.op_responses().into_iter().map(|answer| match answer {
                    TxnOpResponse::Txn(response) => change::outcome(&response),
                    _ => Err(unexpected()),
                });
                let missing = std::iter::repeat_with(|| Err(unexpected()));
                answers.chain(missing).take(count).collect()
            }
            Err(error) => {
                let again = |error: &StorageError| {
                    StorageError::unavailable(error.to_string()).with_retry(error.retry())
                };
                let copies: Vec<_> = (1..count).map(|_| Err(again(&error))).collect();
                std::iter::once(Err(error)).chain(copies).take(count).collect()
            }
        }
    }

    /// Removes what has expired of these entries of the index, and the entries.
    async fn collect(&self, area: Area, now_ms: u64, entries: Vec<KeyValue>) -> Result<u64> {
        let root = layout::root(&self.options.prefix, area, 'x');
        let mut expired = Vec::with_capacity(entries.len());
        for entry in entries {
            let (key, _) = entry.into_key_value();
            let rest = key.strip_prefix(root.as_bytes()).and_then(layout::split_expiry);
            if let Some((_, member)) = rest {
                let names = Names::of_member(&self.options.prefix, area, member.to_vec());
                expired.push((key, names));
            }
        }
        let names: Vec<_> = expired.iter().map(|(_, names)| names.clone()).collect();
        let (seen, _) = self.look(&names).await?;
        let txns = expired.into_iter().zip(seen).map(|((entry, names), seen)| {
            let entry = TxnOp::delete(entry, None);
            if seen.held.is_some_and(|held| !held.lives(now_ms)) {
                let mut ops = change::removals(&names);
                ops.push(entry);
                Txn::new().when([change::unchanged(&names, &seen)]).and_then(ops)
            } else {
                Txn::new().and_then([entry])
            }
        });
        let ops: Vec<_> = txns.map(TxnOp::txn).collect();
        let response = self.link.txn(Txn::new().and_then(ops), Effect::Write).await?;
        let removed = response.op_responses().into_iter().filter(|answer| match answer {
            TxnOpResponse::Txn(response) => {
                response.succeeded() && response.op_responses().len() > 1
            }
            _ => false,
        });
        Ok(removed.count() as u64)
    }
}

#[async_trait]
impl Driver for EtcdDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "etcd",
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: false,
            atomic_batch: true,
            commit_changes_max: commit::CHANGES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let names = self.names(place, key);
        let outcome = self.change(change::put(&names, &record, &guard)).await?;
        self.insist_put(&names, record, guard, outcome).await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let names = self.names(place, key);
        if part == Part::Head {
            let mut found = self.link.get(&names.head, GetOptions::new()).await?;
            let head = found.take_kvs().into_iter().next();
            return head
                .map(|head| StoredHead::decode(head.into_key_value().1)?.without_body())
                .transpose();
        }
        let (records, _) = self.read(&[names], 0).await?;
        let mut record = records.into_iter().next().flatten();
        if let (Part::Range(range), Some(record)) = (part, &mut record) {
            let len = record.body.len();
            let cut = |at: u64| usize::try_from(at).unwrap_or(len).min(len);
            let begin = cut(range.start);
            record.body = record.body.slice(begin..cut(range.end).max(begin));
        }
        Ok(record)
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let names = self.names(place, key);
        let outcome = self.change(change::remove(&names, &guard)).await?;
        self.insist_remove(&names, guard, outcome).await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let root = layout::root(&self.options.prefix, place.area, 'h') + &place.namespace + "/";
        let begin = [root.as_bytes(), scan.prefix.as_bytes()].concat();
        // No UTF-8 text holds the byte 0xFF.
        let end = [&begin[..], b"\xFF"].concat();
        let after = scan.after.as_ref().map(|after| [root.as_bytes(), &after.to_bytes()].concat());
        let mut from = match after {
            Some(after) if after >= begin => next(&after),
            _ => begin,
        };
        let mut listed = Vec::new();
        while listed.len() < scan.limit && from < end {
            let page = (scan.limit - listed.len()).min(HEADS);
            let options = GetOptions::new().with_range(end.clone()).with_limit(page as i64);
            let mut found = self.link.get(&from, options).await?;
            let more = found.more();
            for pair in found.take_kvs() {
                let (name, value) = pair.into_key_value();
                let head = StoredHead::decode(value)?.head;
                listed.push(Listed {
                    key: key_of(&name, &root)?,
                    size: head.size,
                    version: Some(head.version),
                    expiry: head.expires_at_ms.into(),
                });
                from = next(&name);
            }
            if !more {
                break;
            }
        }
        Ok(listed)
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        let mut revision = 0;
        for keys in keys.chunks(READ_KEYS) {
            let names: Vec<_> = keys.iter().map(|key| self.names(place, key)).collect();
            let (found, moment) = self.read(&names, revision).await?;
            records.extend(found);
            revision = moment;
        }
        Ok(records)
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        if changes.iter().any(Change::is_check) {
            return apply_each(self, place, changes).await;
        }
        let names: Vec<_> = changes.iter().map(|change| self.names(place, change.key())).collect();
        let mut requests = vec![Vec::new()];
        let mut bytes = 0;
        for (change, names) in changes.iter().zip(&names) {
            let (txn, size) = match change {
                Change::Put { record, guard, .. } => (
                    change::put(names, record, guard),
                    2 * (record.envelope.len() + record.body.len() + names.head.len()),
                ),
                Change::Remove { guard, .. } | Change::Check { guard, .. } => {
                    (change::remove(names, guard), names.head.len())
                }
            };
            let full = requests.last().is_none_or(|txns| txns.len() == REQUEST_CHANGES);
            if full || (bytes + size > REQUEST_BYTES && bytes > 0) {
                requests.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            if let Some(txns) = requests.last_mut() {
                txns.push(txn);
            }
        }
        let requests: Vec<_> = requests.into_iter().map(|txns| self.try_all(txns)).collect();
        let outcomes: Vec<_> = stream::iter(requests).buffered(REQUESTS).collect().await;
        let mut results = Vec::with_capacity(changes.len());
        for ((change, names), outcome) in
            changes.into_iter().zip(names).zip(outcomes.into_iter().flatten())
        {
            results.push(match (change, outcome) {
                (_, Err(error)) => Err(error),
                (Change::Put { record, guard, .. }, Ok(outcome)) => {
                    self.insist_put(&names, record, guard, outcome).await.map(Some)
                }
                (Change::Remove { guard, .. } | Change::Check { guard, .. }, Ok(outcome)) => {
                    self.insist_remove(&names, guard, outcome).await.map(|_| None)
                }
            });
        }
        results
    }

    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        self.commit_all(place, changes).await
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let mut collected = 0;
        let mut left = limit;
        for area in [Area::Objects, Area::Chunks] {
            let root = layout::root(&self.options.prefix, area, 'x');
            let end = format!("{root}{:016x}", now_ms.saturating_add(1));
            while left > 0 {
                let page = left.min(COLLECT_ENTRIES);
                let options = GetOptions::new()
                    .with_range(end.clone())
                    .with_limit(page as i64)
                    .with_keys_only();
                let mut found = self.link.get(root.as_bytes(), options).await?;
                let entries = found.take_kvs();
                if entries.is_empty() {
                    break;
                }
                left -= entries.len().min(left);
                collected += self.collect(area, now_ms, entries).await?;
                if !found.more() {
                    break;
                }
            }
        }
        Ok(collected)
    }

    async fn stats(&self) -> Result<StorageStats> {
        let root = layout::root(&self.options.prefix, Area::Objects, 'h');
        let count = GetOptions::new().with_prefix().with_count_only();
        let keys = self.link.get(root.as_bytes(), count).await?.count();
        let status = self.link.status().await?;
        let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
        let (used, in_use) = (bytes(status.db_size()), bytes(status.raft_used_db_size()));
        let quota = bytes(status.db_size_quota());
        Ok(StorageStats {
            keys: bytes(keys),
            used_bytes: used,
            dead_bytes: used.saturating_sub(in_use),
            available_bytes: (quota > 0).then(|| quota.saturating_sub(in_use)),
            ..StorageStats::default()
        })
    }

    async fn health_check(&self) -> HealthStatus {
        // A linearizable read is answered only while most members agree.
        let key = format!("{}format", self.options.prefix);
        if let Err(error) = self.link.get(key.as_bytes(), GetOptions::new()).await {
            return HealthStatus::Critical(error.to_string());
        }
        match self.link.status().await {
            Ok(status) if !status.errors().is_empty() => {
                HealthStatus::Warning(format!("etcd has alarms: {}", status.errors().join(", ")))
            }
            _ => HealthStatus::Healthy,
        }
    }
}

impl fmt::Debug for EtcdDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdDriver").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The first key after this one.
fn next(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

fn key_of(name: &[u8], root: &str) -> Result<String> {
    let name = std::str::from_utf8(name).ok();
    let key = name.and_then(|name| name.strip_prefix(root));
    key.map(str::to_owned)
        .ok_or_else(|| StorageError::corrupt("a key of the store's prefix in etcd is not UTF-8"))
}

fn unexpected() -> StorageError {
    StorageError::io("etcd answered a transaction with something else than was asked for")
}

//! A driver that keeps encoded records in a map.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::driver::{
    Area, Change, CommitError, Driver, DriverProfile, Expiry, Guard, Listed, Part, Place, Record,
    Scan,
};
use sira_store::env::SeededRandom;
use sira_store::{HealthStatus, Result, Version};

/// What the driver can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) body_bytes_max: u64,
    pub(crate) atomic: bool,
    pub(crate) range: bool,
    /// A scan tells expiry only by the parity of the length.
    pub(crate) expiry_unknown: bool,
    /// Seed of the pauses before and after each call; `None` pauses once before.
    pub(crate) pauses: Option<u64>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 30,
            atomic: true,
            range: true,
            expiry_unknown: false,
            pauses: None,
        }
    }
}

type Key = (Area, Arc<str>, String);
type Interruption = Pin<Box<dyn Future<Output = ()> + Send>>;
type Hook = Box<dyn FnOnce() -> Interruption + Send>;

/// Clones share the records, as processes share a server.
#[derive(Clone)]
pub(crate) struct MemoryDriver {
    kind: Kind,
    records: Arc<Mutex<BTreeMap<Key, Bytes>>>,
    before_chunk_read: Arc<Mutex<Option<Hook>>>,
    random: Arc<Mutex<SeededRandom>>,
}

impl fmt::Debug for MemoryDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDriver").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn key(place: &Place, key: &str) -> Key {
    (place.area, Arc::clone(&place.namespace), key.to_owned())
}

fn put(map: &mut BTreeMap<Key, Bytes>, key: Key, record: Record, guard: Guard) -> Result<Version> {
    let held = map.get(&key).map(Record::decode).transpose()?;
    let version = guard.admit(held.map(|held| held.held()), record.version)?;
    map.insert(key, Record { version, ..record }.encode());
    Ok(version)
}

fn remove(map: &mut BTreeMap<Key, Bytes>, key: &Key, guard: Guard) -> Result<bool> {
    let held = map.get(key).map(Record::decode).transpose()?;
    let live = guard.admit_removal(held.map(|held| held.held()))?;
    map.remove(key);
    Ok(live)
}

impl MemoryDriver {
    pub(crate) fn new(kind: Kind) -> Self {
        let random = Arc::new(Mutex::new(SeededRandom::new(kind.pauses.unwrap_or(0))));
        Self { kind, records: Arc::default(), before_chunk_read: Arc::default(), random }
    }

    /// The way to the engine or back.
    async fn pause(&self) {
        let steps = self.kind.pauses.map_or(1, |_| self.random.lock().next_u64() % 6);
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
    }

    /// Keys of an area, in all namespaces.
    pub(crate) fn keys(&self, area: Area) -> Vec<String> {
        let records = self.records.lock();
        records.keys().filter(|key| key.0 == area).map(|key| key.2.clone()).collect()
    }

    /// Runs before the next read of a chunk.
    pub(crate) fn before_chunk_read(&self, hook: impl FnOnce() -> Interruption + Send + 'static) {
        *self.before_chunk_read.lock() = Some(Box::new(hook));
    }

    /// Loses an object's record.
    pub(crate) fn forget(&self, name: &str) {
        self.records.lock().retain(|key, _| key.0 != Area::Objects || key.2 != name);
    }

    /// Flips a bit of the record that holds these bytes.
    pub(crate) fn flip_bit(&self, of: &[u8]) {
        for bytes in self.records.lock().values_mut() {
            if let Some(at) = bytes.windows(of.len()).position(|window| window == of) {
                let mut rotten = bytes.to_vec();
                rotten[at] ^= 1;
                *bytes = rotten.into();
                return;
            }
        }
        panic!("no record holds the bytes");
    }
}

#[async_trait]
impl Driver for MemoryDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "map",
            persistent: false,
            conditional: true,
            list: true,
            list_sizes: true,
            range: self.kind.range,
            atomic_batch: self.kind.atomic,
            commit_changes_max: usize::MAX,
            body_bytes_max: self.kind.body_bytes_max,
            value_bytes_max: 1 << 30,
        }
    }

    async fn put(
        &self,
        place: &Place,
        name: &str,
        record: Record,
        guard: Guard,
    ) -> Result<Version> {
        self.pause().await;
        let result = put(&mut self.records.lock(), key(place, name), record, guard);
        self.pause().await;
        result
    }

    async fn get(&self, place: &Place, name: &str, part: Part) -> Result<Option<Record>> {
        self.pause().await;
        let hook = match place.area {
            Area::Chunks => self.before_chunk_read.lock().take(),
            Area::Objects => None,
        };
        if let Some(hook) = hook {
            hook().await;
        }
        let bytes = self.records.lock().get(&key(place, name)).cloned();
        self.pause().await;
        let Some(record) = bytes.map(|bytes| Record::decode(&bytes)).transpose()? else {
            return Ok(None);
        };
        let body = match part {
            Part::Head => Bytes::new(),
            Part::Whole => record.body.clone(),
            Part::Range(range) => {
                let end = range.end.min(record.body.len() as u64) as usize;
                record.body.slice((range.start as usize).min(end)..end)
            }
        };
        Ok(Some(Record { body, ..record }))
    }

    async fn remove(&self, place: &Place, name: &str, guard: Guard) -> Result<bool> {
        self.pause().await;
        let result = remove(&mut self.records.lock(), &key(place, name), guard);
        self.pause().await;
        result
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let records = self.records.lock();
        let mut found = Vec::new();
        for ((area, namespace, name), bytes) in records.iter() {
            let here = *area == place.area && *namespace == place.namespace;
            let after = scan.after.as_ref().is_none_or(|after| after.precedes(name));
            if !here || !after || !name.starts_with(&scan.prefix) {
                continue;
            }
            let record = Record::decode(bytes)?;
            let expiry = match self.kind.expiry_unknown && bytes.len() % 2 == 1 {
                true => Expiry::Unknown,
                false => record.expires_at_ms.into(),
            };
            let version = Some(record.version);
            found.push(Listed { key: name.clone(), size: record.size, version, expiry });
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.truncate(scan.limit);
        Ok(found)
    }

    async fn get_many(&self, place: &Place, names: &[String]) -> Result<Vec<Option<Record>>> {
        self.pause().await;
        let records = self.records.lock();
        let find = |name: &String| records.get(&key(place, name)).map(Record::decode).transpose();
        names.iter().map(find).collect()
    }

    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        self.pause().await;
        let mut records = self.records.lock();
        let mut next = records.clone();
        let mut versions = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            let name = key(place, change.key());
            let made = match change {
                Change::Put { record, guard, .. } => put(&mut next, name, record, guard).map(Some),
                Change::Remove { guard, .. } => remove(&mut next, &name, guard).map(|_| None),
                Change::Check { guard, .. } => {
                    let held = next.get(&name).map(Record::decode).transpose();
                    let held = held.map(|held| held.map(|held| held.held()));
                    held.and_then(|held| guard.admit_removal(held)).map(|_| None)
                }
            };
            versions.push(made.map_err(|error| CommitError { index: Some(index), error })?);
        }
        *records = next;
        Ok(versions)
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let mut records = self.records.lock();
        let mut expired = Vec::new();
        for (key, bytes) in records.iter() {
            if !Record::decode(bytes)?.held().lives(now_ms) {
                expired.push(key.clone());
            }
        }
        expired.truncate(limit);
        for key in &expired {
            records.remove(key);
        }
        Ok(expired.len() as u64)
    }

    async fn health_check(&self) -> HealthStatus {
        HealthStatus::Healthy
    }
}

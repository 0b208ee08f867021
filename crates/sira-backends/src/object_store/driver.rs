//! The driver: records as objects.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use sira_store::driver::{
    Area, Change, Driver, DriverProfile, Guard, HEAD_BYTES, Held, Listed, Part, Place, Record,
    RecordHead, Scan,
};
use sira_store::plain::PlainDriver;
use sira_store::{Condition, HealthStatus, Result, StorageError, Version, limits};

use super::adapter::{Demand, Fetched, Found, Store, Tag, pause};
use super::layout::{self, Layout, Location, TOMBSTONE_BYTES};
use super::options::Conditions;
use super::plain::PlainObjects;
use super::probe;

/// How often a change is tried when other writers come first.
const ATTEMPTS: u32 = 64;

/// Bytes of an object that are read for its head and envelope.
const WINDOW_BYTES: u64 = 4096;

/// Ranges that end before this byte are read together with the head.
const NEAR_BYTES: u64 = 64 * 1024;

/// Objects that one collection looks at.
const COLLECT_SEEN_MAX: usize = 10_000;

/// An object store as an outside engine.
#[derive(Debug)]
pub struct ObjectStoreDriver {
    pub(super) store: Store,
    pub(super) layout: Layout,
    name: &'static str,
    conditions: Conditions,
    /// Where the next collection goes on.
    collected: Mutex<Option<String>>,
}

/// The head of what a key holds.
struct Peeked {
    held: Held,
    tag: Tag,
    tombstone: bool,
}

impl Peeked {
    fn new(head: RecordHead, tag: Tag) -> Self {
        let tombstone = is_tombstone(&head);
        let mut held = head.held();
        if tombstone {
            // On every clock.
            held.expires_at_ms = Some(1);
        }
        Self { held, tag, tombstone }
    }
}

impl ObjectStoreDriver {
    /// Opens a bucket: checks that it answers, and what it does with conditions unless the options
    /// say so.
    pub(super) async fn open(name: &'static str, mut store: Store) -> Result<Self> {
        let layout = Layout::new(&store.options().prefix);
        let conditions = match store.options().conditions {
            Some(conditions) => {
                store.list(layout.root(), None, 1).await?.next().await?;
                conditions
            }
            None => probe::conditions(&mut store, &layout).await?,
        };
        Ok(Self { store, layout, name, conditions, collected: Mutex::new(None) })
    }

    /// Which conditions the store checks.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        self.conditions
    }

    async fn peek(&self, location: &Location) -> Result<Option<Peeked>> {
        let window = (location.offset() + HEAD_BYTES) as u64;
        let Some(fetched) = self.window(location, window).await? else { return Ok(None) };
        let head = RecordHead::decode(&location.record(fetched.bytes.clone())?)?;
        Ok(Some(Peeked::new(head, fetched.tag()?.clone())))
    }

    async fn window(&self, location: &Location, bytes: u64) -> Result<Option<Fetched>> {
        match self.store.get(&location.path, Some(0..bytes), None).await? {
            Found::Object(fetched) => Ok(Some(fetched)),
            Found::Absent | Found::Changed => Ok(None),
        }
    }

    /// Whether what was demanded held.
    async fn write(
        &self,
        location: &Location,
        record: &Record,
        demand: Demand<'_>,
    ) -> Result<bool> {
        let written = self.store.put(&location.path, location.encode(record), demand).await?;
        Ok(written.is_some())
    }

    /// Puts a tombstone in the place of the object with this tag, whose writer is the one remover,
    /// and deletes it where that spares what others write meanwhile. Says whether it was put.
    async fn bury(&self, location: &Location, peeked: &Peeked, now_ms: u64) -> Result<bool> {
        let tombstone = tombstone(peeked.held.version, now_ms);
        let object = location.encode(&tombstone);
        let written = self.store.put(&location.path, object, Demand::Same(&peeked.tag)).await?;
        let Some(written) = written else { return Ok(false) };
        if self.conditions == Conditions::AllButAbsence
            && let Some(tag) = &written.tag
        {
            // The removal is done; what is left is found by the next collection.
            let _ = self.store.delete(&location.path, Some(tag)).await;
        }
        Ok(true)
    }

    /// Writes whatever is there.
    async fn write_blindly(&self, location: &Location, record: &Record) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            if self.write(location, record, Demand::Nothing).await? {
                return Ok(());
            }
            pause(attempt).await;
        }
        Err(crowded())
    }

    /// What a change without a store's conditions may ask for.
    fn require_conditions(&self, condition: Condition) -> Result<()> {
        if self.conditions == Conditions::None && condition != Condition::Always {
            return Err(StorageError::unsupported(format!(
                "this {} store does not check conditions of writes",
                self.name
            )));
        }
        Ok(())
    }

    /// Envelope, and the part of the body; `None` if the object changed while it was read.
    async fn read_part(
        &self,
        location: &Location,
        wanted: Range<u64>,
    ) -> Result<Option<Option<Record>>> {
        let offset = location.offset() as u64;
        let near = if wanted.end <= NEAR_BYTES { wanted.end } else { 0 };
        let window = offset + WINDOW_BYTES + near;
        let Some(fetched) = self.window(location, window).await? else { return Ok(Some(None)) };
        let mut prefix = location.record(fetched.bytes.clone())?;
        let head = RecordHead::decode(&prefix)?;
        if is_tombstone(&head) {
            return Ok(Some(None));
        }
        let body_start = head.body_start() as u64;
        let seen = prefix.len() as u64;
        if seen < body_start {
            let rest = offset + seen..offset + body_start;
            let Some(rest) = self.piece(location, rest, &fetched).await? else { return Ok(None) };
            prefix = [prefix, rest].concat().into();
        }
        let end = wanted.end.min(head.body_bytes);
        let begin = wanted.start.min(end);
        let body = if begin == end {
            Bytes::new()
        } else if body_start + end <= prefix.len() as u64 {
            prefix.slice((body_start + begin) as usize..(body_start + end) as usize)
        } else {
            let piece = offset + body_start + begin..offset + body_start + end;
            let Some(piece) = self.piece(location, piece, &fetched).await? else { return Ok(None) };
            piece
        };
        head.into_record(&prefix, body).map(|record| Some(Some(record)))
    }

    /// More of the object that `first` is the beginning of.
    async fn piece(
        &self,
        location: &Location,
        range: Range<u64>,
        first: &Fetched,
    ) -> Result<Option<Bytes>> {
        let bytes = range.end - range.start;
        match self.store.get(&location.path, Some(range), Some(first.tag()?)).await? {
            Found::Absent | Found::Changed => Ok(None),
            Found::Object(piece) if piece.bytes.len() as u64 == bytes => Ok(Some(piece.bytes)),
            Found::Object(_) => Err(StorageError::corrupt("the stored object is cut short")),
        }
    }

    /// Removes what no reader sees anymore from where it lies, and says whether that was done.
    async fn collect(&self, path: String, now_ms: u64) -> Result<bool> {
        let range = Some(0..layout::HEAD_BYTES_MAX as u64);
        let Found::Object(fetched) = self.store.get(&path, range, None).await? else {
            return Ok(false);
        };
        let hashed = matches!(
            self.layout.below_space(&path).and_then(Layout::name),
            Some(layout::Name::Hashed)
        );
        let (key, head) = if hashed {
            let (key, head) = layout::carried_head(&fetched.bytes)?;
            (Some(key), head)
        } else {
            (None, RecordHead::decode(&fetched.bytes)?)
        };
        let Some(expired_at) = head.expires_at_ms.filter(|at| *at <= now_ms) else {
            return Ok(false);
        };
        let tag = fetched.tag()?;
        let old = self
            .store
            .options()
            .tombstone_age
            .is_some_and(|age| u128::from(now_ms - expired_at) >= age.as_millis());
        match self.conditions {
            Conditions::All | Conditions::AllButAbsence => {
                self.store.delete(&path, Some(tag)).await
            }
            Conditions::Writes if !is_tombstone(&head) => {
                let tombstone = tombstone(head.version, expired_at);
                let location = Location::at(path, key);
                self.write(&location, &tombstone, Demand::Same(tag)).await
            }
            Conditions::Writes | Conditions::None if old => self.store.delete(&path, None).await,
            Conditions::Writes | Conditions::None => Ok(false),
        }
    }

    async fn change(&self, place: &Place, change: Change) -> Result<Option<Version>> {
        match change {
            // Nobody is told whether something was there, so it need not be looked at.
            Change::Remove { key, guard } if guard.condition == Condition::Always => {
                self.store.delete(&self.layout.locate(place, &key).path, None).await.map(|_| None)
            }
            change => change.apply(self, place).await,
        }
    }
}

#[async_trait]
impl Driver for ObjectStoreDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: self.name,
            persistent: true,
            conditional: self.conditions != Conditions::None,
            list: true,
            list_sizes: false,
            range: true,
            atomic_batch: false,
            commit_changes_max: 0,
            body_bytes_max: self.store.options().body_bytes_max,
            value_bytes_max: limits::STREAM_VALUE_BYTES_MAX,
        }
    }

    async fn put(
        &self,
        place: &Place,
        key: &str,
        mut record: Record,
        guard: Guard,
    ) -> Result<Version> {
        let location = self.layout.locate(place, key);
        if guard.is_blind() {
            self.write_blindly(&location, &record).await?;
            return Ok(record.version);
        }
        self.require_conditions(guard.condition)?;
        let version = record.version;
        for attempt in 0..ATTEMPTS {
            // The store says soon enough if something is there after all.
            let peeked = if attempt == 0 && guard.condition == Condition::IfAbsent {
                None
            } else {
                self.peek(&location).await?
            };
            record.version = guard.admit(peeked.as_ref().map(|peeked| peeked.held), version)?;
            if self.conditions == Conditions::None {
                self.write_blindly(&location, &record).await?;
                return Ok(record.version);
            }
            let demand = match &peeked {
                Some(peeked) => Demand::Same(&peeked.tag),
                None => Demand::Absent,
            };
            if self.write(&location, &record, demand).await? {
                return Ok(record.version);
            }
            pause(attempt).await;
        }
        Err(crowded())
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let location = self.layout.locate(place, key);
        let wanted = match part {
            Part::Whole => {
                let Found::Object(fetched) = self.store.get(&location.path, None, None).await?
                else {
                    return Ok(None);
                };
                let object = location.record(fetched.bytes)?;
                if is_tombstone(&RecordHead::decode(&object)?) {
                    return Ok(None);
                }
                return Record::decode(&object).map(Some);
            }
            Part::Head => 0..0,
            Part::Range(range) => range,
        };
        for attempt in 0..ATTEMPTS {
            if let Some(record) = self.read_part(&location, wanted.clone()).await? {
                return Ok(record);
            }
            pause(attempt).await;
        }
        Err(crowded())
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        self.require_conditions(guard.condition)?;
        let location = self.layout.locate(place, key);
        if place.area == Area::Chunks && guard.condition == Condition::Always {
            // Written once, so there is no other writer.
            return self.store.delete(&location.path, None).await;
        }
        for attempt in 0..ATTEMPTS {
            let peeked = self.peek(&location).await?;
            let lived = guard.admit_removal(peeked.as_ref().map(|peeked| peeked.held))?;
            let Some(peeked) = peeked else { return Ok(false) };
            let removed = match self.conditions {
                Conditions::All => self.store.delete(&location.path, Some(&peeked.tag)).await?,
                Conditions::AllButAbsence | Conditions::Writes => {
                    peeked.tombstone || self.bury(&location, &peeked, guard.now_ms).await?
                }
                Conditions::None => self.store.delete(&location.path, None).await?,
            };
            if removed {
                return Ok(lived);
            }
            pause(attempt).await;
        }
        Err(crowded())
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        self.scan_place(place, &scan).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        // Collected, since the compiler asks more of a lazy iterator of borrowed keys.
        let reads: Vec<_> = keys.iter().map(|key| self.get(place, key, Part::Whole)).collect();
        let mut reads =
            futures_util::stream::iter(reads).buffered(self.store.options().requests_concurrent);
        let mut records = Vec::with_capacity(keys.len());
        while let Some(record) = reads.next().await {
            records.push(record?);
        }
        Ok(records)
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        let changes = changes.into_iter().map(|change| self.change(place, change));
        futures_util::stream::iter(changes)
            .buffered(self.store.options().requests_concurrent)
            .collect()
            .await
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let start = self.collected.lock().take();
        let mut listing = self.store.list(self.layout.root(), start, 1000).await?;
        let with_tombstones = self.store.options().tombstone_age.is_some()
            || matches!(self.conditions, Conditions::All | Conditions::AllButAbsence);
        let (mut paths, mut seen, mut last) = (Vec::new(), 0, None);
        while paths.len() < limit && seen < COLLECT_SEEN_MAX {
            let Some((path, size)) = listing.next().await? else {
                last = None;
                break;
            };
            seen += 1;
            last = Some(path.clone());
            let may_expire = size % 2 == 1 && (size != TOMBSTONE_BYTES || with_tombstones);
            if may_expire && self.layout.below_space(&path).is_some() {
                paths.push(path);
            }
        }
        *self.collected.lock() = last;
        let collections = paths.into_iter().map(|path| self.collect(path, now_ms));
        let mut collections = futures_util::stream::iter(collections)
            .buffer_unordered(self.store.options().requests_concurrent);
        let mut collected = 0;
        while let Some(done) = collections.next().await {
            match done {
                Ok(done) => collected += u64::from(done),
                // Left as it is: whoever reads it is told.
                Err(StorageError::Corrupt(_) | StorageError::Unsupported(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(collected)
    }

    fn plain(self: Arc<Self>, namespace: &str) -> Option<Arc<dyn PlainDriver>> {
        Some(Arc::new(PlainObjects::new(self, namespace)))
    }

    async fn health_check(&self) -> HealthStatus {
        let answered = async { self.store.list(self.layout.root(), None, 1).await?.next().await };
        match answered.await {
            Ok(_) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }
}

/// What a removal leaves where a delete cannot be conditional: the version, and the time of the
/// removal.
fn tombstone(version: Version, removed_at_ms: u64) -> Record {
    Record { version, expires_at_ms: Some(removed_at_ms.max(1)), ..Record::default() }
}

/// Records that are read have an envelope.
pub(super) fn is_tombstone(head: &RecordHead) -> bool {
    head.envelope_bytes == 0 && head.body_bytes == 0 && head.expires_at_ms.is_some()
}

fn crowded() -> StorageError {
    StorageError::conflict(format!(
        "other writers of the key came first {ATTEMPTS} times; try again when there are fewer"
    ))
}

//! What every operation on an outside engine goes through, whoever called it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::chunks::{self, ChunkUse, Manifest};
use super::envelope::Envelope;
use super::locks::KeyLocks;
use super::{Area, Driver, DriverProfile, Guard, Part, Place, Record};
use crate::backend::{Object, ObjectHead, ReadOptions};
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::key::{CheckedWrite, check_described, check_range, check_range_start};
use crate::limits::BLOCK_BYTES;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::{HybridClock, Version};

/// Times that a read begins again because the object's chunks were replaced under it.
const READ_ATTEMPTS: usize = 10;

/// Times that an object is read again whose bytes do not match their checksum.
const DOUBTS_MAX: u32 = 2;

/// A driver and what all handles on it share.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) profile: DriverProfile,
    pub(super) env: Arc<dyn Env>,
    pub(super) clock: HybridClock,
    pub(super) locks: Arc<KeyLocks>,
    pub(super) chunk_use: ChunkUse,
}

/// A write that only has to be made visible.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) record: Record,
    pub(super) guard: Guard,
    pub(super) envelope: Envelope,
}

impl Store {
    pub(super) fn new(driver: Arc<dyn Driver>, env: Arc<dyn Env>) -> Self {
        Self {
            profile: driver.profile(),
            driver,
            env,
            clock: HybridClock::default(),
            locks: Arc::new(KeyLocks::new()),
            chunk_use: ChunkUse::default(),
        }
    }

    /// Whether values may lie in chunks.
    pub(super) fn chunks_values(&self) -> bool {
        self.profile.body_bytes_max < self.profile.value_bytes_max
    }

    /// Whether writers of a key need not take turns: the engine makes a write in one step, and no
    /// chunks are written or left behind.
    pub(super) fn goes_beside(&self, place: &Place, value_bytes: usize) -> bool {
        self.driver.writes_in_one_step()
            && value_bytes as u64 <= self.profile.body_bytes_max
            && (!self.chunks_values() || self.chunk_use.is_ruled_out(place))
    }

    /// What a write demands, if the engine can judge it.
    pub(super) fn guard(&self, condition: Condition, exact: bool) -> Result<Guard> {
        let guard = Guard { condition, exact, now_ms: self.env.now_ms() };
        if !guard.is_blind() && !self.profile.conditional {
            return Err(StorageError::unsupported(format!(
                "{} cannot check a condition and write as one step; leave the condition out or \
                 choose another backend",
                self.profile.name
            )));
        }
        Ok(guard)
    }

    /// Writes the chunks of a large value, if it is one, and makes the record.
    pub(super) async fn prepare(
        &self,
        place: &Place,
        key: &str,
        value: Bytes,
        options: &StorageOptions,
        checked: CheckedWrite,
    ) -> Result<Prepared> {
        if value.len() as u64 > self.profile.value_bytes_max {
            return Err(StorageError::too_large(format!(
                "{} takes values of up to {} bytes, this one has {}",
                self.profile.name,
                self.profile.value_bytes_max,
                value.len()
            )));
        }
        let guard = self.guard(options.condition, options.version.is_some())?;
        let version = options
            .version
            .unwrap_or_else(|| self.clock.next_spread(guard.now_ms, self.env.random_u64()));
        let mut envelope = Envelope::new(checked.metadata, &value);
        let mut record = Record {
            version,
            expires_at_ms: checked.expires_at_ms,
            size: value.len() as u64,
            envelope: Bytes::new(),
            body: value,
        };
        if record.size > self.profile.body_bytes_max {
            // Before the work: most conditions that fail do so here.
            if !guard.is_blind() {
                let held = self.driver.get(place, key, Part::Head).await?;
                guard.admit(held.as_ref().map(Record::held), version)?;
            }
            let value = std::mem::take(&mut record.body);
            let written = chunks::write(self, place, key, record.expires_at_ms, value);
            envelope.chunks = Some(written.await?);
        }
        record.envelope = envelope.encode();
        Ok(Prepared { record, guard, envelope })
    }

    /// Drops what [`Store::prepare`] wrote, when the record was not made visible.
    pub(super) async fn undo(&self, place: &Place, prepared: &Envelope, size: u64) {
        if let Some(chunks) = prepared.chunks {
            chunks::remove(self, place, chunks, size).await;
        }
    }

    /// Writes an object.
    pub(super) async fn put(
        &self,
        place: &Place,
        key: &str,
        value: Bytes,
        options: &StorageOptions,
        checked: CheckedWrite,
    ) -> Result<Version> {
        let prepared = self.prepare(place, key, value, options, checked).await?;
        self.show(place, key, prepared).await
    }

    /// Makes the object of a value visible whose chunks are written.
    pub(super) async fn put_chunked(
        &self,
        place: &Place,
        key: &str,
        (size, manifest, checksums): (u64, Manifest, Vec<u32>),
        options: &StorageOptions,
    ) -> Result<Version> {
        let prepare = || {
            let guard = self.guard(options.condition, options.version.is_some())?;
            let checked = check_described(key, options, guard.now_ms)?;
            let metadata = checked.metadata.into();
            let envelope = Envelope { metadata, chunks: Some(manifest), checksums };
            let version = options
                .version
                .unwrap_or_else(|| self.clock.next_spread(guard.now_ms, self.env.random_u64()));
            let expires_at_ms = checked.expires_at_ms;
            let (envelope_bytes, body) = (envelope.encode(), Bytes::new());
            let record = Record { version, expires_at_ms, size, envelope: envelope_bytes, body };
            Ok(Prepared { record, guard, envelope })
        };
        match prepare() {
            Ok(prepared) => self.show(place, key, prepared).await,
            Err(error) => {
                chunks::remove(self, place, manifest, size).await;
                Err(error)
            }
        }
    }

    /// Makes a prepared write visible.
    async fn show(&self, place: &Place, key: &str, prepared: Prepared) -> Result<Version> {
        let Prepared { record, guard, envelope } = prepared;
        let size = record.size;
        let replaced = self.chunks_of(place, key).await?;
        match self.driver.put(place, key, record, guard).await {
            Ok(version) => {
                self.clock.observe(version);
                self.drop_replaced(place, replaced, envelope.chunks).await;
                Ok(version)
            }
            Err(error) => {
                // What may have become visible stays whole.
                if error.retry() != crate::error::Retry::Ambiguous {
                    self.undo(place, &envelope, size).await;
                }
                Err(error)
            }
        }
    }

    /// Removes an object.
    pub(super) async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let replaced = self.chunks_of(place, key).await?;
        let removed = self.driver.remove(place, key, guard).await?;
        self.drop_replaced(place, replaced, None).await;
        Ok(removed)
    }

    /// The chunks that a key's value lies in now, where the namespace has any.
    pub(super) async fn chunks_of(
        &self,
        place: &Place,
        key: &str,
    ) -> Result<Option<(chunks::Manifest, u64)>> {
        if !self.chunks_values() || !self.chunk_use.is_possible(self, place).await? {
            return Ok(None);
        }
        let Some(record) = self.driver.get(place, key, Part::Head).await? else { return Ok(None) };
        let envelope = Envelope::decode(&record.envelope)?;
        Ok(envelope.chunks.map(|chunks| (chunks, record.size)))
    }

    /// Drops the chunks of a value that was replaced.
    pub(super) async fn drop_replaced(
        &self,
        place: &Place,
        replaced: Option<(chunks::Manifest, u64)>,
        by: Option<chunks::Manifest>,
    ) {
        if let Some((chunks, size)) = replaced
            && by.is_none_or(|by| by.generation != chunks.generation)
        {
            chunks::remove(self, place, chunks, size).await;
        }
    }

    /// A record that has not expired.
    pub(super) async fn live(
        &self,
        place: &Place,
        key: &str,
        part: Part,
    ) -> Result<Option<Record>> {
        self.locks.settle(&place.namespace, key).await;
        let record = self.driver.get(place, key, part).await?;
        Ok(record.and_then(|record| self.if_live(record)))
    }

    /// The record, unless it has expired by now.
    pub(super) fn if_live(&self, record: Record) -> Option<Record> {
        self.clock.observe(record.version);
        record.held().lives(self.env.now_ms()).then_some(record)
    }

    /// Reads an object or a range of it.
    pub(super) async fn read(
        &self,
        place: &Place,
        key: &str,
        options: &ReadOptions,
    ) -> Result<Option<Object>> {
        if let Some(range) = &options.range {
            check_range(range)?;
        }
        let blocks = options.range.as_ref().filter(|_| self.profile.range).map(|range| {
            let block = BLOCK_BYTES as u64;
            range.start / block * block..range.end.div_ceil(block).saturating_mul(block)
        });
        let part = blocks.map_or(Part::Whole, Part::Range);
        let mut doubted = 0;
        for _ in 0..READ_ATTEMPTS {
            let record = self.live(place, key, part.clone()).await?;
            options.condition.require(record.as_ref().map(|record| record.version))?;
            let Some(record) = record else { return Ok(None) };
            match self.object(place, record, &part, options).await {
                Ok(Some(object)) => return Ok(Some(object)),
                Ok(None) => {}
                // Some engines show a record that is being replaced, half old and half new; what is
                // damaged is so the next time, too.
                Err(StorageError::Corrupt(_)) if doubted < DOUBTS_MAX => doubted += 1,
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::conflict("the object was replaced again and again while it was read"))
    }

    /// The object of a record, `None` when its chunks are gone by now.
    pub(super) async fn object(
        &self,
        place: &Place,
        record: Record,
        part: &Part,
        options: &ReadOptions,
    ) -> Result<Option<Object>> {
        let envelope = Envelope::decode(&record.envelope)?;
        let head = head(&record, &envelope)?;
        let size = head.size;
        let range = options.range.clone().unwrap_or(0..size);
        check_range_start(range.start, size)?;
        let range = range.start..range.end.min(size);
        // What the record's bytes, or those of the chunks, are of the value.
        let (start, bytes) = match (envelope.chunks, part) {
            (Some(chunks), _) => match chunks::read(self, place, chunks, size, &range).await? {
                Some(found) => found,
                None => return Ok(None),
            },
            (None, Part::Range(blocks)) => (blocks.start.min(size), record.body),
            (None, _) => (0, record.body),
        };
        let end = match (envelope.chunks, part) {
            (None, Part::Range(blocks)) => blocks.end.min(size),
            (None, _) => size,
            (Some(_), _) => start + bytes.len() as u64,
        };
        if start + bytes.len() as u64 != end || end < range.end {
            return Err(StorageError::corrupt(format!(
                "the stored value has {} bytes where {} were expected",
                bytes.len(),
                end.saturating_sub(start)
            )));
        }
        envelope.verify((start / BLOCK_BYTES as u64) as usize, &bytes)?;
        let cut = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let (from, to) = (cut(range.start).min(bytes.len()), cut(range.end).min(bytes.len()));
        Ok(Some(Object { head, value: bytes.slice(from..to.max(from)), range }))
    }

    /// What a key holds, without the bytes.
    pub(super) async fn head(&self, place: &Place, key: &str) -> Result<Option<ObjectHead>> {
        let Some(record) = self.live(place, key, Part::Head).await? else { return Ok(None) };
        head(&record, &Envelope::decode(&record.envelope)?).map(Some)
    }
}

/// The place of the chunks of a namespace's objects.
pub(super) fn chunk_place(place: &Place) -> Place {
    Place { namespace: Arc::clone(&place.namespace), area: Area::Chunks }
}

fn head(record: &Record, envelope: &Envelope) -> Result<ObjectHead> {
    Ok(ObjectHead {
        version: record.version,
        size: record.size,
        expires_at_ms: record.expires_at_ms,
        metadata: Metadata::decode(&envelope.metadata)?,
    })
}

/// Parts of a value as one.
pub(super) fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        joined.extend_from_slice(&part);
    }
    joined.freeze()
}

//! Values that are larger than the engine takes as one.
//!
//! Chunks are written first, under keys that no other write uses, and become visible all at once
//! when the record that names them is written. They are removed after the record was replaced; a
//! reader that comes late finds one missing and begins again. What a crash leaves behind is found by
//! [`collect`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::task::JoinSet;

use super::envelope::Envelope;
pub(super) use super::envelope::Manifest;
use super::store::{Store, chunk_place, join};
use super::{After, Driver, DriverProfile, Guard, Part, Place, Record, Scan};
use crate::env::Env;
use crate::error::{Result, Retry, StorageError};
use crate::limits::BLOCK_BYTES;
use crate::version::Version;

/// Chunks of one value that are under way at once.
const CONCURRENCY: usize = 4;

/// Largest chunk, whatever the engine takes.
const CHUNK_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Longest time from the first chunk of a value to the record that names it, in milliseconds.
pub(super) const WRITE_MS_MAX: u64 = 6 * 60 * 60 * 1000;

/// Age below which a chunk without a record may belong to a write that is still going on.
const GRACE_MS: u64 = 2 * WRITE_MS_MAX;

/// Chunks that [`collect`] looks at in one step.
const COLLECT_LIMIT: usize = 1000;

/// Which namespaces hold chunks, as far as is known.
#[derive(Debug, Default)]
pub(super) struct ChunkUse {
    known: RwLock<BTreeMap<Arc<str>, bool>>,
}

impl ChunkUse {
    /// Whether the namespace may hold chunks. Looked up once; writers in other processes may begin
    /// later, and then their chunks wait for [`collect`].
    pub(super) async fn is_possible(&self, store: &Store, place: &Place) -> Result<bool> {
        if let Some(known) = self.known.read().get(&place.namespace) {
            return Ok(*known);
        }
        let found = match store.profile.list {
            true => {
                let scan = Scan { limit: 1, ..Scan::default() };
                !store.driver.scan(&chunk_place(place), scan).await?.is_empty()
            }
            false => true,
        };
        *self.known.write().entry(Arc::clone(&place.namespace)).or_insert(found) |= found;
        Ok(found)
    }

    /// Whether it is known that the namespace holds no chunks.
    pub(super) fn is_ruled_out(&self, place: &Place) -> bool {
        self.known.read().get(&place.namespace) == Some(&false)
    }

    fn begin(&self, place: &Place) {
        self.known.write().insert(Arc::clone(&place.namespace), true);
    }
}

/// Bytes of a chunk in this engine.
pub(super) fn chunk_bytes(profile: &DriverProfile) -> u32 {
    let most = profile.body_bytes_max.min(CHUNK_BYTES_MAX);
    let blocks = (most / BLOCK_BYTES as u64).max(1);
    u32::try_from(blocks * BLOCK_BYTES as u64).unwrap_or(BLOCK_BYTES as u32)
}

fn chunk_key(generation: u64, number: u64) -> String {
    format!("{generation:016x}/{number:08x}")
}

/// Writes the chunks of a value.
pub(super) async fn write(
    store: &Store,
    place: &Place,
    key: &str,
    expires_at_ms: Option<u64>,
    mut value: Bytes,
) -> Result<Manifest> {
    let mut writer = Writer::new(store, place, key, expires_at_ms);
    let mut result = Ok(());
    while result.is_ok() && !value.is_empty() {
        let body = value.split_to(value.len().min(writer.chunk_bytes()));
        result = writer.push(body).await;
    }
    writer.settle(result).await?;
    Ok(writer.keep())
}

/// Writes the chunks of one value as they come. What it has written goes again when it is dropped
/// before it was told to keep it.
#[derive(Debug)]
pub(super) struct Writer {
    driver: Arc<dyn Driver>,
    env: Arc<dyn Env>,
    place: Place,
    /// Of the object, by which [`collect`] finds who names a chunk.
    key: Bytes,
    version: Version,
    expires_at_ms: Option<u64>,
    manifest: Manifest,
    /// Chunks that were begun, and are to be removed.
    begun: u64,
    under_way: JoinSet<Result<Version>>,
}

impl Writer {
    pub(super) fn new(store: &Store, place: &Place, key: &str, expires_at_ms: Option<u64>) -> Self {
        store.chunk_use.begin(place);
        let (now_ms, random) = (store.env.now_ms(), store.env.random_u64());
        Self {
            driver: Arc::clone(&store.driver),
            env: Arc::clone(&store.env),
            place: chunk_place(place),
            key: Bytes::copy_from_slice(key.as_bytes()),
            // Of its own: that of the object may be old, and tells [`collect`] the chunk's age.
            version: store.clock.next_spread(now_ms, random),
            expires_at_ms,
            manifest: Manifest {
                generation: store.env.random_u64(),
                bytes: chunk_bytes(&store.profile),
            },
            begun: 0,
            under_way: JoinSet::new(),
        }
    }

    /// Bytes of each chunk but the last.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.manifest.bytes as usize
    }

    /// Begins to write the next chunk, once few enough are under way.
    pub(super) async fn push(&mut self, body: Bytes) -> Result<()> {
        while self.under_way.len() >= CONCURRENCY {
            finish_one(&mut self.under_way).await?;
        }
        let chunk = Record {
            version: self.version,
            expires_at_ms: self.expires_at_ms,
            size: body.len() as u64,
            envelope: self.key.clone(),
            body,
        };
        let (driver, place) = (Arc::clone(&self.driver), self.place.clone());
        let key = chunk_key(self.manifest.generation, self.begun);
        let guard = Guard::always(self.env.now_ms());
        self.begun += 1;
        self.under_way.spawn(async move { driver.put(&place, &key, chunk, guard).await });
        Ok(())
    }

    /// Waits for the chunks under way. When one of them, or `result`, has failed, removes them all.
    pub(super) async fn settle(&mut self, mut result: Result<()>) -> Result<()> {
        while !self.under_way.is_empty() {
            result = result.and(finish_one(&mut self.under_way).await);
        }
        let Err(error) = result else { return Ok(()) };
        let begun = std::mem::take(&mut self.begun);
        remove_chunks(&*self.driver, &*self.env, &self.place, self.manifest.generation, begun)
            .await;
        // The object itself was not touched.
        Err(match error.retry() {
            Retry::Ambiguous => error.with_retry(Retry::Temporary),
            _ => error,
        })
    }

    /// Leaves the chunks to the record that names them.
    pub(super) fn keep(mut self) -> Manifest {
        self.begun = 0;
        self.manifest
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.begun == 0 {
            return;
        }
        // Without a runtime, they wait for `collect`.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (driver, env) = (Arc::clone(&self.driver), Arc::clone(&self.env));
        let (place, generation, begun) = (self.place.clone(), self.manifest.generation, self.begun);
        let mut under_way = std::mem::take(&mut self.under_way);
        runtime.spawn(async move {
            // One that was stopped half way could arrive behind its removal.
            while under_way.join_next().await.is_some() {}
            remove_chunks(&*driver, &*env, &place, generation, begun).await;
        });
    }
}

async fn finish_one<T: 'static>(under_way: &mut JoinSet<Result<T>>) -> Result<()> {
    match under_way.join_next().await {
        Some(Ok(result)) => result.map(drop),
        Some(Err(error)) => {
            Err(StorageError::unavailable("a part of the value was given up").with_source(error))
        }
        None => Ok(()),
    }
}

/// Reads the chunks that a range touches: where the bytes begin in the value, and whole blocks of
/// it. `None` when a chunk is not there.
pub(super) async fn read(
    store: &Store,
    place: &Place,
    manifest: Manifest,
    size: u64,
    range: &Range<u64>,
) -> Result<Option<(u64, Bytes)>> {
    let (block, bytes) = (BLOCK_BYTES as u64, u64::from(manifest.bytes));
    let start = range.start / block * block;
    let end = range.end.div_ceil(block).saturating_mul(block).min(size);
    if start >= end {
        return Ok(Some((start, Bytes::new())));
    }
    let place = chunk_place(place);
    let mut under_way = JoinSet::new();
    let mut parts = BTreeMap::new();
    for number in start / bytes..end.div_ceil(bytes) {
        let begin = number * bytes;
        let inside = start.saturating_sub(begin)..(end - begin).min(bytes);
        let whole = inside.start == 0 && inside.end == bytes.min(size - begin);
        let part =
            if whole || !store.profile.range { Part::Whole } else { Part::Range(inside.clone()) };
        let (driver, place) = (Arc::clone(&store.driver), place.clone());
        let key = chunk_key(manifest.generation, number);
        if under_way.len() == CONCURRENCY && !take_one(&mut under_way, &mut parts).await? {
            return Ok(None);
        }
        under_way.spawn(async move {
            let cut_here = part == Part::Whole;
            let Some(record) = driver.get(&place, &key, part).await? else { return Ok(None) };
            let body = match cut_here {
                true => {
                    let end = (inside.end as usize).min(record.body.len());
                    record.body.slice((inside.start as usize).min(end)..end)
                }
                false => record.body,
            };
            Ok(Some((number, body)))
        });
    }
    while !under_way.is_empty() {
        if !take_one(&mut under_way, &mut parts).await? {
            return Ok(None);
        }
    }
    Ok(Some((start, join(parts.into_values().collect()))))
}

type Found = Result<Option<(u64, Bytes)>>;

/// Takes a chunk that has come; false when it is not there.
async fn take_one(
    under_way: &mut JoinSet<Found>,
    parts: &mut BTreeMap<u64, Bytes>,
) -> Result<bool> {
    match under_way.join_next().await {
        Some(Ok(found)) => Ok(found?.is_some_and(|(number, body)| {
            parts.insert(number, body);
            true
        })),
        Some(Err(error)) => {
            Err(StorageError::unavailable("a part of the value was given up").with_source(error))
        }
        None => Ok(true),
    }
}

/// Removes the chunks of a value that no record names any more. What fails is left to [`collect`].
pub(super) async fn remove(store: &Store, place: &Place, manifest: Manifest, size: u64) {
    let count = size.div_ceil(u64::from(manifest.bytes).max(1));
    let place = chunk_place(place);
    remove_chunks(&*store.driver, &*store.env, &place, manifest.generation, count).await;
}

async fn remove_chunks(
    driver: &dyn Driver,
    env: &dyn Env,
    place: &Place,
    generation: u64,
    count: u64,
) {
    let guard = Guard::always(env.now_ms());
    for number in 0..count {
        if let Err(error) = driver.remove(place, &chunk_key(generation, number), guard).await {
            tracing::debug!(%error, "a chunk of no value stays until it is collected");
        }
    }
}

/// Removes chunks that no record names and that are too old to belong to a write that goes on, and
/// says how many.
pub(super) async fn collect(store: &Store, place: &Place) -> Result<u64> {
    let chunks = chunk_place(place);
    let (mut after, mut removed) = (None, 0);
    let mut used = BTreeSet::new();
    loop {
        let scan = Scan { prefix: String::new(), after: after.take(), limit: COLLECT_LIMIT };
        let page = store.driver.scan(&chunks, scan).await?;
        let last_page = page.len() < COLLECT_LIMIT;
        after = page.last().map(|listed| After::Key(listed.key.clone()));
        for listed in page {
            let generation = listed.key.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let Some(generation) = generation else { continue };
            if used.contains(&generation) {
                continue;
            }
            let Some(chunk) = store.driver.get(&chunks, &listed.key, Part::Head).await? else {
                continue;
            };
            let now_ms = store.env.now_ms();
            if chunk.version.time_ms().saturating_add(GRACE_MS) > now_ms {
                continue;
            }
            let Ok(key) = std::str::from_utf8(&chunk.envelope) else { continue };
            let owner = store.driver.get(place, key, Part::Head).await?;
            let named = owner.map(|owner| Envelope::decode(&owner.envelope)).transpose()?;
            let named = named.and_then(|envelope| envelope.chunks);
            if named.is_some_and(|chunks| chunks.generation == generation) {
                used.insert(generation);
                continue;
            }
            store.driver.remove(&chunks, &listed.key, Guard::always(now_ms)).await?;
            removed += 1;
        }
        if last_page || after.is_none() {
            return Ok(removed);
        }
    }
}

//! Writes whose bytes come one after the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::chunks::{self, WRITE_MS_MAX, Writer};
use super::store::{Store, join};
use super::{DriverBackend, Part, Record, locks};
use crate::backend::ByteStream;
use crate::error::{Result, StorageError};
use crate::key::check_described;
use crate::limits::{BLOCK_BYTES, VALUE_BYTES_MAX};
use crate::options::StorageOptions;
use crate::version::Version;

/// Largest value that is collected in memory although the engine takes larger ones as one.
const COLLECTED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Writes an object from a stream: as one if it is small, else chunk by chunk while it comes. The
/// key is locked once all of it is there. A time to live counts from then on.
pub(super) async fn write(
    backend: &DriverBackend,
    key: &str,
    body: ByteStream,
    options: StorageOptions,
) -> Result<Version> {
    let store = &backend.store;
    check_described(key, &options, store.env.now_ms())?;
    let guard = store.guard(options.condition, options.version.is_some())?;
    let mut source = Source::new(body, store);
    let collected_max = match store.chunks_values() {
        true => store.profile.body_bytes_max.min(COLLECTED_BYTES_MAX),
        false => source.bytes_max,
    };
    let mut first = Vec::new();
    while source.bytes <= collected_max {
        match source.next().await? {
            Some(piece) => first.push(piece),
            None => return backend.write(key, join(first), options).await,
        }
    }

    // Most conditions that fail do so here, before the work.
    if !guard.is_blind() {
        let held = store.driver.get(&backend.place, key, Part::Head).await?;
        let version = options.version.unwrap_or(Version::from_u64(u64::MAX));
        guard.admit(held.as_ref().map(Record::held), version)?;
    }
    let begun_ms = store.env.now_ms();
    // Chunks must not go before the record, whose time to live begins when the last one is there.
    let latest = options.ttl.map(|ttl| ttl.saturating_add(Duration::from_millis(WRITE_MS_MAX)));
    let described = StorageOptions { ttl: latest, ..options.clone() };
    let expires_at_ms = check_described(key, &described, begun_ms)?.expires_at_ms;
    let mut writer = Writer::new(store, &backend.place, key, expires_at_ms);
    let mut checksums = Vec::new();
    let written = async {
        let mut first = first.into_iter();
        loop {
            let piece = match first.next() {
                Some(piece) => piece,
                None => match source.next().await? {
                    Some(piece) => piece,
                    None => return Ok(()),
                },
            };
            if store.env.now_ms().saturating_sub(begun_ms) > WRITE_MS_MAX {
                return Err(StorageError::timeout(format!(
                    "the value did not come whole within {} hours",
                    WRITE_MS_MAX / 3_600_000
                )));
            }
            checksums.extend(piece.chunks(BLOCK_BYTES).map(crc32c::crc32c));
            writer.push(piece).await?;
        }
    };
    let written = written.await;
    writer.settle(written).await?;

    let (size, place, owned) = (source.bytes, backend.place.clone(), key.to_owned());
    let task_store = Arc::clone(store);
    // Until the task runs, whoever drops this drops the chunks.
    locks::run_locked(&store.locks, &backend.place.namespace, [key], async move {
        let chunks = (size, writer.keep(), checksums);
        task_store.put_chunked(&place, &owned, chunks, &options).await
    })
    .await
}

/// The bytes of a stream in pieces as large as chunks, but for the last.
struct Source {
    body: ByteStream,
    rest: Bytes,
    piece_bytes: usize,
    /// All that came.
    bytes: u64,
    bytes_max: u64,
    engine: &'static str,
}

impl Source {
    fn new(body: ByteStream, store: &Store) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            piece_bytes: chunks::chunk_bytes(&store.profile) as usize,
            bytes: 0,
            bytes_max: store.profile.value_bytes_max.min(VALUE_BYTES_MAX as u64),
            engine: store.profile.name,
        }
    }

    /// The next piece; none when all came.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut piece = BytesMut::new();
        while piece.len() < self.piece_bytes {
            if self.rest.is_empty() {
                let Some(part) = poll_fn(|cx| self.body.as_mut().poll_next(cx)).await else {
                    break;
                };
                self.rest = part.map_err(|error| {
                    StorageError::invalid_input("the body ended early").with_source(error)
                })?;
                self.bytes += self.rest.len() as u64;
                if self.bytes > self.bytes_max {
                    return Err(StorageError::too_large(format!(
                        "{} takes values of up to {} bytes, this one has more",
                        self.engine, self.bytes_max
                    )));
                }
            }
            let take = self.rest.len().min(self.piece_bytes - piece.len());
            // Of one that is full at once, nothing is copied.
            if piece.is_empty() && take == self.piece_bytes {
                return Ok(Some(self.rest.split_to(take)));
            }
            piece.extend_from_slice(&self.rest.split_to(take));
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }
}

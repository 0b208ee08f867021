//! One object on its way back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::sync::mpsc;

use super::super::digest::{Digest, Hasher};
use super::super::entry::SnapshotEntry;
use super::super::origin::text;
use super::super::reader::{ChunkReader, Fetch};
use super::super::source::{BackupSource, Opened};
use super::plan::Planned;
use crate::backend::{ByteStream, ListOptions, StorageBackend};
use crate::client::StoredNamespace;
use crate::embedded::{Engine, WriteOptions};
use crate::error::{Result, StorageError};
use crate::key::check_exact_version;
use crate::options::{Condition, Durability, StorageOptions};
use crate::version::Version;

/// Values up to this size are put together before they are written.
const WHOLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Times that an object is written again because another writer was in the way.
const TRIES: usize = 8;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was written, or is to be.
    Restored,
    /// It is there.
    Present,
    /// Another version of it is there.
    Conflict,
    /// It would be gone at once.
    Expired,
}

/// What is to be written.
struct Ready {
    entry: Arc<SnapshotEntry>,
    /// `None` of a value that is read while it is written.
    value: Option<Bytes>,
}

/// The namespace that is restored into.
pub(super) struct Target {
    name: String,
    /// Name of the namespace that the objects are from.
    from: String,
    opened: StoredNamespace,
    /// Where the engine holds all of it: keys that are no texts go there.
    engine: Option<Arc<Engine>>,
    overwrite: bool,
}

impl Target {
    pub(super) async fn open(
        source: &BackupSource,
        from: &str,
        name: &str,
        overwrite: bool,
    ) -> Result<Self> {
        let opened = source.open(name).await?;
        let engine = source.engine_of(&opened).map(|engine| Arc::clone(&engine.engine));
        Ok(Self { name: name.to_owned(), from: from.to_owned(), opened, engine, overwrite })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn writer(&self) -> &dyn StorageBackend {
        &*self.opened.writer
    }

    pub(super) async fn is_empty(&self) -> Result<bool> {
        let page = self.writer().list(ListOptions { limit: 1, ..ListOptions::default() }).await?;
        let texts = page.entries.is_empty() && page.next.is_none();
        // Keys that are no texts are not listed.
        let others = self
            .engine
            .as_ref()
            .and_then(|engine| engine.find_namespace(&self.name).map(|id| engine.count(id) > 0));
        Ok(texts && !others.unwrap_or(false))
    }

    pub(super) async fn flush(&self) -> Result<()> {
        self.writer().flush().await
    }

    /// Says what would become of an object.
    pub(super) async fn look(&self, planned: &Planned, now_ms: u64) -> Result<Outcome> {
        if planned.has_expired(now_ms) {
            return Ok(Outcome::Expired);
        }
        Ok(match self.held(planned.key()).await? {
            None => Outcome::Restored,
            Some(held) if self.is_same(planned, held).await? => Outcome::Present,
            Some(_) => Outcome::Conflict,
        })
    }

    async fn held(&self, key: &[u8]) -> Result<Option<Version>> {
        match (text(key), &self.engine) {
            (Ok(key), _) => Ok(self.writer().head(key).await?.map(|head| head.version)),
            (Err(_), Some(engine)) => {
                let Some(id) = engine.find_namespace(&self.name) else { return Ok(None) };
                Ok(engine.head(id, key)?.map(|head| head.version))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Whether what is held is the object: the same version, or the same bytes where versions are
    /// not kept.
    async fn is_same(&self, planned: &Planned, held: Version) -> Result<bool> {
        if held == planned.version() {
            return Ok(true);
        }
        let Planned::Saved(entry) = planned else { return Ok(false) };
        if self.writer().capabilities().exact_versions && !entry.version.is_state() {
            return Ok(false);
        }
        let Ok(key) = text(&entry.key) else { return Ok(false) };
        let Some(object) = self.writer().read(key, Default::default()).await? else {
            return Ok(false);
        };
        Ok(object.head.metadata == entry.metadata
            && object.head.expires_at_ms == entry.expires_at_ms
            && Digest::of(&object.value) == entry.digest)
    }

    /// Writes an object, unless it is there.
    pub(super) async fn restore(
        &self,
        reader: &Arc<ChunkReader>,
        planned: &Planned,
        now_ms: u64,
    ) -> Result<Outcome> {
        if planned.has_expired(now_ms) {
            return Ok(Outcome::Expired);
        }
        let mut ready = None;
        for _ in 0..TRIES {
            let held = self.held(planned.key()).await?;
            if let Some(held) = held {
                if self.is_same(planned, held).await? {
                    return Ok(Outcome::Present);
                }
                if !self.overwrite {
                    return Err(StorageError::conflict(
                        "another writer has stored another version meanwhile, which was left alone",
                    ));
                }
            }
            let ready = match &ready {
                Some(ready) => ready,
                None => &*ready.insert(self.ready(reader, planned).await?),
            };
            match self.write(reader, ready, held).await {
                Ok(()) => return Ok(Outcome::Restored),
                // Looked at anew.
                Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::conflict("other writers were in the way each time"))
    }

    /// Reads what is to be written, unless it is too large to be held.
    async fn ready(&self, reader: &Arc<ChunkReader>, planned: &Planned) -> Result<Ready> {
        match planned {
            Planned::Saved(entry) => {
                let value = match entry.size <= WHOLE_BYTES_MAX {
                    true => Some(read_value(entry, reader).await?),
                    false => None,
                };
                Ok(Ready { entry: Arc::clone(entry), value })
            }
            Planned::Archived(key, archived) => {
                let opened = archived.open(&self.from, key, &self.opened.keyring).await?;
                let Opened { version, expires_at_ms, metadata, cipher, value } = opened;
                let entry = SnapshotEntry {
                    key: key.clone(),
                    version,
                    expires_at_ms,
                    size: value.len() as u64,
                    metadata,
                    digest: Digest::from_bytes([0; Digest::BYTES]),
                    cipher,
                    chunks: Vec::new(),
                };
                Ok(Ready { entry: Arc::new(entry), value: Some(value) })
            }
        }
    }

    async fn write(
        &self,
        reader: &Arc<ChunkReader>,
        ready: &Ready,
        held: Option<Version>,
    ) -> Result<()> {
        let (entry, value) = (&ready.entry, ready.value.clone());
        let capabilities = self.writer().capabilities();
        let newer = check_exact_version(entry.version).is_ok()
            && held.is_none_or(|held| held < entry.version);
        let exact = Some(entry.version).filter(|_| newer && capabilities.exact_versions);
        let Ok(key) = text(&entry.key) else {
            let value = match value {
                Some(value) => value,
                None => read_value(entry, reader).await?,
            };
            return self.write_raw(entry, &value, held, exact).await;
        };
        let condition = match held {
            _ if !capabilities.conditional => Condition::Always,
            None => Condition::IfAbsent,
            Some(held) => Condition::IfMatch(held),
        };
        let options = StorageOptions {
            expires_at_ms: entry.expires_at_ms,
            metadata: entry.metadata.clone(),
            encryption: entry.encryption(),
            // All of it is made durable at the end.
            durability: Some(Durability::Interval(1000)),
            version: exact,
            condition,
            ..StorageOptions::default()
        };
        let put = self.put(reader, entry, key, value.clone(), options.clone()).await;
        match put {
            // A removal that is remembered is newer than the object.
            Err(StorageError::Conflict(_)) if exact.is_some() => {
                let options = StorageOptions { version: None, ..options };
                self.put(reader, entry, key, value, options).await
            }
            put => put,
        }
    }

    async fn put(
        &self,
        reader: &Arc<ChunkReader>,
        entry: &Arc<SnapshotEntry>,
        key: &str,
        value: Option<Bytes>,
        options: StorageOptions,
    ) -> Result<()> {
        if let Some(value) = value {
            return self.writer().put(key, value, options).await.map(drop);
        }
        let (body, failed) = stream_value(Arc::clone(entry), Arc::clone(reader));
        let put = self.writer().put_stream(key, body, options).await.map(drop);
        match (put, failed.take()) {
            (Err(_), Some(error)) => Err(error),
            (put, _) => put,
        }
    }

    /// Writes an object whose key is no text.
    async fn write_raw(
        &self,
        entry: &SnapshotEntry,
        value: &Bytes,
        held: Option<Version>,
        exact: Option<Version>,
    ) -> Result<()> {
        let engine = match (&self.engine, self.opened.seal.is_encrypted()) {
            (Some(engine), false) => engine,
            (None, _) => return text(&entry.key).map(drop),
            (Some(_), true) => {
                return Err(StorageError::unsupported("a key that is no text cannot be encrypted"));
            }
        };
        let id = engine.namespace(&self.name)?;
        let metadata = entry.metadata.encode()?;
        let commit = {
            let mut transaction = engine.begin(&[(id, &entry.key)]);
            let found = transaction.head(id, &entry.key)?.map(|head| head.version);
            if found != held {
                return Err(StorageError::conflict("another writer was in the way"));
            }
            let expires_at_ms = entry.expires_at_ms;
            let options = WriteOptions { expires_at_ms, metadata: &metadata, version: exact };
            transaction.put(id, &entry.key, value.clone(), options)?;
            transaction.commit()?
        };
        engine.durable_async(commit.ticket).await
    }
}

/// Why a stream ended early.
#[derive(Clone, Default)]
pub(super) struct Failed(Arc<parking_lot::Mutex<Option<StorageError>>>);

impl Failed {
    fn take(&self) -> Option<StorageError> {
        self.0.lock().take()
    }
}

/// The value, compared with its SHA-256.
async fn read_value(entry: &SnapshotEntry, reader: &ChunkReader) -> Result<Bytes> {
    if let [only] = entry.chunks[..]
        && only == entry.digest
    {
        let value = reader.chunk(&only, Fetch::Pack).await?;
        return sized(value, entry.size);
    }
    let mut value = BytesMut::with_capacity(entry.size as usize);
    for digest in &entry.chunks {
        value.extend_from_slice(&reader.chunk(digest, Fetch::Pack).await?);
    }
    let value = value.freeze();
    let digest = entry.digest;
    let (value, whole) = super::super::aside(move || {
        let whole = Digest::of(&value) == digest;
        (value, whole)
    })
    .await?;
    match whole {
        true => sized(value, entry.size),
        false => Err(StorageError::corrupt("the value fails its SHA-256")),
    }
}

/// The value piece by piece; it fails at its end unless it was the right one.
fn stream_value(entry: Arc<SnapshotEntry>, reader: Arc<ChunkReader>) -> (ByteStream, Failed) {
    let (send, receive) = mpsc::channel(4);
    let failed = Failed::default();
    let told = failed.clone();
    tokio::spawn(async move {
        let mut whole = Hasher::new();
        let mut size = 0;
        for digest in &entry.chunks {
            match reader.chunk(digest, Fetch::Pack).await {
                Ok(chunk) => {
                    whole.update(&chunk);
                    size += chunk.len() as u64;
                    if send.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    *told.0.lock() = Some(error);
                    let _ = send.send(Err(io::Error::other("a chunk cannot be read"))).await;
                    return;
                }
            }
        }
        if size != entry.size || whole.finish() != entry.digest {
            *told.0.lock() = Some(StorageError::corrupt("the value fails its SHA-256"));
            let _ = send.send(Err(io::Error::other("the value fails its SHA-256"))).await;
        }
    });
    (Box::pin(Pieces(receive)), failed)
}

fn sized(value: Bytes, size: u64) -> Result<Bytes> {
    match value.len() as u64 == size {
        true => Ok(value),
        false => Err(StorageError::corrupt("the value has another size than the snapshot says")),
    }
}

/// Pieces of a value, as a stream.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

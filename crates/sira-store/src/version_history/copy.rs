//! Copying aside what a write is about to replace.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::{VersionedBackend, kept_key};
use crate::backend::{BatchOperation, ByteStream, ObjectHead, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::options::{Condition, Durability, StorageOptions};
use crate::version::Version;

/// Bytes of an object that are copied in one piece. Larger ones are copied piece by piece.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// What a key holds before a write.
pub(super) struct Held {
    pub(super) version: Option<Version>,
    /// Holds as long as the key holds that.
    pub(super) unchanged: Condition,
    /// The copy that is to be written with the write, or before it.
    pub(super) copy: Option<KeptCopy>,
}

/// The copy of an object, not written yet.
#[derive(Clone)]
pub(super) struct KeptCopy {
    pub(super) key: String,
    pub(super) value: Bytes,
    pub(super) options: StorageOptions,
}

impl KeptCopy {
    pub(super) fn into_operation(self) -> BatchOperation {
        BatchOperation::Put { key: self.key, value: self.value, options: self.options }
    }
}

impl Held {
    fn nothing() -> Self {
        Self { version: None, unchanged: Condition::IfAbsent, copy: None }
    }

    /// An object of which nothing is left to copy, or the copy is written already.
    fn at(version: Version) -> Self {
        Self { version: Some(version), unchanged: Condition::IfMatch(version), copy: None }
    }
}

impl VersionedBackend {
    /// What a key holds, ready to be kept. The copy of a large object is written at once.
    pub(super) async fn held(&self, key: &str, durability: Option<Durability>) -> Result<Held> {
        let first = ReadOptions { range: Some(0..PIECE_BYTES), ..ReadOptions::default() };
        let object = match self.reader.read(key, first).await {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(Held::nothing()),
            Err(StorageError::Corrupt(_)) => return self.held_damaged(key).await,
            Err(error) => return Err(error),
        };
        let options = self.copy_options(&object.head, durability);
        let held = Held::at(object.head.version);
        let kept_key = kept_key(key, object.head.version);
        if object.head.size <= object.value.len() as u64 {
            let copy = KeptCopy { key: kept_key, value: object.value, options };
            return Ok(Held { copy: Some(copy), ..held });
        }
        let pieces = pieces(Arc::clone(&self.reader), key.to_owned(), object.head, object.value);
        self.kept.put_stream(&kept_key, pieces, options).await.map_err(|error| {
            // The object was overwritten while it was copied, or a piece could not be read.
            StorageError::conflict(
                "the object could not be kept before the write, which has not been made; try again",
            )
            .with_source(error)
        })?;
        Ok(held)
    }

    /// Damaged bytes are not kept, and must not keep anybody from overwriting them.
    async fn held_damaged(&self, key: &str) -> Result<Held> {
        match self.reader.head(key).await {
            Ok(Some(head)) => Ok(Held::at(head.version)),
            Ok(None) => Ok(Held::nothing()),
            Err(StorageError::Corrupt(_)) => {
                Ok(Held { version: None, unchanged: Condition::Always, copy: None })
            }
            Err(error) => Err(error),
        }
    }

    fn copy_options(&self, head: &ObjectHead, durability: Option<Durability>) -> StorageOptions {
        let age_ms = self.keep.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let by_age = age_ms.map(|age_ms| self.env.now_ms().saturating_add(age_ms));
        StorageOptions {
            expires_at_ms: by_age.into_iter().chain(head.expires_at_ms).min(),
            metadata: head.metadata.clone(),
            durability,
            ..StorageOptions::default()
        }
    }
}

/// The bytes of an object of which the first piece is read, as long as it is of that version.
pub(super) fn pieces(
    backend: Arc<dyn StorageBackend>,
    key: String,
    head: ObjectHead,
    first: Bytes,
) -> ByteStream {
    let at = (Some(first), 0);
    Box::pin(stream::try_unfold(at, move |(ready, read)| {
        let (backend, key, head) = (Arc::clone(&backend), key.clone(), head.clone());
        async move {
            let piece = match ready {
                Some(piece) => piece,
                None if read >= head.size => return Ok(None),
                None => {
                    let range = Some(read..read + PIECE_BYTES);
                    let condition = Condition::IfMatch(head.version);
                    let object = backend.read(&key, ReadOptions { range, condition }).await;
                    let gone = || std::io::Error::other("the object was removed meanwhile");
                    object.map_err(std::io::Error::other)?.ok_or_else(gone)?.value
                }
            };
            let read = read + piece.len() as u64;
            Ok(Some((piece, (None, read))))
        }
    }))
}

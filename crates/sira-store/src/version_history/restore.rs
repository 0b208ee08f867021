//! Reading an earlier version, and making it the object again.

use std::ops::Range;
use std::sync::Arc;

use super::copy::pieces;
use super::{VersionedBackend, kept_key};
use crate::backend::{Object, ObjectHead, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Bytes of a version that are restored in one piece.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

impl VersionedBackend {
    /// A version of an object, or a range of it: the one that the key holds, or one that is kept;
    /// `None` where neither is.
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    pub async fn read_version(
        &self,
        key: &str,
        version: Version,
        range: Option<Range<u64>>,
    ) -> Result<Option<Object>> {
        let condition = Condition::IfMatch(version);
        match self.inner.read(key, ReadOptions { range: range.clone(), condition }).await {
            Ok(Some(object)) => return Ok(Some(object)),
            Ok(None) | Err(StorageError::PreconditionFailed(_)) => {}
            Err(error) => return Err(error),
        }
        let options = ReadOptions { range, condition: Condition::Always };
        let kept = self.kept.read(&kept_key(key, version), options).await;
        let kept = kept.map_err(|error| self.locate(error, key))?;
        Ok(kept.map(|object| Object { head: ObjectHead { version, ..object.head }, ..object }))
    }

    /// All but the bytes of a version.
    ///
    /// # Errors
    /// As [`StorageBackend::head`].
    pub async fn head_version(&self, key: &str, version: Version) -> Result<Option<ObjectHead>> {
        if let Some(head) = self.inner.head(key).await?.filter(|head| head.version == version) {
            return Ok(Some(head));
        }
        let kept = self.kept.head(&kept_key(key, version)).await;
        let kept = kept.map_err(|error| self.locate(error, key))?;
        Ok(kept.map(|head| ObjectHead { version, ..head }))
    }

    /// Makes a version the object again, with its metadata and without an expiry, and answers the
    /// version that it has now. What the key held meanwhile is kept in its turn.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] where the version is neither held nor kept; as
    /// [`StorageBackend::put`].
    pub async fn restore(&self, key: &str, version: Version) -> Result<Version> {
        let object = self.read_version(key, version, Some(0..PIECE_BYTES)).await?;
        let Some(Object { head, value, .. }) = object else {
            let missing = format!("version {version} of the object is not kept");
            return Err(self.locate(StorageError::not_found(missing), key));
        };
        let options =
            StorageOptions { metadata: head.metadata.clone(), ..StorageOptions::default() };
        if head.size <= value.len() as u64 {
            return self.put(key, value, options).await;
        }
        // Its copy may be aside, or the object itself, which the write before copies aside.
        let held = self.kept.head(&kept_key(key, version)).await?;
        let (backend, name, head) = match held {
            Some(kept) => (&self.kept, kept_key(key, version), kept),
            None => (&self.reader, key.to_owned(), head),
        };
        self.put_stream(key, pieces(Arc::clone(backend), name, head, value), options).await
    }
}

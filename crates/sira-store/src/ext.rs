//! Shorthands over every backend.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::{ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Shorthands over [`StorageBackend`], for every backend.
///
/// ```
/// use sira_store::{MemoryBackend, StorageBackend, StorageBackendExt};
///
/// # pollster::block_on(async {
/// let store = MemoryBackend::new(1 << 20);
/// let first = store.put_bytes("count", "1").await?;
/// assert_eq!(store.put_if_absent("count", "7").await?, None);
/// assert!(store.compare_and_swap("count", Some(first), "2").await?.is_some());
/// assert_eq!(store.compare_and_swap("count", Some(first), "3").await?, None);
/// assert_eq!(store.get_string("count").await?.as_deref(), Some("2"));
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
pub trait StorageBackendExt: StorageBackend {
    /// Writes an object with default options.
    ///
    /// # Errors
    /// As [`StorageBackend::put`].
    fn put_bytes(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
    ) -> impl Future<Output = Result<Version>> + Send {
        let value = value.into();
        async move { self.put(key, value, StorageOptions::default()).await }
    }

    /// Writes an object that is gone after `ttl`.
    ///
    /// # Errors
    /// As [`StorageBackend::put`].
    fn put_for(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
        ttl: Duration,
    ) -> impl Future<Output = Result<Version>> + Send {
        let options = StorageOptions { ttl: Some(ttl), ..StorageOptions::default() };
        let value = value.into();
        async move { self.put(key, value, options).await }
    }

    /// Writes an object if the key holds none; `None` when it holds one.
    ///
    /// # Errors
    /// As [`StorageBackend::put`], but for the condition.
    fn put_if_absent(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
    ) -> impl Future<Output = Result<Option<Version>>> + Send {
        self.compare_and_swap(key, None, value)
    }

    /// Writes an object if the key holds the version `expected`, or no object with `None`. Answers
    /// the new version, or `None` when the key holds something else.
    ///
    /// # Errors
    /// As [`StorageBackend::put`], but for the condition.
    fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: impl Into<Bytes> + Send,
    ) -> impl Future<Output = Result<Option<Version>>> + Send {
        let condition = expected.map_or(Condition::IfAbsent, Condition::IfMatch);
        let options = StorageOptions { condition, ..StorageOptions::default() };
        let value = value.into();
        async move { unless_refused(self.put(key, value, options).await) }
    }

    /// Removes the object if the key holds the version `expected`, and says whether it did.
    ///
    /// # Errors
    /// As [`StorageBackend::remove`], but for the condition.
    fn compare_and_delete(
        &self,
        key: &str,
        expected: Version,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let removed = self.remove(key, Condition::IfMatch(expected)).await;
            Ok(unless_refused(removed)?.unwrap_or(false))
        }
    }

    /// A range of the bytes under a key, see [`ReadOptions::range`].
    ///
    /// # Errors
    /// As [`StorageBackend::read`].
    fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        let options = ReadOptions { range: Some(range), ..ReadOptions::default() };
        async move { Ok(self.read(key, options).await?.map(|object| object.value)) }
    }

    /// The text under a key.
    ///
    /// # Errors
    /// As [`StorageBackend::get`]; [`StorageError::InvalidInput`] when the bytes are not UTF-8.
    fn get_string(&self, key: &str) -> impl Future<Output = Result<Option<String>>> + Send {
        async move {
            let Some(value) = self.get(key).await? else { return Ok(None) };
            String::from_utf8(value.into()).map(Some).map_err(|error| {
                StorageError::invalid_input("the value is not UTF-8 text; read it as bytes")
                    .with_key(key)
                    .with_source(error)
            })
        }
    }

    /// Reads what [`StorageBackendExt::put_json`] wrote.
    ///
    /// # Errors
    /// As [`StorageBackend::get`]; [`StorageError::InvalidInput`] when the bytes are not JSON of
    /// this type.
    fn get_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        async move {
            let Some(value) = self.get(key).await? else { return Ok(None) };
            serde_json::from_slice(&value).map(Some).map_err(|error| {
                StorageError::invalid_input("the value is not JSON of the type that was asked for")
                    .with_key(key)
                    .with_source(error)
            })
        }
    }

    /// Writes `item` as JSON, with the media type `application/json`.
    ///
    /// # Errors
    /// As [`StorageBackend::put`]; [`StorageError::InvalidInput`] when `item` has no JSON form.
    fn put_json<T: Serialize + Sync>(
        &self,
        key: &str,
        item: &T,
    ) -> impl Future<Output = Result<Version>> + Send {
        async move {
            let value = serde_json::to_vec(item).map_err(|error| {
                StorageError::invalid_input("the item has no JSON form")
                    .with_key(key)
                    .with_source(error)
            })?;
            let content_type = Some("application/json".to_owned());
            let metadata = Metadata { content_type, ..Metadata::default() };
            let options = StorageOptions { metadata, ..StorageOptions::default() };
            self.put(key, value.into(), options).await
        }
    }
}

impl<B: StorageBackend + ?Sized> StorageBackendExt for B {}

/// `None` in place of a condition that did not hold.
fn unless_refused<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(StorageError::PreconditionFailed(_)) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests;

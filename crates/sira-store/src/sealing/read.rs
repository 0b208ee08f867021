//! Reading: whole objects, and ranges by the segments that they touch.

use std::ops::Range;

use bytes::Bytes;

use super::{BLOCKING_BYTES_MIN, SealingBackend, aside};
use crate::backend::{Object, ObjectHead, ReadOptions};
use crate::error::{Result, StorageError};
use crate::key::{check_range, check_range_start};
use crate::options::Condition;
use crate::seal::Seal;

/// Times that a range is looked for while others write the object; after that the whole is read.
const RANGE_TRIES: usize = 3;

/// The seal of an object that has one.
pub(super) fn seal_of(head: &ObjectHead) -> Result<Option<Seal>> {
    head.metadata.seal.as_deref().map(Seal::decode).transpose()
}

/// Turns the head of what is stored into that of the object, and gives its seal.
pub(super) fn describe(head: &mut ObjectHead) -> Result<Option<Seal>> {
    let Some(seal) = seal_of(head)? else { return Ok(None) };
    head.size = seal.plain_bytes();
    head.metadata.seal = None;
    Ok(Some(seal))
}

impl SealingBackend {
    pub(super) async fn load(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let ReadOptions { range, condition } = options;
        let Some(range) = range else {
            let whole = ReadOptions { range: None, condition };
            return match self.inner.read(key, whole).await? {
                Some(stored) => self.open(key, stored).await.map(Some),
                None => Ok(None),
            };
        };
        check_range(&range)?;
        if self.inner.capabilities().range {
            for _ in 0..RANGE_TRIES {
                if let Some(found) = self.load_range(key, &range, condition).await? {
                    return Ok(found);
                }
            }
        }
        let whole = ReadOptions { range: None, condition };
        let Some(stored) = self.inner.read(key, whole).await? else { return Ok(None) };
        let mut object = self.open(key, stored).await?;
        check_range_start(range.start, object.head.size)?;
        object.range = range.start..range.end.min(object.head.size);
        // Both are at most the size, which is a `usize`.
        object.value = object.value.slice(object.range.start as usize..object.range.end as usize);
        Ok(Some(object))
    }

    /// Reads a range by the seal that is there; `None` when the object was another by then.
    async fn load_range(
        &self,
        key: &str,
        range: &Range<u64>,
        condition: Condition,
    ) -> Result<Option<Option<Object>>> {
        let Some(mut head) = self.inner.head(key).await? else {
            return condition.require(None).map(|()| Some(None));
        };
        condition.require(Some(head.version))?;
        let seal = describe(&mut head)?;
        check_range_start(range.start, head.size)?;
        let stored = seal.as_ref().map_or_else(|| range.clone(), |seal| seal.stored_range(range));
        let options = ReadOptions { range: Some(stored), condition: Condition::Always };
        let object = match self.inner.read(key, options).await {
            Ok(Some(object)) if object.head.version == head.version => object,
            // The range fitted what was there before.
            Ok(_) | Err(StorageError::InvalidInput(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(seal) = seal else { return Ok(Some(Some(object))) };
        let range = range.start..range.end.min(head.size);
        let value = self.open_value(key, &head, seal, range.clone(), object.value).await?;
        Ok(Some(Some(Object { head, value, range })))
    }

    /// The object that a whole stored one is.
    pub(super) async fn open(&self, key: &str, stored: Object) -> Result<Object> {
        let Object { mut head, value, range } = stored;
        let Some(seal) = describe(&mut head)? else { return Ok(Object { head, value, range }) };
        let range = 0..head.size;
        let value = self.open_value(key, &head, seal, range.clone(), value).await?;
        Ok(Object { head, value, range })
    }

    /// Bytes of the value, opened on a thread for it when they are many.
    async fn open_value(
        &self,
        key: &str,
        head: &ObjectHead,
        seal: Seal,
        range: Range<u64>,
        stored: Bytes,
    ) -> Result<Bytes> {
        let version = head.version;
        let bytes = range.end - range.start;
        if bytes.max(stored.len() as u64) < BLOCKING_BYTES_MIN as u64 {
            return seal.open_range(range, &stored, &self.keyring, &self.binding(key, version));
        }
        let (own, key) = (self.clone(), key.to_owned());
        aside(move || seal.open_range(range, &stored, &own.keyring, &own.binding(&key, version)))
            .await?
    }
}

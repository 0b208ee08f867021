//! Where the objects of a namespace are read from: a backend, or the embedded engine by the
//! namespace's number, which stays with its objects whatever name they get meanwhile.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::source::object_of;
use crate::backend::{ListOptions, Object, ReadOptions, StorageBackend};
use crate::embedded::{Engine, NamespaceId};
use crate::error::{Result, StorageError};
use crate::options::Condition;
use crate::version::Version;

/// The objects of a namespace.
#[derive(Clone)]
pub(super) enum Origin {
    Engine { engine: Arc<Engine>, id: NamespaceId },
    Backend(Arc<dyn StorageBackend>),
}

/// A key of a listing.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) key: Vec<u8>,
    /// Bytes of the value as it is stored.
    pub(super) size: u64,
    pub(super) version: Option<Version>,
}

impl Origin {
    /// A page of keys behind one, and behind what the next page begins; `None` on the last.
    pub(super) async fn page(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Listed>, Option<Vec<u8>>)> {
        match self {
            Self::Engine { engine, id } => {
                let mut page = Vec::with_capacity(limit);
                engine.scan(*id, b"", after, |entry| {
                    page.push(Listed { key: entry.key.to_vec(), size: entry.size, version: None });
                    match page.len() < limit {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
                let next = page.last().filter(|_| page.len() >= limit);
                let next = next.map(|last| last.key.clone());
                Ok((page, next))
            }
            Self::Backend(backend) => {
                let start_after = after.map(text).transpose()?.map(str::to_owned);
                let options = ListOptions { start_after, limit, ..ListOptions::default() };
                let page = backend.list(options).await?;
                let next = page.next.map(String::into_bytes);
                let listed = page.entries.into_iter().map(|entry| Listed {
                    key: entry.key.into_bytes(),
                    size: entry.size,
                    version: entry.version,
                });
                Ok((listed.collect(), next))
            }
        }
    }

    /// The version under a key.
    pub(super) async fn version(&self, key: &[u8]) -> Result<Option<Version>> {
        Ok(match self {
            Self::Engine { engine, id } => engine.head(*id, key)?.map(|head| head.version),
            Self::Backend(backend) => backend.head(text(key)?).await?.map(|head| head.version),
        })
    }

    /// What is stored under a key.
    pub(super) async fn read(&self, key: &[u8]) -> Result<Option<Object>> {
        match self {
            Self::Engine { engine, id } => engine.get(*id, key)?.map(object_of).transpose(),
            Self::Backend(backend) => backend.read(text(key)?, ReadOptions::default()).await,
        }
    }

    /// Opens one version of a large value that is stored as it is; `None` where it is read whole.
    pub(super) async fn open_large(&self, key: &[u8]) -> Result<Option<Large>> {
        match self {
            Self::Engine { engine, id } => {
                let Some(reader) = engine.open_object(*id, key)? else { return Ok(None) };
                let head = object_of(reader.head().clone())?.head;
                let reads = Reads::Engine(Arc::new(reader));
                Ok(head.metadata.seal.is_none().then_some(Large { head, reads }))
            }
            Self::Backend(backend) => {
                if !backend.capabilities().range {
                    return Ok(None);
                }
                let key = text(key)?;
                let Some(head) = backend.head(key).await? else { return Ok(None) };
                let reads = Reads::Backend(Arc::clone(backend), key.to_owned());
                Ok(head.metadata.seal.is_none().then_some(Large { head, reads }))
            }
        }
    }
}

/// One version of a large value.
pub(super) struct Large {
    pub(super) head: crate::backend::ObjectHead,
    reads: Reads,
}

enum Reads {
    Engine(Arc<crate::embedded::ObjectReader>),
    Backend(Arc<dyn StorageBackend>, String),
}

impl Large {
    /// A range of the value.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when another version has taken its place.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let value = match &self.reads {
            Reads::Engine(reader) => {
                let reader = Arc::clone(reader);
                super::aside(move || reader.read(range)).await??
            }
            Reads::Backend(backend, key) => {
                let condition = Condition::IfMatch(self.head.version);
                let options = ReadOptions { range: Some(range), condition };
                let object = backend.read(key, options).await?.ok_or_else(|| {
                    StorageError::precondition_failed("the object was removed while it was read")
                })?;
                object.value
            }
        };
        match value.len() as u64 == wanted {
            true => Ok(value),
            false => Err(StorageError::corrupt("the object is shorter than it says")),
        }
    }
}

/// A key of a backend that knows texts only.
pub(super) fn text(key: &[u8]) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| {
        StorageError::unsupported("the key is no text, and only the embedded engine has such keys")
    })
}

//! How far a replication has come, kept in a backend.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::StorageBackend;
use crate::changes::ChangePosition;
use crate::error::{Result, StorageError};
use crate::options::{Durability, StorageOptions};

/// First byte of a stored mark.
const FORMAT: u8 = 1;

/// Second byte, which tells it from the objects of a ledger.
const KIND: u8 = 3;

/// Bytes of the checksum at its end.
const CRC_BYTES: usize = 4;

/// Where the place is kept that a replication has reached: an object of a backend. It belongs to one
/// source and one target.
#[derive(Debug, Clone)]
pub struct ReplicationMark {
    backend: Arc<dyn StorageBackend>,
    key: String,
}

/// A place in the change log of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The place is lost: a pass over all keys is to come first.
    pub(super) passing: bool,
    pub(super) position: ChangePosition,
}

impl Mark {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, KIND, u8::from(self.passing), 0];
        out.extend_from_slice(&self.position.0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let wrong = |what| {
            StorageError::corrupt(format!(
                "the mark of the replication cannot be read: it has {what}. Delete it to begin with \
                 a pass over all keys"
            ))
        };
        let Some((covered, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(wrong("too few bytes"));
        };
        match covered {
            [format, ..] if *format != FORMAT => Err(StorageError::unsupported(format!(
                "the mark of the replication has format {format}, and this version of Sira reads \
                 format {FORMAT}"
            ))),
            _ if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) => {
                Err(wrong("a wrong checksum"))
            }
            [_, KIND, passing, _, position @ ..] => Ok(Self {
                passing: *passing != 0,
                position: ChangePosition(Bytes::copy_from_slice(position)),
            }),
            _ => Err(wrong("another kind")),
        }
    }
}

impl ReplicationMark {
    /// A mark that is kept under a key of a backend, which should keep what it acknowledges.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>, key: impl Into<String>) -> Self {
        Self { backend, key: key.into() }
    }

    /// Forgets the place: the next run begins with a pass over all keys. To be called after the
    /// target was restored or replaced.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn delete(&self) -> Result<()> {
        self.backend.delete(&self.key).await.map(drop)
    }

    pub(super) async fn load(&self) -> Result<Option<Mark>> {
        let stored = self.backend.get(&self.key).await?;
        stored.map(|bytes| Mark::decode(&bytes)).transpose().map_err(|e| e.with_key(&self.key))
    }

    pub(super) async fn store(&self, mark: &Mark) -> Result<()> {
        let durability = Some(Durability::Sync);
        let options = StorageOptions { durability, ..StorageOptions::default() };
        self.backend.put(&self.key, mark.encode().into(), options).await.map(drop)
    }
}

#[cfg(test)]
mod tests;

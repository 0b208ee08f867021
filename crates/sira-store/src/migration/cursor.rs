//! Where a walk over keys has come to, kept in a backend.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::StorageBackend;
use crate::error::{Result, StorageError};
use crate::options::StorageOptions;

/// First byte of a stored cursor.
const FORMAT: u8 = 1;

/// A place in the order of keys, kept as an object.
#[derive(Debug, Clone)]
pub struct Cursor {
    backend: Arc<dyn StorageBackend>,
    key: String,
}

impl Cursor {
    /// A cursor that is kept under a key of a backend.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>, key: impl Into<String>) -> Self {
        Self { backend, key: key.into() }
    }

    /// The key that the walk has reached; everything up to it is done.
    ///
    /// # Errors
    /// Those of the backend; [`StorageError::Corrupt`] for an object that is no cursor.
    pub async fn load(&self) -> Result<Option<String>> {
        let Some(bytes) = self.backend.get(&self.key).await? else { return Ok(None) };
        match bytes.split_first() {
            Some((&FORMAT, key)) => {
                let key = std::str::from_utf8(key).map_err(|error| wrong().with_source(error))?;
                Ok((!key.is_empty()).then(|| key.to_owned()))
            }
            _ => Err(wrong()),
        }
    }

    /// Puts down that everything up to a key is done.
    pub(super) async fn store(&self, key: Option<&str>) -> Result<()> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(key.unwrap_or_default().as_bytes());
        self.backend.put(&self.key, Bytes::from(bytes), StorageOptions::default()).await?;
        Ok(())
    }

    /// Puts down that everything before a key is done.
    pub(super) async fn store_before(&self, key: &str) -> Result<()> {
        // The greatest text that sorts before the key and is shorter: without its last character.
        let mut chars = key.chars();
        chars.next_back();
        self.store(Some(chars.as_str())).await
    }

    /// The walk has come to its end.
    pub(super) async fn finish(&self) -> Result<()> {
        self.backend.delete(&self.key).await?;
        Ok(())
    }
}

fn wrong() -> StorageError {
    StorageError::corrupt("the stored cursor cannot be read; delete it to begin from the start")
}

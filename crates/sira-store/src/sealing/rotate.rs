//! Rotation: stored values get a seal of the current key, without being opened.

use super::read::seal_of;
use super::{SealingBackend, TRIES};
use crate::backend::{ListOptions, ReadOptions};
use crate::error::{Result, StorageError};
use crate::options::{Condition, StorageOptions};

/// What a rotation of a namespace did.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Objects that have a seal of the current key now.
    pub rotated: u64,
    /// Objects that had one, or are not encrypted, or were gone by the time they were looked at.
    pub unchanged: u64,
    /// Objects that could not be changed. While there are any, the older keys must be kept.
    pub failed: u64,
    /// Why the first of those could not be.
    pub first_failure: Option<StorageError>,
}

impl SealingBackend {
    /// Wraps the key of an encrypted object with the current key of the keyring, and says whether
    /// that was needed and done. The object gets a new version; its bytes, metadata and expiry stay.
    /// Writers go on meanwhile: what one writes in between is left to them.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] and [`StorageError::PermissionDenied`] when the seal does not open
    /// with the keyring, [`StorageError::Unsupported`] where the backend has no conditions,
    /// [`StorageError::Conflict`] when others write the object all the time, and the backend's own.
    pub async fn rotate(&self, key: &str) -> Result<bool> {
        self.rotate_one(key).await.map_err(|error| self.locate(error, key))
    }

    async fn rotate_one(&self, key: &str) -> Result<bool> {
        let capabilities = self.inner.capabilities();
        if !capabilities.conditional || !capabilities.exact_versions {
            return Err(StorageError::unsupported(format!(
                "{} has no conditions or takes no versions, so objects cannot be changed while \
                 others write them",
                capabilities.name
            )));
        }
        let (current, _) = self.keyring.to_encrypt("")?;
        let needed = |seal: Option<crate::seal::Seal>| {
            seal.filter(|seal| seal.encryption().is_some_and(|(_, id)| id != current))
        };
        for _ in 0..TRIES {
            // Most objects are looked at in vain, so their bytes are not read first.
            let Some(head) = self.inner.head(key).await? else { return Ok(false) };
            if needed(seal_of(&head)?).is_none() {
                return Ok(false);
            }
            let Some(stored) = self.inner.read(key, ReadOptions::default()).await? else {
                return Ok(false);
            };
            let Some(seal) = needed(seal_of(&stored.head)?) else { return Ok(false) };
            let held = stored.head.version;
            self.clock.versions.observe(held);
            let version = self.clock.draw();
            let seal = seal.rewrap(&self.keyring, &self.binding(key, held), version, current)?;
            let mut metadata = stored.head.metadata;
            metadata.seal = Some(seal.encode()?);
            let options = StorageOptions {
                metadata,
                version: Some(version),
                condition: Condition::IfMatch(held),
                expires_at_ms: stored.head.expires_at_ms,
                ..StorageOptions::default()
            };
            match self.inner.put(key, stored.value, options).await {
                Ok(_) => return Ok(true),
                // Written, removed or expired meanwhile.
                Err(StorageError::PreconditionFailed(_) | StorageError::Conflict(_)) => {}
                Err(StorageError::InvalidInput(_)) if stored.head.expires_at_ms.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::conflict(
            "others write the object all the time; what they write has the current key",
        ))
    }

    /// Wraps the keys of all encrypted objects of the namespace with the current key. Objects that
    /// cannot be changed are counted and passed over. It can be stopped and begun again at any time.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the backend does not list, and those of listings.
    pub async fn rotate_all(&self) -> Result<Rotation> {
        let mut rotation = Rotation::default();
        let mut start_after = None;
        loop {
            let options = ListOptions { start_after, ..ListOptions::default() };
            let page = self.inner.list(options).await?;
            for entry in page.entries {
                match self.rotate(&entry.key).await {
                    Ok(true) => rotation.rotated += 1,
                    Ok(false) => rotation.unchanged += 1,
                    Err(error) => {
                        rotation.failed += 1;
                        rotation.first_failure.get_or_insert(error);
                    }
                }
            }
            start_after = page.next;
            if start_after.is_none() {
                return Ok(rotation);
            }
        }
    }
}

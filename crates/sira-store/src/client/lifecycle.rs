//! A namespace as rules of the lifecycle work on it.

use std::sync::Arc;

use super::StorageClient;
use crate::backend::{ObjectHead, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::limits::EXACT_VERSION_END;
use crate::options::{CompressionType, Condition, EncryptionType, StorageOptions};
use crate::placement::PlacedBackend;
use crate::seal::{Cipher, Codec, Seal, worth_compressing};
use crate::version::Version;

/// A namespace as rules of the lifecycle work on it.
#[derive(Debug)]
pub(crate) struct LifecycleSpace {
    /// As callers see it.
    pub(crate) backend: Arc<dyn StorageBackend>,
    /// The same past what fills in defaults and keeps versions.
    sealed: Arc<dyn StorageBackend>,
    /// What is stored, past cache and seal.
    stored: Arc<dyn StorageBackend>,
    placed: Option<Arc<PlacedBackend>>,
    at: Option<Arc<str>>,
    keeps_versions: bool,
    direct: bool,
}

impl StorageClient {
    pub(crate) async fn lifecycle_space(&self) -> Result<LifecycleSpace> {
        let view = self.view().await?;
        let stored = self.stored().await?.stored;
        let plan = self.plan();
        Ok(LifecycleSpace {
            backend: Arc::clone(&view.backend),
            sealed: Arc::clone(&view.sealed),
            stored,
            placed: view.placed.clone(),
            at: view.at.clone(),
            keeps_versions: view.versions.is_some(),
            direct: plan.namespaces.get(self.name()).is_some_and(|policy| policy.direct),
        })
    }
}

impl LifecycleSpace {
    /// Moves an object to a backend, unless it lies there.
    pub(crate) async fn relocate(&self, key: &str, to: &str, dry_run: bool) -> Result<bool> {
        let Some(placed) = &self.placed else {
            return match self.at.as_deref() == Some(to) {
                true => Ok(false),
                false => Err(StorageError::unsupported(
                    "the namespace lies on one backend, and no catalog finds its objects elsewhere",
                )),
            };
        };
        if placed.place(key).await? == to {
            return Ok(false);
        }
        if !dry_run {
            placed.relocate(key, to).await?;
        }
        Ok(true)
    }

    /// Compresses an object and answers the bytes that this saves; `None` where there is nothing to
    /// gain, or nothing that may be changed.
    pub(crate) async fn compress(
        &self,
        key: &str,
        head: &ObjectHead,
        level: i32,
        dry_run: bool,
    ) -> Result<Option<u64>> {
        if self.keeps_versions || self.direct {
            return Err(StorageError::unsupported(
                "objects of the namespace keep the bytes and versions that they have: it keeps \
                 versions, or is direct",
            ));
        }
        let Some(stored) = self.stored.head(key).await? else { return Ok(None) };
        let seal = stored.metadata.seal.as_deref().map(Seal::decode).transpose()?;
        if seal.as_ref().is_some_and(|seal| seal.codec() == Codec::Zstd) {
            return Ok(None);
        }
        let condition = Condition::IfMatch(head.version);
        let Some(object) = self.sealed.read(key, ReadOptions { range: None, condition }).await?
        else {
            return Ok(None);
        };
        if !worth_compressing(&object.value) {
            return Ok(None);
        }
        let before = seal.as_ref().map_or(head.size, Seal::stored_bytes);
        if dry_run {
            return Ok(Some(0));
        }
        let encryption = seal.as_ref().and_then(Seal::encryption);
        let options = StorageOptions {
            expires_at_ms: head.expires_at_ms,
            compression: CompressionType::Zstd,
            compression_level: Some(level),
            encryption: match encryption {
                None => EncryptionType::None,
                Some((Cipher::Aes256Gcm, _)) => EncryptionType::Aes256Gcm { key_id: String::new() },
                Some((Cipher::ChaCha20Poly1305, _)) => {
                    EncryptionType::ChaCha20Poly1305 { key_id: String::new() }
                }
            },
            condition,
            metadata: head.metadata.clone(),
            version: next(head.version),
            ..StorageOptions::default()
        };
        self.sealed.put(key, object.value, options).await?;
        let after = match self.stored.head(key).await? {
            Some(stored) => stored.size,
            None => before,
        };
        Ok(Some(before.saturating_sub(after)))
    }
}

/// The version after one, of the same time, so that the object is as old as it was.
fn next(version: Version) -> Option<Version> {
    let next = Version::from_u64(version.as_u64().saturating_add(1));
    (next.as_u64() < EXACT_VERSION_END && next.time_ms() == version.time_ms()).then_some(next)
}

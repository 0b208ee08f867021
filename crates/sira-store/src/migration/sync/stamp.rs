//! Stored bytes under another key or version. Encrypted ones are bound to both.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::Object;
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::{CompressionType, EncryptionType};
use crate::seal::{Binding, Cipher, Codec, Keyring, Seal, SealOptions, Sealed, seal};
use crate::version::Version;

/// Keys of encrypted objects, where they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamp(Option<(Arc<Keyring>, Arc<str>)>);

impl Stamp {
    pub(super) fn new(keyring: Arc<Keyring>, namespace: &str) -> Self {
        Self(Some((keyring, namespace.into())))
    }

    /// What to store in the place of an object's value and metadata.
    pub(super) fn restamp(
        &self,
        object: Object,
        key: &str,
        to_key: &str,
        version: Version,
    ) -> Result<(Bytes, Metadata)> {
        let Object { head, value, .. } = object;
        let mut metadata = head.metadata;
        let Some(bytes) = metadata.seal.as_deref() else { return Ok((value, metadata)) };
        let old = Seal::decode(bytes)?;
        let Some((cipher, key_id)) = old.encryption() else { return Ok((value, metadata)) };
        let Some((keyring, namespace)) = &self.0 else {
            return Err(StorageError::unsupported(
                "both sides have changed an encrypted object, and the rule has it stored anew, which \
                 takes its key: let the newest win, or run the sync where the keyring is",
            ));
        };
        let binding = Binding { namespace, key, version: head.version };
        if key == to_key {
            metadata.seal = Some(old.rewrap(keyring, &binding, version, key_id)?.encode()?);
            return Ok((value, metadata));
        }
        let plain = old.open(&value, keyring, &binding)?;
        let key_id = key_id.to_owned();
        let how = SealOptions {
            compression: match old.codec() {
                Codec::None => CompressionType::None,
                Codec::Gzip => CompressionType::Gzip,
                Codec::Zstd => CompressionType::Zstd,
                Codec::Lz4 => CompressionType::Lz4,
            },
            compression_level: None,
            encryption: match cipher {
                Cipher::Aes256Gcm => EncryptionType::Aes256Gcm { key_id },
                Cipher::ChaCha20Poly1305 => EncryptionType::ChaCha20Poly1305 { key_id },
            },
        };
        let sealed = seal(&plain, &how, keyring, &Binding { namespace, key: to_key, version })?;
        let Some(Sealed { seal, payload }) = sealed else {
            return Err(StorageError::unsupported("an encrypted value was sealed without a key"));
        };
        metadata.seal = Some(seal.encode()?);
        Ok((payload, metadata))
    }
}

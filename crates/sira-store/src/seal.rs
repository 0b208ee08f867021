//! Sealing: compression and encryption of values.
//!
//! [`seal`] turns a value into the bytes to store and a [`Seal`] that says what they are;
//! [`Seal::open`] and [`Seal::open_range`] undo it. The bytes go to any backend as an object's value,
//! the seal goes with them in [`Metadata::seal`](crate::Metadata::seal). [`crate::SealingBackend`]
//! does both for every backend.
//!
//! A value is cut into segments of [`SEAL_SEGMENT_BYTES`]. Each is compressed by itself, unless that
//! makes it no smaller, and encrypted by itself, so that a range opens the segments it touches and no
//! others. Every value is encrypted with a random key of its own, which lies in the seal, wrapped
//! with a key of the [`Keyring`]: to change that key, [`Seal::rewrap`] makes a new seal for the same
//! bytes.
//!
//! Encrypted bytes open only as the object that they were sealed as: in their namespace, under their
//! key, whole, in order, with a seal of the object's version. Anything else is
//! [`StorageError::Corrupt`], and nothing of the value is given out.

mod cipher;
mod codec;
mod header;
mod keyring;
mod open;
mod pool;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::error::{Result, StorageError};
use crate::limits::{SEAL_SEGMENT_BYTES, VALUE_BYTES_MAX};
use crate::options::{CompressionType, EncryptionType, StorageOptions};
use crate::version::Version;
use cipher::{DataKey, SALT_BYTES, Secret, SegmentKey, TAG_BYTES, WRAPPED_BYTES, random};
use codec::Encoder;
use header::{Encrypted, Protection, Segment};

pub use cipher::{Cipher, KEY_BYTES};
pub(crate) use codec::worth_compressing;
pub use codec::{Codec, check_level};
pub use header::Seal;
pub use keyring::{KEY_ID_BYTES_MAX, Keyring};

/// Which object a value is: encrypted bytes open as this one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Name of the namespace.
    pub namespace: &'a str,
    /// The key.
    pub key: &'a str,
    /// Version of the object.
    pub version: Version,
}

/// How to seal a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealOptions {
    /// What makes it smaller.
    pub compression: CompressionType,
    /// How hard to try, see [`StorageOptions::compression_level`].
    pub compression_level: Option<i32>,
    /// What hides it.
    pub encryption: EncryptionType,
}

impl SealOptions {
    /// What the options of a write ask for.
    #[must_use]
    pub fn of(options: &StorageOptions) -> Self {
        Self {
            compression: options.compression,
            compression_level: options.compression_level,
            encryption: options.encryption.clone(),
        }
    }

    /// Whether values are stored as they come.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.compression == CompressionType::None && !self.is_encrypted()
    }

    /// Whether values are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encryption != EncryptionType::None
    }

    /// Checks that a value can be sealed in this way.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a level that the codec has not, and for a key that is not
    /// in the keyring.
    pub fn check(&self, keyring: &Keyring) -> Result<()> {
        check_level(self.compression, self.compression_level)?;
        self.cipher(keyring).map(drop)
    }

    fn cipher<'k>(
        &self,
        keyring: &'k Keyring,
    ) -> Result<Option<(Cipher, &'k str, &'k [u8; KEY_BYTES])>> {
        let (cipher, id) = match &self.encryption {
            EncryptionType::None => return Ok(None),
            EncryptionType::Aes256Gcm { key_id } => (Cipher::Aes256Gcm, key_id),
            EncryptionType::ChaCha20Poly1305 { key_id } => (Cipher::ChaCha20Poly1305, key_id),
        };
        keyring.to_encrypt(id).map(|(id, key)| Some((cipher, id, key)))
    }
}

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What the bytes are.
    pub seal: Seal,
    /// The bytes to store.
    pub payload: Bytes,
}

/// Seals a value; `None` when it is best stored as it is, because compression saves nothing and
/// encryption was not asked for. With its seal a value that is not encrypted never takes more bytes
/// than it has.
///
/// # Errors
/// As [`SealOptions::check`]; [`StorageError::TooLarge`] for a value of more than [`VALUE_BYTES_MAX`].
pub fn seal(
    value: &[u8],
    options: &SealOptions,
    keyring: &Keyring,
    object: &Binding<'_>,
) -> Result<Option<Sealed>> {
    check_level(options.compression, options.compression_level)?;
    let cipher = options.cipher(keyring)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(StorageError::too_large(format!(
            "a value to compress or encrypt may have up to {VALUE_BYTES_MAX} bytes, this one has {}",
            value.len()
        )));
    }
    let (codec, level) = Codec::choose(options.compression, options.compression_level, value);
    if codec == Codec::None && cipher.is_none() {
        return Ok(None);
    }
    let lock = cipher.map(|cipher| Lock::new(cipher, value, object)).transpose()?;

    let mut encoder = Encoder::new(codec, level);
    let count = value.len().div_ceil(SEAL_SEGMENT_BYTES).max(usize::from(lock.is_some()));
    let mut segments = Vec::with_capacity(count);
    let mut payload = Vec::new();
    if codec == Codec::None {
        payload.reserve_exact(value.len() + count * TAG_BYTES);
    }
    for number in 0..count {
        let start = number * SEAL_SEGMENT_BYTES;
        let end = value.len().min(start + SEAL_SEGMENT_BYTES);
        let plain = value.get(start..end).unwrap_or_default();
        let encoded = encoder.encode(plain);
        let raw = encoded.is_none();
        let begin = payload.len();
        payload.extend_from_slice(encoded.unwrap_or(plain));
        let added = payload.get_mut(begin..).unwrap_or_default();
        if let Some(lock) = &lock {
            let tag = lock.segments.seal(number as u32, number + 1 == count, added)?;
            payload.extend_from_slice(&tag);
        }
        let stored = payload.get(begin..).unwrap_or_default();
        segments.push(Segment {
            stored_bytes: stored.len() as u32,
            raw,
            checksum: crc32c::crc32c(stored),
        });
    }
    payload.shrink_to_fit();

    let codec = if segments.iter().all(|segment| segment.raw) { Codec::None } else { codec };
    let protection = match &lock {
        None => Protection::Checksum(crc32c::crc32c(value)),
        Some(lock) => lock.protection(object)?,
    };
    let plain_bytes = value.len() as u64;
    let mut seal = Seal { codec, plain_bytes, segments, protection };
    if let Some(lock) = &lock {
        seal.wrap(&lock.secret, lock.key, object)?;
    }
    let seal_bytes = seal.encode()?.len();
    if lock.is_none() && payload.len() + seal_bytes >= value.len() {
        return Ok(None);
    }
    Ok(Some(Sealed { seal, payload: payload.into() }))
}

/// The keys of a value that is being encrypted.
struct Lock<'k> {
    cipher: Cipher,
    key_id: &'k str,
    /// The keyring's.
    key: &'k [u8; KEY_BYTES],
    segments: SegmentKey,
    secret: Secret,
    salt: [u8; SALT_BYTES],
}

impl<'k> Lock<'k> {
    fn new(
        (cipher, key_id, key): (Cipher, &'k str, &'k [u8; KEY_BYTES]),
        value: &[u8],
        object: &Binding<'_>,
    ) -> Result<Self> {
        // Drawn at once: a call costs more than the bytes.
        let drawn = random::<{ KEY_BYTES + SALT_BYTES }>()?;
        let (mut bytes, mut salt) = (Zeroizing::new([0; KEY_BYTES]), [0; SALT_BYTES]);
        for (to, from) in bytes.iter_mut().chain(&mut salt).zip(drawn.iter()) {
            *to = *from;
        }
        let data_key = DataKey::new(bytes);
        let segments = data_key.segments(cipher, object)?;
        let secret = Secret { data_key, plain_checksum: crc32c::crc32c(value) };
        Ok(Self { cipher, key_id, key, segments, secret, salt })
    }

    /// What the seal says of it; the wrapped key is still missing.
    fn protection(&self, object: &Binding<'_>) -> Result<Protection> {
        Ok(Protection::Encrypted(Box::new(Encrypted {
            cipher: self.cipher,
            sealed_version: object.version,
            key_id: self.key_id.to_owned(),
            salt: self.salt,
            commitment: self.secret.data_key.commitment(self.cipher)?,
            wrapped: [0; WRAPPED_BYTES],
        })))
    }
}

/// Largest value that is never larger than `stored_bytes` once it is encrypted, in bytes.
#[must_use]
pub fn plain_bytes_max(stored_bytes: u64) -> u64 {
    let tags = (stored_bytes / SEAL_SEGMENT_BYTES as u64 + 1) * TAG_BYTES as u64;
    stored_bytes.saturating_sub(tags).min(VALUE_BYTES_MAX as u64)
}

fn corrupt(what: impl std::fmt::Display) -> StorageError {
    StorageError::corrupt(format!("{what}: nothing of the value is given out"))
}

#[cfg(test)]
mod tests;

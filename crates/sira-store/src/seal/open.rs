//! Opening: from stored bytes to the value, or to an error and nothing else.

use std::ops::Range;

use bytes::Bytes;

use super::cipher::{KEY_BYTES, Secret, SegmentKey, TAG_BYTES, random};
use super::codec::Decoder;
use super::header::{Encrypted, Protection, Seal};
use super::keyring::Keyring;
use super::{Binding, corrupt};
use crate::error::Result;
use crate::limits::SEAL_SEGMENT_BYTES;
use crate::version::Version;

impl Seal {
    /// The value that `payload`, all stored bytes of `object`, was made of.
    ///
    /// # Errors
    /// [`crate::StorageError::Corrupt`] when bytes and seal are not those that were stored for this object
    /// and version, [`crate::StorageError::PermissionDenied`] when the keyring has not the key.
    pub fn open(&self, payload: &Bytes, keyring: &Keyring, object: &Binding<'_>) -> Result<Bytes> {
        self.open_range(0..self.plain_bytes, payload, keyring, object)
    }

    /// A range of the value (the end is cut to its size), from the stored bytes that
    /// [`Seal::stored_range`] names for it. The checksum of the whole value is compared when the
    /// range is the whole value.
    ///
    /// # Errors
    /// As [`Seal::open`].
    pub fn open_range(
        &self,
        range: Range<u64>,
        stored: &Bytes,
        keyring: &Keyring,
        object: &Binding<'_>,
    ) -> Result<Bytes> {
        let wanted = self.stored_range(&range);
        if stored.len() as u64 != wanted.end - wanted.start {
            return Err(corrupt(format!(
                "the stored value has {} bytes where its seal says {}",
                stored.len(),
                wanted.end - wanted.start
            )));
        }
        let (key, checksum) = match &self.protection {
            Protection::Checksum(checksum) => (None, *checksum),
            Protection::Encrypted(encrypted) => {
                let secret = self.unwrap(encrypted, keyring, object)?;
                let sealed = Binding { version: encrypted.sealed_version, ..*object };
                let key = secret.data_key.segments(encrypted.cipher, &sealed)?;
                (Some(key), secret.plain_checksum)
            }
        };
        let span = self.span(&range);
        let all = span == (0..self.segments.len());
        let plain = self.open_segments(span.clone(), stored, key.as_ref())?;
        if all && crc32c::crc32c(&plain) != checksum {
            return Err(corrupt("the value fails its checksum"));
        }
        let first = span.start as u64 * SEAL_SEGMENT_BYTES as u64;
        let end = range.end.min(self.plain_bytes).saturating_sub(first) as usize;
        let start = (range.start.saturating_sub(first) as usize).min(end);
        let whole = start == 0 && end == plain.len();
        if whole || span.is_empty() {
            return Ok(plain);
        }
        if end > plain.len() {
            return Err(corrupt("the value is shorter than its seal says"));
        }
        Ok(plain.slice(start..end))
    }

    fn open_segments(
        &self,
        span: Range<usize>,
        stored: &Bytes,
        key: Option<&SegmentKey>,
    ) -> Result<Bytes> {
        let len: usize = span.clone().map(|number| self.plain_bytes_of(number)).sum();
        let mut plain = vec![0; len];
        let mut room = plain.as_mut_slice();
        let mut rest: &[u8] = stored;
        let mut decoder = Decoder::default();
        let mut buffer = Vec::new();
        for number in span {
            let failed = |how| corrupt(format!("segment {number} of the stored value {how}"));
            let segment = self.segments.get(number).ok_or_else(|| failed("is not in its seal"))?;
            let parts = rest.split_at_checked(segment.stored_bytes as usize);
            let (bytes, behind) = parts.ok_or_else(|| failed("is cut off"))?;
            rest = behind;
            let (out, behind) = std::mem::take(&mut room)
                .split_at_mut_checked(self.plain_bytes_of(number))
                .ok_or_else(|| failed("is larger than its seal says"))?;
            room = behind;
            if crc32c::crc32c(bytes) != segment.checksum {
                return Err(failed("fails its checksum"));
            }
            let encoded = match key {
                None if segment.raw => {
                    if bytes.len() != out.len() {
                        return Err(failed("has another size than its seal says"));
                    }
                    out.copy_from_slice(bytes);
                    continue;
                }
                None => bytes,
                Some(key) => {
                    let last = number + 1 == self.segments.len();
                    let target = match segment.raw {
                        true => &mut *out,
                        false => {
                            buffer.resize(bytes.len().saturating_sub(TAG_BYTES), 0);
                            buffer.as_mut_slice()
                        }
                    };
                    if !key.open(number as u32, last, bytes, target) {
                        return Err(failed("is not what was encrypted here"));
                    }
                    if segment.raw {
                        continue;
                    }
                    buffer.as_slice()
                }
            };
            if !decoder.decode(self.codec, encoded, out) {
                return Err(failed("cannot be decompressed to the size that its seal says"));
            }
        }
        Ok(plain.into())
    }

    /// The data key, once it is proven that seal and object belong together.
    fn unwrap(
        &self,
        encrypted: &Encrypted,
        keyring: &Keyring,
        object: &Binding<'_>,
    ) -> Result<Secret> {
        let key = keyring.to_decrypt(&encrypted.key_id)?;
        let head = self.encode_head();
        let Encrypted { cipher, salt, wrapped, commitment, .. } = encrypted;
        let Some(secret) = Secret::unwrap(*cipher, key, salt, &head, object, wrapped)? else {
            return Err(corrupt(format!(
                "the seal of the value does not open with the key {:?} for this object and \
                 version: the key is another one of that id, or the stored object was changed",
                encrypted.key_id
            )));
        };
        if !secret.data_key.is_committed(*cipher, commitment)? {
            return Err(corrupt("the key of the value is not the one it was sealed with"));
        }
        Ok(secret)
    }

    /// Wraps the secret of a value into this seal, which is complete otherwise.
    pub(super) fn wrap(
        &mut self,
        secret: &Secret,
        key: &[u8; KEY_BYTES],
        object: &Binding<'_>,
    ) -> Result<()> {
        let head = self.encode_head();
        if let Protection::Encrypted(encrypted) = &mut self.protection {
            encrypted.wrapped =
                secret.wrap(encrypted.cipher, key, &encrypted.salt, &head, object)?;
        }
        Ok(())
    }

    /// A seal for the same stored bytes under another version of the object, with the key of this
    /// id, or the current one where it is empty. The bytes themselves are neither needed nor
    /// changed.
    ///
    /// # Errors
    /// As [`Seal::open`] for the seal as it is, [`crate::StorageError::InvalidInput`] when the keyring has
    /// not the new key.
    pub fn rewrap(
        &self,
        keyring: &Keyring,
        object: &Binding<'_>,
        version: Version,
        key_id: &str,
    ) -> Result<Self> {
        let mut new = self.clone();
        let Protection::Encrypted(encrypted) = &mut new.protection else { return Ok(new) };
        let secret = self.unwrap(encrypted, keyring, object)?;
        let (id, key) = keyring.to_encrypt(key_id)?;
        encrypted.key_id = id.to_owned();
        encrypted.salt = *random()?;
        new.wrap(&secret, key, &Binding { version, ..*object })?;
        Ok(new)
    }
}

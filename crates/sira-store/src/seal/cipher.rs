//! Ciphers: keys, how one follows from another, and segments.
//!
//! ```text
//! keyring's key ── HKDF(salt of the seal) ──> wrapping key ── AEAD ──> data key, checksum
//! data key ── HKDF ──> segment key ── AEAD(number || last) ──> segments
//!                └───> commitment, compared before anything is opened with the segment key
//! ```
//!
//! Every key that encrypts is fresh: the wrapping key is used once, the segment key for one value.
//! So nonces count from zero, and no one ever chooses one.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use zeroize::Zeroizing;

use super::Binding;
use crate::error::{Result, StorageError};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Bytes that encryption adds to a segment.
pub(super) const TAG_BYTES: usize = 16;

/// Bytes of the salt that a wrapping key is derived with.
pub(super) const SALT_BYTES: usize = 32;

/// Bytes of a key commitment.
pub(super) const COMMITMENT_BYTES: usize = 32;

/// Bytes of the checksum that is wrapped with the data key.
const CHECKSUM_BYTES: usize = 4;

/// Bytes of a wrapped data key.
pub(super) const WRAPPED_BYTES: usize = KEY_BYTES + CHECKSUM_BYTES + TAG_BYTES;

/// What segments are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// AES-256 in Galois/counter mode.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Cipher {
    /// The cipher of this number; `None` for one that is none.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|cipher| *cipher as u8 == number)
    }

    fn key(self, bytes: &[u8; KEY_BYTES]) -> Result<LessSafeKey> {
        let algorithm = match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        UnboundKey::new(algorithm, bytes).map(LessSafeKey::new).map_err(failed)
    }
}

/// The library failed where it only can when there is no memory or no randomness.
fn failed(_: Unspecified) -> StorageError {
    StorageError::unavailable("the cryptographic library failed; nothing was stored or released")
}

/// Random bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(failed)?;
    Ok(bytes)
}

/// A key that follows from another by HKDF-SHA-256 (RFC 5869), after its first step.
fn expand(prk: &Prk, purpose: &str, cipher: Cipher) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    prk.expand(&[purpose.as_bytes(), &[cipher as u8]], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(failed)?;
    Ok(key)
}

/// Texts and numbers with their lengths, so that no two lists of them look alike.
struct Bound(Vec<u8>);

impl Bound {
    fn new(purpose: &str) -> Self {
        Self(Vec::new()).with(purpose.as_bytes())
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }
}

/// The key of one value.
pub(super) struct DataKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    /// What all that follows from it has in common.
    prk: Prk,
}

impl DataKey {
    pub(super) fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let prk = Salt::new(HKDF_SHA256, &[]).extract(bytes.as_slice());
        Self { bytes, prk }
    }

    /// Says which key this is without telling anything of it.
    pub(super) fn commitment(&self, cipher: Cipher) -> Result<[u8; COMMITMENT_BYTES]> {
        expand(&self.prk, "sira seal 1 commitment", cipher).map(|commitment| *commitment)
    }

    /// Whether this is the key that was committed to.
    pub(super) fn is_committed(
        &self,
        cipher: Cipher,
        commitment: &[u8; COMMITMENT_BYTES],
    ) -> Result<bool> {
        let own = self.commitment(cipher)?;
        Ok(verify_slices_are_equal(&own, commitment).is_ok())
    }

    /// The key of the value's segments, bound to where the value was sealed.
    pub(super) fn segments(&self, cipher: Cipher, sealed: &Binding<'_>) -> Result<SegmentKey> {
        let key = expand(&self.prk, "sira seal 1 segments", cipher)?;
        let bound = Bound::new("sira seal 1 segment")
            .with(sealed.namespace.as_bytes())
            .with(sealed.key.as_bytes())
            .with(&sealed.version.as_u64().to_le_bytes());
        Ok(SegmentKey { key: cipher.key(&key)?, bound: bound.0 })
    }
}

/// The key of one value's segments: the STREAM construction of Hoang, Reyhanitabar, Rogaway and
/// Vizár (2015), in which a segment's nonce is its number and whether it is the last.
pub(super) struct SegmentKey {
    key: LessSafeKey,
    bound: Vec<u8>,
}

impl SegmentKey {
    fn nonce(number: u32, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let [.., a, b, c, d, end] = &mut nonce;
        for (to, from) in [a, b, c, d].into_iter().zip(number.to_be_bytes()) {
            *to = from;
        }
        *end = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn bound(&self, number: u32) -> Aad<Vec<u8>> {
        Aad::from([&self.bound[..], &number.to_le_bytes()].concat())
    }

    /// Encrypts a segment in place and gives what goes behind it.
    pub(super) fn seal(
        &self,
        number: u32,
        last: bool,
        segment: &mut [u8],
    ) -> Result<[u8; TAG_BYTES]> {
        let tag = self
            .key
            .seal_in_place_separate_tag(Self::nonce(number, last), self.bound(number), segment)
            .map_err(failed)?;
        tag.as_ref().try_into().map_err(|_| failed(Unspecified))
    }

    /// Decrypts a segment into `plain`, which is shorter by the tag; `false` when it is not what was
    /// sealed, and then `plain` means nothing.
    pub(super) fn open(&self, number: u32, last: bool, sealed: &[u8], plain: &mut [u8]) -> bool {
        sealed.split_last_chunk::<TAG_BYTES>().is_some_and(|(body, tag)| {
            let nonce = Self::nonce(number, last);
            body.len() == plain.len()
                && self
                    .key
                    .open_separate_gather(nonce, self.bound(number), body, tag, plain)
                    .is_ok()
        })
    }
}

/// A data key and the checksum of its value, as the wrapping key protects them.
pub(super) struct Secret {
    pub(super) data_key: DataKey,
    pub(super) plain_checksum: u32,
}

impl Secret {
    /// Encrypts the secret with a key that follows from a keyring's, bound to the rest of the seal
    /// and to the object.
    pub(super) fn wrap(
        &self,
        cipher: Cipher,
        key: &[u8; KEY_BYTES],
        salt: &[u8; SALT_BYTES],
        head: &[u8],
        object: &Binding<'_>,
    ) -> Result<[u8; WRAPPED_BYTES]> {
        let mut wrapped = [0; WRAPPED_BYTES];
        let (secret, tag) = wrapped.split_at_mut(KEY_BYTES + CHECKSUM_BYTES);
        let (data_key, checksum) = secret.split_at_mut(KEY_BYTES);
        data_key.copy_from_slice(self.data_key.bytes.as_slice());
        checksum.copy_from_slice(&self.plain_checksum.to_le_bytes());
        let sealed = wrapping_key(cipher, key, salt)?
            .seal_in_place_separate_tag(zero_nonce(), wrapped_with(head, object), secret)
            .map_err(failed)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(wrapped)
    }

    /// Undoes [`Secret::wrap`]; `None` when key, seal or object are not those that it was made with.
    pub(super) fn unwrap(
        cipher: Cipher,
        key: &[u8; KEY_BYTES],
        salt: &[u8; SALT_BYTES],
        head: &[u8],
        object: &Binding<'_>,
        wrapped: &[u8; WRAPPED_BYTES],
    ) -> Result<Option<Self>> {
        let mut bytes = Zeroizing::new(*wrapped);
        let opened = wrapping_key(cipher, key, salt)?
            .open_in_place(zero_nonce(), wrapped_with(head, object), bytes.as_mut_slice())
            .is_ok();
        let parts = bytes.split_first_chunk::<KEY_BYTES>();
        let parts = parts.and_then(|(key, rest)| Some((key, rest.first_chunk()?)));
        Ok(parts.filter(|_| opened).map(|(key, checksum)| Self {
            data_key: DataKey::new(Zeroizing::new(*key)),
            plain_checksum: u32::from_le_bytes(*checksum),
        }))
    }
}

fn wrapping_key(
    cipher: Cipher,
    key: &[u8; KEY_BYTES],
    salt: &[u8; SALT_BYTES],
) -> Result<LessSafeKey> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(key);
    cipher.key(&*expand(&prk, "sira seal 1 wrap", cipher)?)
}

/// The wrapping key is used once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn wrapped_with(head: &[u8], object: &Binding<'_>) -> Aad<Vec<u8>> {
    let bound = Bound::new("sira seal 1 wrapped")
        .with(head)
        .with(object.namespace.as_bytes())
        .with(object.key.as_bytes())
        .with(&object.version.as_u64().to_le_bytes());
    Aad::from(bound.0)
}

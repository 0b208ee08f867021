//! SHA-256 of chunks and values, and where values are cut.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{self, SHA256};
use bytes::{Bytes, BytesMut};
use fastcdc::v2020::FastCDC;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::StorageError;

/// Smallest chunk of a value that is cut, in bytes; a smaller value is one chunk.
pub(super) const CHUNK_BYTES_MIN: usize = 256 * 1024;

/// What chunks of a large value have on average, in bytes.
pub(super) const CHUNK_BYTES_AVERAGE: usize = 1024 * 1024;

/// Largest chunk, in bytes.
pub(super) const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; Digest::BYTES]);

impl Digest {
    /// Bytes of a digest.
    pub const BYTES: usize = 32;

    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::taken(digest::digest(&SHA256, bytes).as_ref())
    }

    /// The digest that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    fn taken(bytes: &[u8]) -> Self {
        let mut out = [0; Self::BYTES];
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(out)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || StorageError::corrupt("a SHA-256 has 64 hexadecimal digits");
        if text.len() != Self::BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut out = [0; Self::BYTES];
        for (at, to) in out.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or_else(wrong)?;
            *to = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of bytes that come piece by piece.
pub(super) struct Hasher(digest::Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest::taken(self.0.finish().as_ref())
    }
}

/// A value, cut and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// SHA-256 of the whole value.
    pub(super) digest: Digest,
    /// The chunks in order.
    pub(super) chunks: Vec<(Digest, Bytes)>,
}

/// Cuts a whole value.
pub(super) fn cut(value: &Bytes) -> Cut {
    let mut cutter = Cutter::new();
    let mut chunks = cutter.push(value.clone());
    let (digest, last) = cutter.finish();
    chunks.extend(last);
    Cut { digest, chunks }
}

/// Cuts a value that comes piece by piece; where it is cut does not depend on the pieces.
pub(super) struct Cutter {
    whole: Hasher,
    /// What follows the last cut.
    carry: Bytes,
    /// The one chunk of a value that has no other: its digest is the value's.
    pushed: u64,
}

impl Cutter {
    pub(super) fn new() -> Self {
        Self { whole: Hasher::new(), carry: Bytes::new(), pushed: 0 }
    }

    /// The chunks that end within what has come.
    pub(super) fn push(&mut self, piece: Bytes) -> Vec<(Digest, Bytes)> {
        self.pushed += piece.len() as u64;
        let bytes = if self.carry.is_empty() {
            piece
        } else {
            let mut joined = BytesMut::with_capacity(self.carry.len() + piece.len());
            joined.extend_from_slice(&self.carry);
            joined.extend_from_slice(&piece);
            joined.freeze()
        };
        let mut chunks = Vec::new();
        let mut end = 0;
        let (min, average, max) = (CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX);
        for found in FastCDC::new(&bytes, min, average, max) {
            // The last one may go on in the next piece.
            if found.offset + found.length < bytes.len() {
                end = found.offset + found.length;
                chunks.push(self.chunk(bytes.slice(found.offset..end)));
            }
        }
        self.carry = bytes.slice(end..);
        chunks
    }

    fn chunk(&mut self, bytes: Bytes) -> (Digest, Bytes) {
        self.whole.update(&bytes);
        (Digest::of(&bytes), bytes)
    }

    /// The digest of the whole value, and the last chunk; an empty value has none.
    pub(super) fn finish(mut self) -> (Digest, Option<(Digest, Bytes)>) {
        let carry = std::mem::take(&mut self.carry);
        if carry.is_empty() {
            return (self.whole.finish(), None);
        }
        if carry.len() as u64 == self.pushed {
            // One chunk is the whole value, which is not hashed twice.
            let digest = Digest::of(&carry);
            return (digest, Some((digest, carry)));
        }
        let last = self.chunk(carry);
        (self.whole.finish(), Some(last))
    }
}

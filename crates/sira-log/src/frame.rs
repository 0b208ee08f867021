//! Layer 0: frames.
//!
//! ```text
//! | Magic 4 | EnvLen 4 | Envelope EnvLen | Padding 0..3 | EnvLen 4 | CRC32C 4 |
//! ```
//!
//! Integers are little-endian, a frame starts at a multiple of four bytes, and padding is zeros.
//! The CRC32C (Castagnoli, RFC 3720 appendix B.4) covers envelope, padding and the second EnvLen;
//! it leaves out magic and the first EnvLen, so that a streamed frame can have its length filled in
//! afterwards. The second EnvLen lets a cursor walk backward. See `docs/formats/log.md`.
//!
//! This layer believes any frame whose checksum matches. A payload can hold whole frames, so what
//! recovers a log after damage must also check who wrote the frame: see [`crate::record`].

mod cursor;
mod writer;

#[cfg(test)]
mod tests;

pub use cursor::{BinaryLogCursor, Frame, FrameError, FrameSource, ReaderSource};
pub use writer::{BinaryLogWriter, FrameStream};

/// Layout of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BinaryLogFormat;

impl BinaryLogFormat {
    /// First bytes of a frame: `ELOG`.
    pub const MAGIC: [u8; 4] = *b"ELOG";
    /// Bytes before the envelope.
    pub const HEAD_BYTES: usize = 8;
    /// Bytes after the padding.
    pub const TAIL_BYTES: usize = 8;
    /// Frames start at multiples of this.
    pub const ALIGN_BYTES: usize = 4;
    /// Largest envelope.
    pub const ENVELOPE_BYTES_MAX: u64 = u32::MAX as u64 - 3;

    /// Zeros after an envelope of `env_len` bytes.
    #[must_use]
    pub const fn padding(env_len: u64) -> usize {
        ((4 - env_len % 4) % 4) as usize
    }

    /// Bytes of the whole frame around an envelope of `env_len` bytes.
    #[must_use]
    pub const fn frame_len(env_len: u64) -> u64 {
        env_len + Self::padding(env_len) as u64 + (Self::HEAD_BYTES + Self::TAIL_BYTES) as u64
    }

    /// The bytes before the envelope.
    #[must_use]
    pub fn head(env_len: u32) -> [u8; 8] {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&Self::MAGIC);
        head[4..].copy_from_slice(&env_len.to_le_bytes());
        head
    }

    /// Padding, second EnvLen and CRC32C for an envelope whose own CRC32C is `crc`: the bytes and
    /// how many of them count (the padding comes first, as long as it must be).
    #[must_use]
    pub fn tail(env_len: u32, crc: u32) -> ([u8; 11], usize) {
        let padding = Self::padding(u64::from(env_len));
        let mut tail = [0; 11];
        tail[padding..padding + 4].copy_from_slice(&env_len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &tail[..padding + 4]);
        tail[padding + 4..padding + 8].copy_from_slice(&crc.to_le_bytes());
        (tail, padding + 8)
    }

    /// EnvLen of a head, if the magic is right.
    #[must_use]
    pub fn parse_head(head: [u8; 8]) -> Option<u32> {
        let [m0, m1, m2, m3, l0, l1, l2, l3] = head;
        ([m0, m1, m2, m3] == Self::MAGIC).then(|| u32::from_le_bytes([l0, l1, l2, l3]))
    }
}

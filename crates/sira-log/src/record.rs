//! The record header: who wrote a frame, and what is in it.
//!
//! A payload can contain whole, valid frames. So the envelope of every frame in a segment begins
//! with a header that binds the frame to its place: it carries the segment's random salt and the
//! record's sequence number, and its checksum also covers the number of the segment, the place of
//! the frame in it and the length of the envelope. A frame is a record of this log only where all
//! of that matches; `docs/formats/log.md` says why that is enough.

use crate::frame::BinaryLogFormat;

/// Bytes of the record header.
pub const RECORD_HEADER_BYTES: usize = 40;

/// Bytes from the start of a frame to the end of its record header.
pub const RECORD_BODY_OFFSET: usize = BinaryLogFormat::HEAD_BYTES + RECORD_HEADER_BYTES;

/// What a record's data is. The number is the first byte of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ContentKind {
    /// UTF-8 text.
    Text = 1,
    /// UTF-8 JSON.
    Json = 2,
    /// Binary data in a self-describing format.
    Binary = 3,
    /// Metadata, then data, each of its own length.
    MetadataData = 4,
    /// Binary data that only its writer understands.
    Custom = 5,
}

impl ContentKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Text, Self::Json, Self::Binary, Self::MetadataData, Self::Custom]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Number of the frame that opens every segment, in place of a [`ContentKind`].
pub(crate) const KIND_SEGMENT: u8 = 0xF0;

/// Number of a frame that a repair put over bytes that were lost.
pub(crate) const KIND_HOLE: u8 = 0xF1;

/// Where a frame stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct LogPosition {
    /// Number of the segment.
    pub segment: u32,
    /// Place in the segment's file, in bytes.
    pub offset: u64,
}

/// The fixed part at the start of every envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the data is: a [`ContentKind`], or a number of the log's own.
    pub kind: u8,
    /// Bits that the record's owner defines.
    pub flags: u8,
    /// Where the data starts, in bytes from the start of the envelope. What lies between the header
    /// and the data belongs to the record's owner.
    pub data_offset: u32,
    /// Salt of the segment.
    pub salt: u64,
    /// Number of the first item in this record.
    pub sequence: u64,
    /// Time of the record, in the unit of its owner.
    pub time: u64,
    /// Items in this record.
    pub count: u32,
}

impl RecordHeader {
    /// The stored form of the header of the frame at `place` with an envelope of `env_len` bytes.
    #[must_use]
    pub fn encode(&self, place: LogPosition, env_len: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[0] = self.kind;
        out[1] = self.flags;
        out[4..8].copy_from_slice(&self.data_offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.time.to_le_bytes());
        out[32..36].copy_from_slice(&self.count.to_le_bytes());
        let crc = bound_crc(&out, place, env_len);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the stored form, if its checksum matches for the frame at `place` with an envelope of
    /// `env_len` bytes.
    #[must_use]
    pub fn decode(envelope: &[u8], place: LogPosition, env_len: u32) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = envelope.first_chunk()?;
        let word =
            |at: usize| -> [u8; 4] { [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] };
        let u32_at = |at: usize| u32::from_le_bytes(word(at));
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let data_offset = u32_at(4);
        let valid = u32_at(36) == bound_crc(bytes, place, env_len)
            && data_offset as usize >= RECORD_HEADER_BYTES
            && data_offset <= env_len
            && bytes[2..4] == [0, 0];
        valid.then(|| Self {
            kind: bytes[0],
            flags: bytes[1],
            data_offset,
            salt: u64_at(8),
            sequence: u64_at(16),
            time: u64_at(24),
            count: u32_at(32),
        })
    }
}

fn bound_crc(header: &[u8; RECORD_HEADER_BYTES], place: LogPosition, env_len: u32) -> u32 {
    let mut bound = [0_u8; 16];
    bound[..4].copy_from_slice(&place.segment.to_le_bytes());
    bound[4..12].copy_from_slice(&place.offset.to_le_bytes());
    bound[12..].copy_from_slice(&env_len.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&bound), &header[..36])
}

//! Walks the records of one segment's bytes.

use crate::disk::SECTOR_BYTES;
use crate::frame::BinaryLogFormat;
use crate::record::{LogPosition, RECORD_BODY_OFFSET, RECORD_HEADER_BYTES, RecordHeader};

/// Bytes that a device writes whole even where it tears a sector.
const TORN_WORD_BYTES: usize = 8;

/// A record, borrowed from its segment.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Where the record's frame starts.
    pub position: LogPosition,
    /// Bytes of the frame.
    pub frame_len: u64,
    /// The record header.
    pub header: RecordHeader,
    /// The envelope, header included.
    pub envelope: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// What lies between the header and the data.
    #[must_use]
    pub fn head(&self) -> &'a [u8] {
        self.envelope.get(RECORD_HEADER_BYTES..self.header.data_offset as usize).unwrap_or_default()
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.envelope.get(self.header.data_offset as usize..).unwrap_or_default()
    }

    /// Where the next frame starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position.offset + self.frame_len
    }
}

/// What a scan finds at a place.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// A record of this segment.
    Record(RecordRef<'a>),
    /// Nothing was written here: the bytes end, or only zeros follow.
    End,
    /// Bytes that are no record. `complete` names the end of the frame where one stands whole with
    /// both lengths and no sector missing, so that it was damaged after it was written.
    Bad {
        /// End of the damaged frame.
        complete: Option<u64>,
    },
}

/// The bytes of a segment and what its records must carry.
#[derive(Debug, Clone, Copy)]
pub struct SegmentBytes<'a> {
    /// The file from its first byte.
    pub bytes: &'a [u8],
    /// Number of the segment.
    pub segment: u32,
    /// Salt of the segment.
    pub salt: u64,
}

impl<'a> SegmentBytes<'a> {
    /// What stands at `offset`. With `sequence`, only the record of that number is taken.
    #[must_use]
    pub fn at(&self, offset: u64, sequence: Option<u64>) -> Found<'a> {
        let Some(rest) = usize::try_from(offset).ok().and_then(|start| self.bytes.get(start..))
        else {
            return Found::End;
        };
        if rest.iter().take(SECTOR_BYTES).all(|byte| *byte == 0) && is_zero(rest) {
            return Found::End;
        }
        let Some(frame) = whole_frame(rest) else {
            return Found::Bad { complete: None };
        };
        match self.record(offset, frame, sequence) {
            Some(record) => Found::Record(record),
            None => {
                let complete = !may_be_torn(offset, frame);
                Found::Bad { complete: complete.then(|| offset + frame.len() as u64) }
            }
        }
    }

    /// The first record at or after `offset` whose number is at least `sequence`: where reading
    /// goes on behind damage.
    #[must_use]
    pub fn resync(&self, offset: u64, sequence: u64) -> Option<RecordRef<'a>> {
        let mut at = usize::try_from(offset.next_multiple_of(4)).ok()?;
        loop {
            let rest = self.bytes.get(at..)?;
            if rest.len() < RECORD_BODY_OFFSET {
                return None;
            }
            if rest.starts_with(&BinaryLogFormat::MAGIC)
                && let Some(record) =
                    whole_frame(rest).and_then(|frame| self.record(at as u64, frame, None))
                && record.header.sequence >= sequence
            {
                return Some(record);
            }
            at += BinaryLogFormat::ALIGN_BYTES;
        }
    }

    /// The record in `frame`, if all of it verifies.
    fn record(&self, offset: u64, frame: &'a [u8], sequence: Option<u64>) -> Option<RecordRef<'a>> {
        let covered = frame.len().checked_sub(4)?;
        let env_len = u32::from_le_bytes(*frame.get(4..8)?.first_chunk()?);
        let envelope = frame.get(BinaryLogFormat::HEAD_BYTES..)?.get(..env_len as usize)?;
        let position = LogPosition { segment: self.segment, offset };
        let header = RecordHeader::decode(envelope, position, env_len)?;
        let crc = u32::from_le_bytes(*frame.get(covered..)?.first_chunk()?);
        let valid = header.salt == self.salt
            && sequence.is_none_or(|sequence| header.sequence == sequence)
            && crc32c::crc32c(frame.get(BinaryLogFormat::HEAD_BYTES..covered)?) == crc;
        valid.then_some(RecordRef { position, frame_len: frame.len() as u64, header, envelope })
    }
}

/// The frame at the start of `rest`, if its magic is there and both lengths agree.
fn whole_frame(rest: &[u8]) -> Option<&[u8]> {
    let env_len = BinaryLogFormat::parse_head(*rest.first_chunk()?)?;
    let total = usize::try_from(BinaryLogFormat::frame_len(u64::from(env_len))).ok()?;
    let frame = rest.get(..total)?;
    let tail = frame.get(total - BinaryLogFormat::TAIL_BYTES..)?;
    (u32::from_le_bytes(*tail.first_chunk()?) == env_len).then_some(frame)
}

/// Whether a part of the frame may never have reached the medium, where the bytes were zeros before:
/// a sector that was lost whole, or torn at a word, ends with zeros within the frame. A record whose
/// data has such zeros of its own then looks torn; where that matters, the durable mark decides
/// first.
fn may_be_torn(offset: u64, frame: &[u8]) -> bool {
    let end = offset + frame.len() as u64;
    let mut sector_end = (offset + 1).next_multiple_of(SECTOR_BYTES as u64);
    while sector_end <= end {
        let at = (sector_end - offset) as usize;
        if frame.get(at.saturating_sub(TORN_WORD_BYTES)..at).is_some_and(is_zero) {
            return true;
        }
        sector_end += SECTOR_BYTES as u64;
    }
    // The checksum is what is written last; a killed process can have stopped within it.
    frame.last().is_none_or(|last| *last == 0)
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

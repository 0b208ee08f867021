//! Records that are larger than memory.

use std::io::Read;
use std::sync::atomic::Ordering;

use super::append::{Appended, Entry, Reservation};
use super::segment::SEGMENT_START;
use crate::error::{LogError, Result};
use crate::frame::BinaryLogFormat;
use crate::record::{LogPosition, RECORD_BODY_OFFSET, RECORD_HEADER_BYTES, RecordHeader};

/// Bytes that are read and written at a time.
const PIECE_BYTES: usize = 256 << 10;

impl Reservation<'_> {
    /// Appends one record whose data comes from a reader, until it ends. The entry's own `data`,
    /// `align` and `data_crc` do not count. Others wait meanwhile; what was read is not visible, and
    /// not kept after a crash, before the last byte is written.
    ///
    /// # Errors
    /// As [`super::SegmentLog::append`], and [`LogError::InvalidInput`] when the reader fails;
    /// nothing was appended then.
    pub fn append_stream(&mut self, entry: &Entry<'_>, data: &mut dyn Read) -> Result<Appended> {
        let head_len: u64 = entry.head.iter().map(|part| part.len() as u64).sum();
        let lead = RECORD_HEADER_BYTES as u64 + head_len;
        let room = BinaryLogFormat::ENVELOPE_BYTES_MAX;
        let shared = self.shared;
        let tail = &mut *self.tail;
        // How long it gets is unknown: it gets a segment that can grow as far as a frame can.
        if tail.offset > SEGMENT_START || tail.active.reserve < BinaryLogFormat::frame_len(room) {
            shared.rotate(tail, BinaryLogFormat::frame_len(room))?;
        }
        let offset = tail.offset;
        let result = (|| {
            let start = offset + BinaryLogFormat::HEAD_BYTES as u64 + lead;
            let mut len = 0_u64;
            let mut data_crc = 0;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let count = match data.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        return Err(LogError::InvalidInput(format!(
                            "the data ended early: {error}"
                        )));
                    }
                };
                let bytes = &piece[..count];
                if lead + len + count as u64 > room {
                    return Err(LogError::TooLarge { bytes: lead + len, limit: room });
                }
                shared.grow(tail, start + len + count as u64)?;
                tail.active
                    .file
                    .write_at(start + len, &[bytes])
                    .map_err(LogError::io("write", &tail.active.path))?;
                data_crc = crc32c::crc32c_append(data_crc, bytes);
                len += count as u64;
            }
            // Bounded by ENVELOPE_BYTES_MAX above.
            let env_len = (lead + len) as u32;
            let header = RecordHeader {
                kind: entry.kind,
                flags: entry.flags,
                data_offset: lead as u32,
                salt: tail.active.salt,
                sequence: tail.sequence,
                time: entry.time,
                count: entry.count,
            }
            .encode(LogPosition { segment: tail.active.id, offset }, env_len);
            let mut crc = crc32c::crc32c(&header);
            for part in entry.head {
                crc = crc32c::crc32c_append(crc, part);
            }
            crc = crc32c::crc32c_combine(crc, data_crc, len as usize);
            let (end, end_len) = BinaryLogFormat::tail(env_len, crc);
            let total = BinaryLogFormat::frame_len(u64::from(env_len));
            shared.grow(tail, offset + total)?;
            let head = BinaryLogFormat::head(env_len);
            let mut parts: Vec<&[u8]> = vec![&head, &header];
            parts.extend(entry.head);
            // The start is filled in last: until then no reader takes this for a frame.
            tail.active
                .file
                .write_at(start + len, &[&end[..end_len]])
                .and_then(|()| tail.active.file.write_at(offset, &parts))
                .map_err(LogError::io("write", &tail.active.path))?;
            Ok((total, start))
        })();
        let (total, data_offset) = match result {
            Ok(written) => written,
            Err(error) => {
                // What was written is not visible; take its space back.
                if let Err(source) = tail.active.file.truncate(offset) {
                    let path = tail.active.path.clone();
                    shared.poison(&LogError::Io { action: "cut", path, source });
                }
                return Err(error);
            }
        };
        let sequence = tail.sequence;
        tail.offset += total;
        tail.sequence += u64::from(entry.count);
        tail.active.add_flags(entry.flags);
        tail.active.used.store(tail.offset, Ordering::Release);
        shared.appended.store(tail.sequence, Ordering::Release);
        debug_assert!(data_offset >= offset + RECORD_BODY_OFFSET as u64);
        Ok(Appended {
            position: LogPosition { segment: tail.active.id, offset },
            data_offset,
            frame_len: total,
            sequence,
            ticket: tail.sequence,
        })
    }
}

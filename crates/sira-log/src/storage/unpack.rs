//! Items of a record that was scanned from a segment's bytes, without the log being open.

use bytes::Bytes;

use super::body::{FLAG_BATCH, decode_batch, decode_head};
use super::reader::LogRecord;
use crate::log::RecordRef;
use crate::record::{ContentKind, LogPosition, RECORD_HEADER_BYTES};

/// The items of a record, in the order of their sequence; `None` for a record that log storage did
/// not write.
#[must_use]
pub fn unpack_record(record: &RecordRef<'_>) -> Option<Vec<LogRecord>> {
    let envelope = Bytes::copy_from_slice(record.envelope);
    let data_offset = record.header.data_offset as usize;
    let kind = ContentKind::from_u8(record.header.kind)?;
    let head = decode_head(&envelope.slice(RECORD_HEADER_BYTES..data_offset))?;
    let data = envelope.slice(data_offset..);
    let items = if record.header.flags & FLAG_BATCH == 0 {
        vec![(kind, head.metadata, data)]
    } else {
        decode_batch(&data, record.header.count)?
    };
    let next = LogPosition { segment: record.position.segment, offset: record.end() };
    let numbered = (record.header.sequence..).zip(items);
    Some(
        numbered
            .map(|(sequence, (kind, metadata, data))| LogRecord {
                position: record.position,
                next,
                sequence,
                time_ms: record.header.time,
                epoch: head.epoch,
                kind,
                metadata,
                data,
            })
            .collect(),
    )
}

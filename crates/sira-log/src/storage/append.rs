//! Appending: durability, exactly-once, expected sequence, fencing.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;

use super::body::{FLAG_BATCH, LogItem, decode_head, encode_batch, encode_head};
use super::{LogDurability, LogStorage, Writers};
use crate::error::{LogError, Result};
use crate::log::{Appended, Entry, Found, SEGMENT_START, Segment, SegmentLog};
use crate::record::{ContentKind, LogPosition};

/// Segments, counted from the newest, in which an idempotency key is remembered.
const KEY_SEGMENTS: usize = 2;

/// Options of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendOptions<'a> {
    /// When it returns; `None` follows the log's setting.
    pub durability: Option<LogDurability>,
    /// A second append with the same key returns the first one's receipt and writes nothing. Keys
    /// are remembered while their record is in one of the two newest segments.
    pub idempotency_key: Option<&'a [u8]>,
    /// Append only if this is the sequence that the first item gets.
    pub expected_sequence: Option<u64>,
    /// Number of this writer's term. An append with a lower one than the log has seen is refused.
    pub epoch: Option<u64>,
    /// Time of the record in milliseconds since the Unix epoch; `None` is now.
    pub time_ms: Option<u64>,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendReceipt {
    /// Where its frame starts.
    pub position: LogPosition,
    /// Sequence of its first item.
    pub sequence: u64,
    /// Items that it has.
    pub count: u32,
    /// Whether it was durable when the append returned.
    pub durable: bool,
    /// An earlier append with the same idempotency key had written it.
    pub repeated: bool,
}

/// What goes into the record's data.
enum Source<'a> {
    Bytes(&'a [u8]),
    Reader(&'a mut dyn Read),
}

/// A record to be written.
struct NewRecord<'a> {
    kind: u8,
    flags: u8,
    count: u32,
    metadata: &'a [u8],
    source: Source<'a>,
}

impl LogStorage {
    /// Appends one item.
    ///
    /// # Errors
    /// [`LogError::InvalidInput`] for data that is not of its kind,
    /// [`LogError::SequenceMismatch`], [`LogError::Fenced`], and as [`SegmentLog::append`].
    pub fn append(&self, item: LogItem<'_>, options: &AppendOptions<'_>) -> Result<AppendReceipt> {
        item.check()?;
        let record = NewRecord {
            kind: item.kind as u8,
            flags: 0,
            count: 1,
            metadata: item.metadata,
            source: Source::Bytes(item.data),
        };
        self.append_record(record, options)
    }

    /// Appends a value as JSON.
    ///
    /// # Errors
    /// As [`LogStorage::append`].
    pub fn append_json<T: serde::Serialize + ?Sized>(
        &self,
        value: &T,
        options: &AppendOptions<'_>,
    ) -> Result<AppendReceipt> {
        self.append(LogItem::json(value)?.as_item(), options)
    }

    /// Appends several items as one frame: after a crash all of them are there or none.
    ///
    /// # Errors
    /// As [`LogStorage::append`]; [`LogError::InvalidInput`] for no items.
    pub fn append_batch(
        &self,
        items: &[LogItem<'_>],
        options: &AppendOptions<'_>,
    ) -> Result<AppendReceipt> {
        items.iter().try_for_each(LogItem::check)?;
        let count = u32::try_from(items.len()).ok().filter(|count| *count > 0);
        let Some(count) = count else {
            return Err(LogError::InvalidInput(format!("a batch of {} items", items.len())));
        };
        let data = encode_batch(items)?;
        let record = NewRecord {
            kind: ContentKind::Custom as u8,
            flags: FLAG_BATCH,
            count,
            metadata: &[],
            source: Source::Bytes(&data),
        };
        self.append_record(record, options)
    }

    /// Appends one item whose data comes from a reader and may be larger than memory, up to 4 GiB.
    /// Other appends wait until it ends. Text and JSON are not checked.
    ///
    /// # Errors
    /// As [`LogStorage::append`]; [`LogError::InvalidInput`] when the reader fails. Nothing was
    /// appended then.
    pub fn append_stream(
        &self,
        kind: ContentKind,
        metadata: &[u8],
        data: &mut dyn Read,
        options: &AppendOptions<'_>,
    ) -> Result<AppendReceipt> {
        let record = NewRecord {
            kind: kind as u8,
            flags: 0,
            count: 1,
            metadata,
            source: Source::Reader(data),
        };
        self.append_record(record, options)
    }

    fn append_record(
        &self,
        record: NewRecord<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<AppendReceipt> {
        let inner = &self.inner;
        let durability = options.durability.unwrap_or(inner.options.durability);
        let (mut receipt, ticket) = {
            let mut writers = inner.writers.lock();
            if let Some(repeated) = self.repeated(&mut writers, options)? {
                let ticket = repeated.sequence + u64::from(repeated.count);
                (repeated, ticket)
            } else {
                let appended = self.write(&mut writers, record, options)?;
                inner.announce(appended.1.ticket);
                (appended.0, appended.1.ticket)
            }
        };
        match durability {
            LogDurability::Sync => inner.log.wait_durable(ticket)?,
            LogDurability::Interval(ms) => {
                inner.log.request_durable_within(Duration::from_millis(ms));
            }
            LogDurability::None => {}
        }
        receipt.durable = inner.log.durable() >= ticket;
        Ok(receipt)
    }

    /// The receipt of an earlier append with the same key.
    fn repeated(
        &self,
        writers: &mut Writers,
        options: &AppendOptions<'_>,
    ) -> Result<Option<AppendReceipt>> {
        let Some(key) = options.idempotency_key else { return Ok(None) };
        if writers.keys.is_none() {
            load_keys(&self.inner.log, writers)?;
        }
        let known = writers.keys.as_ref().and_then(|keys| keys.get(key));
        Ok(known.map(|receipt| AppendReceipt { repeated: true, ..*receipt }))
    }

    fn write(
        &self,
        writers: &mut Writers,
        record: NewRecord<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<(AppendReceipt, Appended)> {
        let inner = &self.inner;
        let epoch = options.epoch.unwrap_or(writers.epoch);
        if epoch < writers.epoch {
            return Err(LogError::Fenced { epoch, current: writers.epoch });
        }
        let key = options.idempotency_key.unwrap_or_default();
        let head = encode_head(epoch, key, record.metadata)?;
        let mut reservation = inner.log.reserve()?;
        if let Some(expected) = options.expected_sequence
            && expected != reservation.sequence()
        {
            let actual = reservation.sequence();
            return Err(LogError::SequenceMismatch { expected, actual });
        }
        let parts = [head.as_slice()];
        let mut entry = Entry {
            kind: record.kind,
            flags: record.flags,
            time: options.time_ms.unwrap_or_else(|| inner.log.env().now_ms()),
            count: record.count,
            head: &parts,
            data: &[],
            align: 1,
            data_crc: None,
        };
        let appended = match record.source {
            Source::Bytes(data) => {
                entry.data = data;
                reservation.append(&entry)?
            }
            Source::Reader(reader) => reservation.append_stream(&entry, reader)?,
        };
        drop(reservation);
        writers.epoch = epoch;
        let receipt = AppendReceipt {
            position: appended.position,
            sequence: appended.sequence,
            count: record.count,
            durable: false,
            repeated: false,
        };
        if !key.is_empty() {
            remember(&inner.log, writers, key.to_vec(), receipt);
        }
        Ok((receipt, appended))
    }
}

fn remember(log: &SegmentLog, writers: &mut Writers, key: Vec<u8>, receipt: AppendReceipt) {
    let Some(keys) = &mut writers.keys else { return };
    writers.order.push_back((receipt.position.segment, key.clone()));
    keys.insert(key, receipt);
    let segments = log.segments();
    let oldest = segments.iter().rev().nth(KEY_SEGMENTS - 1).map_or(0, |segment| segment.id);
    while let Some((_, key)) = writers.order.pop_front_if(|(segment, _)| *segment < oldest) {
        keys.remove(&key);
    }
}

/// Reads the keys of the newest segments.
fn load_keys(log: &SegmentLog, writers: &mut Writers) -> Result<()> {
    writers.keys = Some(std::collections::HashMap::new());
    let segments = log.segments();
    for segment in segments.iter().rev().take(KEY_SEGMENTS).rev() {
        for_each_head(segment, |receipt, head| {
            if !head.key.is_empty() {
                remember(log, writers, head.key, receipt);
            }
        })?;
    }
    Ok(())
}

fn for_each_head(
    segment: &Segment,
    mut visit: impl FnMut(AppendReceipt, super::body::Head),
) -> Result<()> {
    let bytes = segment.read_used()?;
    let scanner = segment.scanner(&bytes);
    let mut next = match scanner.at(SEGMENT_START, None) {
        Found::Record(record) => Some(record),
        Found::End => None,
        Found::Bad { .. } => scanner.resync(SEGMENT_START, 0),
    };
    while let Some(record) = next {
        if ContentKind::from_u8(record.header.kind).is_some()
            && let Some(head) = decode_head(&Bytes::copy_from_slice(record.head()))
        {
            let receipt = AppendReceipt {
                position: record.position,
                sequence: record.header.sequence,
                count: record.header.count,
                durable: false,
                repeated: false,
            };
            visit(receipt, head);
        }
        next = match scanner.at(record.end(), None) {
            Found::Record(record) => Some(record),
            Found::End => None,
            Found::Bad { .. } => scanner.resync(record.end() + 4, 0),
        };
    }
    Ok(())
}

/// The newest epoch in the log: that of its last record, since it only grows.
pub(super) fn newest_epoch(log: &SegmentLog) -> Result<u64> {
    for segment in log.segments().iter().rev() {
        let epoch = match super::reader::record_before(segment, segment.used()) {
            Ok(record) => record.map(|record| record.head.epoch),
            // The end is damaged: what stands before it, or between damage, still counts.
            Err(LogError::Corrupt { .. }) => {
                let mut newest = None;
                for_each_head(segment, |_, head| newest = newest.max(Some(head.epoch)))?;
                newest
            }
            Err(error) => return Err(error),
        };
        if let Some(epoch) = epoch {
            return Ok(epoch);
        }
    }
    Ok(0)
}

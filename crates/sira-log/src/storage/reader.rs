//! Reading: forward and backward, by position, sequence, time and kind.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::body::{FLAG_BATCH, Head, decode_batch, decode_head};
use super::{Inner, LogStorage};
use crate::error::{LogError, Result};
use crate::frame::BinaryLogFormat;
use crate::log::{Damage, Found, RecordRef, SEGMENT_START, Segment};
use crate::record::{ContentKind, LogPosition};

/// Which way a reader walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadDirection {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// What to read. The default is everything, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogReadOptions {
    /// Which way to walk.
    pub direction: ReadDirection,
    /// Start here: a position that a receipt or a record named, or the log's end. Forward, the
    /// record there comes first; backward, the one before it does.
    pub from: Option<LogPosition>,
    /// Only items of at least this sequence.
    pub sequence_min: Option<u64>,
    /// Only records of this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Only records before this time, in milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    /// Only items of these kinds; empty is all.
    pub kinds: Vec<ContentKind>,
    /// Most items; 0 is all.
    pub limit: usize,
}

/// An item that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where its frame starts. Items of a batch share it.
    pub position: LogPosition,
    /// Where the next frame starts.
    pub next: LogPosition,
    /// Number of the item.
    pub sequence: u64,
    /// Time of the record in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Term of the writer.
    pub epoch: u64,
    /// What the data is.
    pub kind: ContentKind,
    /// Metadata of a metadata + data item.
    pub metadata: Bytes,
    /// The data.
    pub data: Bytes,
}

impl LogRecord {
    /// The data as a value, for JSON items.
    ///
    /// # Errors
    /// [`LogError::InvalidInput`] when the data is not JSON of that shape.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.data)
            .map_err(|error| LogError::InvalidInput(format!("not JSON of that shape: {error}")))
    }
}

/// A whole record, verified.
pub(super) struct ReadRecord {
    pub position: LogPosition,
    pub end: u64,
    pub sequence: u64,
    pub time: u64,
    pub count: u32,
    pub kind: u8,
    pub flags: u8,
    pub head: Head,
    pub data: Bytes,
}

/// Copies nothing: the parts point into `bytes`, which the record was found in.
fn detach(record: &RecordRef<'_>, bytes: &Bytes) -> Option<ReadRecord> {
    let envelope = usize::try_from(record.position.offset).ok()? + BinaryLogFormat::HEAD_BYTES;
    let data = envelope + record.header.data_offset as usize;
    let end = envelope + record.envelope.len();
    let head_start = envelope + crate::record::RECORD_HEADER_BYTES;
    let is_item = ContentKind::from_u8(record.header.kind).is_some();
    let head = match is_item {
        true => decode_head(&bytes.slice(head_start..data))?,
        false => Head::default(),
    };
    Some(ReadRecord {
        position: record.position,
        end: record.end(),
        sequence: record.header.sequence,
        time: record.header.time,
        count: record.header.count,
        kind: record.header.kind,
        flags: record.header.flags,
        head,
        data: bytes.slice(data..end),
    })
}

/// The last item record of a segment that ends at or before `end`; `None` when there is none.
pub(super) fn record_before(segment: &Segment, end: u64) -> Result<Option<ReadRecord>> {
    let bytes = segment.read(0, usize::try_from(end).unwrap_or(usize::MAX))?;
    let mut end = end;
    while let Some(record) = step_back(segment, &bytes, end)? {
        if ContentKind::from_u8(record.kind).is_some() {
            return Ok(Some(record));
        }
        end = record.position.offset;
    }
    Ok(None)
}

/// The record that ends at `end`.
fn step_back(segment: &Segment, bytes: &Bytes, end: u64) -> Result<Option<ReadRecord>> {
    if end <= SEGMENT_START {
        return Ok(None);
    }
    let corrupt = || LogError::Corrupt {
        segment: segment.id,
        offset: end,
        detail: "no record of this segment ends here",
    };
    let tail = usize::try_from(end).unwrap_or(usize::MAX) - BinaryLogFormat::TAIL_BYTES;
    let env_len = bytes.get(tail..).and_then(|tail| tail.first_chunk()).ok_or_else(corrupt)?;
    let total = BinaryLogFormat::frame_len(u64::from(u32::from_le_bytes(*env_len)));
    let start = end.checked_sub(total).ok_or_else(corrupt)?;
    match segment.scanner(bytes).at(start, None) {
        Found::Record(record) if record.end() == end => {
            detach(&record, bytes).map(Some).ok_or_else(corrupt)
        }
        _ => Err(corrupt()),
    }
}

impl LogStorage {
    /// Reads items as the options say. The reader sees what is in the log now and holds it, whatever
    /// is appended or removed meanwhile. A damaged record gives an error, and reading goes on behind
    /// it.
    ///
    /// # Errors
    /// [`LogError::InvalidInput`] for a position that is not in the log.
    pub fn read(&self, options: &LogReadOptions) -> Result<LogReader> {
        self.inner.read(options)
    }

    /// Reads items from a position on, oldest first.
    ///
    /// # Errors
    /// As [`LogStorage::read`].
    pub fn read_from(&self, position: LogPosition) -> Result<LogReader> {
        self.inner.read(&position.into())
    }
}

/// Options that read everything from a position on.
impl From<LogPosition> for LogReadOptions {
    fn from(from: LogPosition) -> Self {
        Self { from: Some(from), ..Self::default() }
    }
}

impl Inner {
    /// See [`LogStorage::read`].
    pub(super) fn read(self: &Arc<Self>, options: &LogReadOptions) -> Result<LogReader> {
        // Without the log's end, which an append that takes its time may hold.
        let mut spans: Vec<_> = self
            .log
            .segments()
            .into_iter()
            .map(|segment| {
                let end = segment.used();
                Span { segment, start: SEGMENT_START, end }
            })
            .collect();
        if let Some(from) = options.from {
            let known = spans.iter_mut().find(|span| span.segment.id == from.segment);
            let Some(span) = known.filter(|span| (span.start..=span.end).contains(&from.offset))
            else {
                return Err(LogError::InvalidInput(format!(
                    "segment {}, byte {} is not in the log",
                    from.segment, from.offset
                )));
            };
            match options.direction {
                ReadDirection::Forward => span.start = from.offset,
                ReadDirection::Backward => span.end = from.offset,
            }
            spans.retain(|span| match options.direction {
                ReadDirection::Forward => span.segment.id >= from.segment,
                ReadDirection::Backward => span.segment.id <= from.segment,
            });
        }
        let mut spans = self.narrow(spans, options)?;
        if options.direction == ReadDirection::Forward {
            spans.reverse();
        }
        Ok(LogReader {
            inner: Arc::clone(self),
            options: options.clone(),
            spans,
            open: None,
            ready: VecDeque::new(),
            given: 0,
        })
    }

    /// Leaves out what the index says cannot match.
    fn narrow(&self, spans: Vec<Span>, options: &LogReadOptions) -> Result<Vec<Span>> {
        if options.since_ms.is_none()
            && options.until_ms.is_none()
            && options.sequence_min.is_none()
        {
            return Ok(spans);
        }
        let mut narrowed = Vec::new();
        for span in spans {
            if !span.segment.is_sealed() {
                narrowed.push(span);
                continue;
            }
            let index = self.indexes.get(&self.log, &span.segment)?;
            for (at, block) in index.blocks.iter().enumerate() {
                let next = index.blocks.get(at + 1).map_or(u64::MAX, |next| next.sequence);
                let late = options.since_ms.is_none_or(|since| block.time_max >= since);
                let early = options.until_ms.is_none_or(|until| block.time_min < until);
                let high = options.sequence_min.is_none_or(|min| next > min);
                let start = block.offset.max(span.start);
                let end = block.end.min(span.end);
                if late && early && high && start < end {
                    narrowed.push(Span { segment: Arc::clone(&span.segment), start, end });
                }
            }
        }
        Ok(narrowed)
    }
}

/// Part of a segment that is to be read.
#[derive(Debug)]
struct Span {
    segment: Arc<Segment>,
    start: u64,
    end: u64,
}

/// Items of the log, one after the other.
#[derive(Debug)]
pub struct LogReader {
    inner: Arc<Inner>,
    options: LogReadOptions,
    /// Last one first.
    spans: Vec<Span>,
    open: Option<(Span, Bytes)>,
    ready: VecDeque<LogRecord>,
    given: usize,
}

impl Iterator for LogReader {
    type Item = Result<LogRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.options.limit > 0 && self.given >= self.options.limit {
                return None;
            }
            if let Some(record) = self.ready.pop_front() {
                self.given += 1;
                return Some(Ok(record));
            }
            if self.open.is_none() {
                let span = self.spans.pop()?;
                let len = usize::try_from(span.end).unwrap_or(usize::MAX);
                match span.segment.read(0, len) {
                    Ok(bytes) => self.open = Some((span, bytes)),
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.step() {
                Ok(Some(record)) => self.unpack(&record),
                Ok(None) => self.open = None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl LogReader {
    /// The next record of the open span.
    fn step(&mut self) -> Result<Option<ReadRecord>> {
        let Some((span, bytes)) = &mut self.open else { return Ok(None) };
        if span.start >= span.end {
            return Ok(None);
        }
        let scanner = span.segment.scanner(bytes);
        let (record, damage) = match self.options.direction {
            ReadDirection::Forward => match scanner.at(span.start, None) {
                Found::Record(record) => {
                    span.start = record.end();
                    (detach(&record, bytes), None)
                }
                _ => {
                    let end = scanner
                        .resync(span.start + 4, 0)
                        .map_or(span.end, |record| record.position.offset);
                    let start = std::mem::replace(&mut span.start, end);
                    (None, Some(Damage { segment: span.segment.id, start, end }))
                }
            },
            ReadDirection::Backward => match step_back(&span.segment, bytes, span.end) {
                Ok(Some(record)) => {
                    span.end = record.position.offset;
                    (Some(record), None)
                }
                Ok(None) => return Ok(None),
                Err(_) => {
                    let start = last_good_end(span, bytes);
                    let end = std::mem::replace(&mut span.end, start);
                    (None, Some(Damage { segment: span.segment.id, start, end }))
                }
            },
        };
        match (record, damage) {
            (Some(record), _) => self.check_mirror(record).map(Some),
            (None, Some(damage)) => self.heal(damage),
            (None, None) => Err(LogError::Corrupt {
                segment: span.segment.id,
                offset: span.start,
                detail: "the record is not one of log storage",
            }),
        }
    }

    /// A damaged range, from the mirror if that has it.
    fn heal(&mut self, damage: Damage) -> Result<Option<ReadRecord>> {
        let error = LogError::Corrupt {
            segment: damage.segment,
            offset: damage.start,
            detail: "the record fails its checksum",
        };
        let Some((span, bytes)) = &mut self.open else { return Err(error) };
        let Some(mirror) = &self.inner.mirror else { return Err(error) };
        let Some(copy) = mirror.verified(&span.segment, damage) else { return Err(error) };
        if self.inner.options.auto_repair_inconsistency {
            self.inner.repair(&mirror.copy())?;
        }
        let mut placed = bytes.to_vec();
        let (start, end) = (damage.start as usize, damage.end as usize);
        placed[start..end].copy_from_slice(&copy);
        *bytes = Bytes::from(placed);
        match self.options.direction {
            ReadDirection::Forward => span.start = damage.start,
            ReadDirection::Backward => span.end = damage.end,
        }
        self.step()
    }

    /// Compares a record with the mirror's copy, where the options ask for it.
    fn check_mirror(&self, record: ReadRecord) -> Result<ReadRecord> {
        let options = &self.inner.options;
        if let (Some(mirror), true) = (&self.inner.mirror, options.verify_mirror_on_read)
            && let Some((span, bytes)) = &self.open
        {
            let range = record.position.offset as usize..record.end as usize;
            mirror.compare(
                &self.inner.log,
                &span.segment,
                record.position.offset,
                &bytes[range],
                options.auto_repair_inconsistency,
            )?;
        }
        Ok(record)
    }

    /// Takes the items of a record that the options ask for.
    fn unpack(&mut self, record: &ReadRecord) {
        let options = &self.options;
        if options.since_ms.is_some_and(|since| record.time < since)
            || options.until_ms.is_some_and(|until| record.time >= until)
        {
            return;
        }
        let items = if record.flags & FLAG_BATCH != 0 {
            decode_batch(&record.data, record.count).unwrap_or_default()
        } else {
            ContentKind::from_u8(record.kind)
                .map(|kind| (kind, record.head.metadata.clone(), record.data.clone()))
                .into_iter()
                .collect()
        };
        let wanted = |(sequence, (kind, ..)): &(u64, (ContentKind, Bytes, Bytes))| {
            (options.kinds.is_empty() || options.kinds.contains(kind))
                && options.sequence_min.is_none_or(|min| *sequence >= min)
        };
        let records = (record.sequence..).zip(items).filter(wanted).map(
            |(sequence, (kind, metadata, data))| LogRecord {
                position: record.position,
                next: LogPosition { segment: record.position.segment, offset: record.end },
                sequence,
                time_ms: record.time,
                epoch: record.head.epoch,
                kind,
                metadata,
                data,
            },
        );
        match options.direction {
            ReadDirection::Forward => self.ready.extend(records),
            ReadDirection::Backward => records.for_each(|record| self.ready.push_front(record)),
        }
    }
}

/// End of the last whole record of a span that is damaged at its end.
fn last_good_end(span: &Span, bytes: &Bytes) -> u64 {
    let scanner = span.segment.scanner(bytes);
    let mut offset = SEGMENT_START;
    let mut good = span.start;
    while offset < span.end {
        let record = match scanner.at(offset, None) {
            Found::Record(record) => Some(record),
            _ => scanner.resync(offset + 4, 0),
        };
        match record {
            Some(record) if record.end() < span.end => {
                offset = record.end();
                good = offset;
            }
            _ => break,
        }
    }
    good
}

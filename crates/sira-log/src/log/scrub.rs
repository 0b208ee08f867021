//! Checking a log a little at a time, beside whatever else goes on.

use super::SegmentLog;
use super::open::Damage;
use super::scan::Found;
use crate::error::Result;
use crate::record::LogPosition;

/// What one step of a scrub found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubStep {
    /// Where the next step begins; `None` when the log's end was reached.
    pub next: Option<LogPosition>,
    /// Bytes read.
    pub bytes: u64,
    /// Records that verify.
    pub records: u64,
    /// Ranges that do not verify.
    pub damage: Vec<Damage>,
}

impl SegmentLog {
    /// Reads and checks the records from `from` on, until about `bytes` were read or a segment ends.
    /// Whatever is found, the log goes on as it did: [`SegmentLog::verify`] is what stops it.
    ///
    /// `from` is a place that an earlier step named, or the default for the log's begin. Where its
    /// segment is gone, the next one is read.
    ///
    /// # Errors
    /// [`LogError::Io`](crate::error::LogError::Io)
    pub fn scrub(&self, from: LogPosition, bytes: u64) -> Result<ScrubStep> {
        let mut step = ScrubStep::default();
        let mut later = self.segments().into_iter().filter(|segment| segment.id >= from.segment);
        let Some(segment) = later.next() else { return Ok(step) };
        let (end, _) = self.extent(&segment);
        let held = segment.read(0, usize::try_from(end).unwrap_or(usize::MAX))?;
        let scanner = segment.scanner(&held);
        let end = held.len() as u64;
        let start = if segment.id == from.segment { from.offset.min(end) } else { 0 };
        let mut offset = start;
        while offset < end && offset - start < bytes {
            match scanner.at(offset, None) {
                Found::Record(record) => {
                    step.records += 1;
                    offset = record.end();
                }
                Found::End | Found::Bad { .. } => {
                    let next = scanner.resync(offset + 4, 0);
                    let to = next.map_or(end, |record| record.position.offset);
                    step.damage.push(Damage { segment: segment.id, start: offset, end: to });
                    offset = to;
                }
            }
        }
        step.bytes = offset - start;
        step.next = match offset < end {
            true => Some(LogPosition { segment: segment.id, offset }),
            false => later.next().map(|next| LogPosition { segment: next.id, offset: 0 }),
        };
        Ok(step)
    }
}

//! Following the log: which keys were written, in order.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sira_log::log::{Found, RecordRef, SEGMENT_START};
use sira_log::record::ContentKind;

use super::super::NamespaceId;
use super::super::item::Op;
use super::Engine;
use super::replay::changes;
use crate::error::Result;
use crate::version::Version;

/// Within which time records become durable that a follower waits for.
const DURABLE_WITHIN: Duration = Duration::from_millis(50);

/// A place between two records of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Number of the segment.
    pub segment: u32,
    /// Random number of the segment, which no other segment has.
    pub salt: u64,
    /// Bytes from the start of the segment.
    pub offset: u64,
    /// Number of the record that comes next.
    pub sequence: u64,
}

/// Whether a walk goes on behind a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It does.
    On,
    /// It ends behind this record.
    Stop,
    /// The record is not what it should be, and the walk has lost its way.
    Lost,
}

/// A key that was written or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct FollowedKey {
    pub(in super::super) key: Vec<u8>,
    pub(in super::super) version: Version,
    pub(in super::super) removed: bool,
}

/// What came behind a place.
#[derive(Debug)]
pub(in super::super) struct Followed {
    pub(in super::super) keys: Vec<FollowedKey>,
    pub(in super::super) next: LogPlace,
    /// Records behind `next`.
    pub(in super::super) left: u64,
    /// Version of the last record.
    pub(in super::super) last: Option<Version>,
}

impl Engine {
    /// The place behind every record.
    pub(in super::super) fn log_end(&self) -> LogPlace {
        loop {
            let (position, sequence) = self.log.end();
            // It may be sealed and removed in between.
            if let Some(segment) = self.log.segment(position.segment) {
                let (segment, salt) = (segment.id, segment.salt);
                return LogPlace { segment, salt, offset: position.offset, sequence };
            }
        }
    }

    /// Keys of a namespace in the durable records behind a place, of about so many records; `None`
    /// where a record is missing.
    ///
    /// Space is reclaimed by writing live objects again at the end and removing their segment, so
    /// what a follower has not seen of it may be gone: a removal that hides nothing any more is not
    /// written again. Then the numbers of the records have a gap.
    pub(in super::super) fn follow(
        &self,
        from: LogPlace,
        namespace: NamespaceId,
        records: usize,
    ) -> Result<Option<Followed>> {
        let (mut keys, mut last) = (Vec::new(), None);
        let walked = self.walk(from, records, |record, _| {
            let whole = changes(record, |change| {
                if change.header.namespace == namespace {
                    keys.push(FollowedKey {
                        key: change.key.to_vec(),
                        version: change.version,
                        removed: change.header.op == Op::Delete,
                    });
                }
                Ok(())
            })?;
            last = Some(Version::from_u64(record.header.time));
            Ok(if whole { Step::On } else { Step::Lost })
        })?;
        let Some(next) = walked else { return Ok(None) };
        if !keys.is_empty() {
            // A record can be durable before the index has it; when its lock was free once, it has.
            self.stripes.drain();
        }
        let left = self.log.appended().saturating_sub(next.sequence);
        Ok(Some(Followed { keys, next, left, last }))
    }

    /// Visits the durable records of changes behind a place, until about so many records were seen,
    /// with the bytes of their segments; gives the place behind them, or `None` where a record is
    /// missing.
    pub(super) fn walk(
        &self,
        from: LogPlace,
        records: usize,
        mut visit: impl FnMut(&RecordRef<'_>, &Bytes) -> Result<Step>,
    ) -> Result<Option<LogPlace>> {
        let durable = self.log.durable();
        if self.log.appended() > durable {
            self.log.request_durable_within(DURABLE_WITHIN);
        }
        let Some(mut segment) = self.log.segment(from.segment) else { return Ok(None) };
        if segment.salt != from.salt || from.sequence > self.log.appended() {
            return Ok(None);
        }
        let (mut next, mut seen) = (from, 0);
        while seen < records && next.sequence < durable {
            let sealed = segment.is_sealed();
            let bytes = segment.read_used()?;
            let scanner = segment.scanner(&bytes);
            while seen < records && next.sequence < durable {
                let record = match scanner.at(next.offset, Some(next.sequence)) {
                    Found::Record(record) => record,
                    Found::End => break,
                    Found::Bad { .. } => return Ok(None),
                };
                let step = match record.header.kind == ContentKind::Custom as u8 {
                    true => visit(&record, &bytes)?,
                    false => Step::On,
                };
                if step == Step::Lost {
                    return Ok(None);
                }
                seen += 1;
                next.offset = record.end();
                next.sequence = record.header.sequence + u64::from(record.header.count);
                if step == Step::Stop {
                    return Ok(Some(next));
                }
            }
            if seen >= records || next.sequence >= durable || !sealed {
                break;
            }
            let behind = self.log.segments().into_iter().find(|later| later.id > segment.id);
            let Some(behind) = behind else { break };
            if behind.first_sequence != next.sequence {
                return Ok(None);
            }
            next.segment = behind.id;
            next.salt = behind.salt;
            next.offset = SEGMENT_START;
            segment = behind;
        }
        Ok(Some(next))
    }
}

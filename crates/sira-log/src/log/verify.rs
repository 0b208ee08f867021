//! Checking every byte, and making a damaged log writable again.

use std::path::PathBuf;
use std::sync::Arc;

use super::open::Damage;
use super::scan::{Found, is_zero};
use super::segment::{SEGMENT_START, Segment};
use super::{METADATA_DIR, SegmentLog};
use crate::disk::{OpenMode, write_atomically};
use crate::error::{LogError, Result};
use crate::frame::BinaryLogFormat;
use crate::record::{KIND_HOLE, LogPosition, RECORD_HEADER_BYTES, RecordHeader};

/// What checking a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Records that verify.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Ranges that do not verify.
    pub damage: Vec<Damage>,
    /// Ranges that an earlier repair gave up.
    pub holes: u64,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Ranges that were put back from another copy.
    pub restored: Vec<Damage>,
    /// Ranges that no copy had: what they held is lost. Their bytes were saved.
    pub lost: Vec<Damage>,
    /// Files that the lost bytes were saved to.
    pub saved_to: Vec<PathBuf>,
}

/// Another copy of the log's segments, byte for byte.
pub trait SegmentCopy {
    /// The bytes of a range of a segment, if the copy has them.
    fn read(&self, segment: &Segment, offset: u64, len: usize) -> Option<Vec<u8>>;
}

/// No other copy.
impl SegmentCopy for () {
    fn read(&self, _: &Segment, _: u64, _: usize) -> Option<Vec<u8>> {
        None
    }
}

impl SegmentLog {
    /// Reads and checks every byte of every segment while appends go on. Damage that is found makes
    /// the log refuse writes until [`SegmentLog::repair`].
    ///
    /// # Errors
    /// [`LogError::Io`]
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        // Damage without a file, such as a segment that is gone, can only be repeated.
        report.damage.extend(
            self.damage().into_iter().filter(|damage| self.segment(damage.segment).is_none()),
        );
        for segment in self.segments() {
            verify_segment(&segment, self.end_of(&segment), &mut report)?;
        }
        for damage in &report.damage {
            self.report_damage(*damage);
        }
        Ok(report)
    }

    /// Number after the last record of a sealed segment, where the next one tells it.
    fn end_of(&self, segment: &Segment) -> Option<u64> {
        let next = segment.id.checked_add(1).filter(|_| segment.is_sealed())?;
        self.segment(next).map(|next| next.first_sequence)
    }

    /// Puts damaged ranges back from `copy`, or closes them with a hole where it has none, and lets
    /// writes go on. Bytes of a range that is given up are saved beside the log first.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] (open the log again first), [`LogError::Io`]; what was repaired by then
    /// stays so.
    pub fn repair(&self, copy: &dyn SegmentCopy) -> Result<RepairReport> {
        if let Some(reason) = &*self.shared.poisoned.lock() {
            return Err(LogError::Poisoned { reason: reason.clone() });
        }
        let mut report = RepairReport::default();
        let found = self.verify()?;
        for damage in found.damage {
            let Some(segment) = self.segment(damage.segment) else {
                report.lost.push(damage);
                continue;
            };
            if self.restore(&segment, damage, copy)? {
                report.restored.push(damage);
            } else if damage.start == damage.end {
                self.close_cut_end(&segment)?;
                report.lost.push(damage);
            } else {
                report.saved_to.push(self.save_aside(&segment, damage)?);
                self.close_with_hole(&segment, damage)?;
                report.lost.push(damage);
            }
        }
        self.clear_damage()?;
        Ok(report)
    }

    /// Writes the copy's bytes of a range if all records in them verify.
    fn restore(
        &self,
        segment: &Arc<Segment>,
        damage: Damage,
        copy: &dyn SegmentCopy,
    ) -> Result<bool> {
        let len = usize::try_from(damage.end - damage.start).unwrap_or(usize::MAX);
        let Some(bytes) = copy.read(segment, damage.start, len) else { return Ok(false) };
        if !verifies(segment, damage, &bytes) {
            return Ok(false);
        }
        self.overwrite(segment, damage.start, &[&bytes])?;
        Ok(true)
    }

    fn save_aside(&self, segment: &Segment, damage: Damage) -> Result<PathBuf> {
        let len = usize::try_from(damage.end - damage.start).unwrap_or(usize::MAX);
        let bytes = segment.read(damage.start, len)?;
        let path = self
            .root()
            .join(METADATA_DIR)
            .join(format!("damaged-{:03}-{}", damage.segment, damage.start));
        write_atomically(&**self.disk(), &path, &bytes)
            .map_err(LogError::io("save damaged bytes to", &path))?;
        Ok(path)
    }

    /// Writes a frame without content over a range, so that every reader steps over it.
    fn close_with_hole(&self, segment: &Arc<Segment>, damage: Damage) -> Result<()> {
        let total = damage.end - damage.start;
        let overhead = (BinaryLogFormat::HEAD_BYTES + BinaryLogFormat::TAIL_BYTES) as u64;
        if total < overhead + RECORD_HEADER_BYTES as u64 || !total.is_multiple_of(4) {
            return Err(LogError::Corrupt {
                segment: damage.segment,
                offset: damage.start,
                detail: "the damage is too small for a frame",
            });
        }
        let env_len = u32::try_from(total - overhead).map_err(|_| LogError::TooLarge {
            bytes: total,
            limit: BinaryLogFormat::ENVELOPE_BYTES_MAX,
        })?;
        let position = LogPosition { segment: damage.segment, offset: damage.start };
        let header = RecordHeader {
            kind: KIND_HOLE,
            flags: 0,
            data_offset: RECORD_HEADER_BYTES as u32,
            salt: segment.salt,
            sequence: match self.end_of(segment).filter(|_| damage.end >= segment.used()) {
                Some(end) => end,
                None => self.sequence_before(segment, damage.start)?,
            },
            time: 0,
            count: 0,
        }
        .encode(position, env_len);
        let zeros = vec![0; env_len as usize - RECORD_HEADER_BYTES];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &zeros);
        let (tail, count) = BinaryLogFormat::tail(env_len, crc);
        self.overwrite(
            segment,
            damage.start,
            &[&BinaryLogFormat::head(env_len), &header, &zeros, &tail[..count]],
        )
    }

    /// Closes a sealed segment whose last records were cut off whole with a hole of its own.
    fn close_cut_end(&self, segment: &Arc<Segment>) -> Result<()> {
        let start = segment.used();
        let end = start + BinaryLogFormat::frame_len(RECORD_HEADER_BYTES as u64);
        let path = &segment.path;
        let file =
            self.disk().open(path, OpenMode::Write, end).map_err(LogError::io("open", path))?;
        file.allocate(end, false).map_err(LogError::io("repair", path))?;
        drop(file);
        self.close_with_hole(segment, Damage { segment: segment.id, start, end })?;
        let whole = Segment::open(&**self.disk(), path, segment.id, OpenMode::Read, 0)?;
        self.shared.insert_segment(&Arc::new(whole));
        Ok(())
    }

    /// Sequence that the record at `offset` would have by the records before it.
    fn sequence_before(&self, segment: &Segment, offset: u64) -> Result<u64> {
        let bytes = segment.read_used()?;
        let scanner = segment.scanner(&bytes);
        let (mut at, mut sequence) = (SEGMENT_START, segment.first_sequence);
        while at < offset {
            match scanner.at(at, None) {
                Found::Record(record) => {
                    sequence = record.header.sequence + u64::from(record.header.count);
                    at = record.end();
                }
                _ => break,
            }
        }
        Ok(sequence)
    }

    fn overwrite(&self, segment: &Segment, offset: u64, parts: &[&[u8]]) -> Result<()> {
        // Sealed segments are open for reading; both maps show the same bytes.
        let file = self
            .disk()
            .open(&segment.path, OpenMode::Write, 0)
            .map_err(LogError::io("open", &segment.path))?;
        file.write_at(offset, parts)
            .and_then(|()| file.sync())
            .map_err(LogError::io("repair", &segment.path))
    }
}

/// Checks one segment, and adds what was found to the report. `end` is the number after its last
/// record, where it is known.
fn verify_segment(segment: &Segment, end: Option<u64>, report: &mut VerifyReport) -> Result<()> {
    let bytes = segment.read_used()?;
    let scanner = segment.scanner(&bytes);
    report.segments += 1;
    report.bytes += bytes.len() as u64;
    let mut offset = 0;
    let mut sequence = segment.first_sequence;
    let damage_before = report.damage.len();
    while offset < bytes.len() as u64 {
        match scanner.at(offset, None) {
            Found::Record(record) => {
                sequence = record.header.sequence + u64::from(record.header.count);
                match record.header.kind {
                    KIND_HOLE => report.holes += 1,
                    crate::record::KIND_SEGMENT => {}
                    _ => report.records += 1,
                }
                offset = record.end();
            }
            // Readers are only ever shown whole frames: zeros among them were written over.
            Found::End | Found::Bad { .. } => {
                let end = scanner
                    .resync(offset + 4, 0)
                    .map_or(bytes.len() as u64, |record| record.position.offset);
                report.damage.push(Damage { segment: segment.id, start: offset, end });
                offset = end;
            }
        }
    }
    // Records that were cut off whole leave nothing behind that could fail its checksum.
    if report.damage.len() == damage_before && end.is_some_and(|end| sequence < end) {
        report.damage.push(Damage { segment: segment.id, start: offset, end: offset });
    }
    Ok(())
}

/// Whether bytes from another copy are whole records of this segment.
fn verifies(segment: &Segment, damage: Damage, copy: &[u8]) -> bool {
    // The scanner checks places, so the bytes must stand where they belong.
    let start = usize::try_from(damage.start).unwrap_or(usize::MAX);
    let mut placed = vec![0; start];
    placed.extend_from_slice(copy);
    let scanner = segment.scanner(&placed);
    let mut offset = damage.start;
    while offset < damage.end {
        match scanner.at(offset, None) {
            Found::Record(record) => offset = record.end(),
            _ => return false,
        }
    }
    offset == damage.end && !is_zero(copy)
}

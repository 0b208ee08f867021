//! Checking every byte, and making a damaged log writable again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mark::Mark;
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

    /// The month folder and all bytes of the segment with this number, of a log with this stem.
    fn whole(&self, id: u32, stem: &str) -> Option<(String, Vec<u8>)>;
}

/// No other copy.
impl SegmentCopy for () {
    fn read(&self, _: &Segment, _: u64, _: usize) -> Option<Vec<u8>> {
        None
    }

    fn whole(&self, _: u32, _: &str) -> Option<(String, Vec<u8>)> {
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
            let (used, end) = self.extent(&segment);
            verify_segment(&segment, used, end, &mut report)?;
        }
        for damage in &report.damage {
            self.report_damage(*damage);
        }
        Ok(report)
    }

    /// Where the records of a segment end, and the number after the last one where it is known: of a
    /// sealed segment, the next one tells it.
    pub(super) fn extent(&self, segment: &Segment) -> (u64, Option<u64>) {
        let (end, sequence) = self.end();
        if end.segment == segment.id {
            return (end.offset, Some(sequence));
        }
        let next = segment.id.checked_add(1).and_then(|next| self.segment(next));
        (segment.used(), next.map(|next| next.first_sequence))
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
        for damage in self.damage() {
            if self.segment(damage.segment).is_some() {
                continue;
            }
            if self.bring_back(damage.segment, copy)? {
                report.restored.push(damage);
            } else {
                report.lost.push(damage);
            }
            report.saved_to.extend(self.move_aside(damage.segment)?);
        }
        for damage in self.verify()?.damage {
            let Some(segment) = self.segment(damage.segment) else { continue };
            if self.restore(&segment, damage, copy)? {
                report.restored.push(damage);
                continue;
            }
            if damage.start < damage.end {
                report.saved_to.push(self.save_aside(&segment, damage)?);
            }
            if damage.end < self.extent(&segment).0 {
                self.close_with_hole(&segment, damage)?;
            } else {
                self.close_end(&segment, damage.start)?;
            }
            report.lost.push(damage);
        }
        self.clear_damage()?;
        Ok(report)
    }

    /// Puts a segment that is gone, or whose first frame is damaged, back from the copy.
    fn bring_back(&self, id: u32, copy: &dyn SegmentCopy) -> Result<bool> {
        let Some((month, bytes)) = copy.whole(id, &self.options().stem) else { return Ok(false) };
        // Tried aside first: what replaces a file must be better than it.
        let aside = self.root().join(METADATA_DIR).join(format!("restored-{id:03}"));
        let disk = &**self.disk();
        write_atomically(disk, &aside, &bytes).map_err(LogError::io("write", &aside))?;
        let whole = match Segment::open(disk, &aside, id, OpenMode::Read, 0) {
            Ok(segment) => {
                let mut report = VerifyReport::default();
                verify_segment(&segment, segment.used(), None, &mut report)?;
                report.damage.is_empty()
            }
            Err(LogError::Corrupt { .. } | LogError::Format { .. }) => false,
            Err(error) => return Err(error),
        };
        if !whole {
            disk.remove_file(&aside).map_err(LogError::io("remove", &aside))?;
            return Ok(false);
        }
        self.move_aside(id)?;
        let folder = self.root().join(month);
        let path = folder.join(format!("{}.{id:03}", self.options().stem));
        disk.create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
        disk.sync_dir(self.root()).map_err(LogError::io("sync", self.root()))?;
        disk.rename(&aside, &path).map_err(LogError::io("restore", &path))?;
        disk.sync_dir(&folder).map_err(LogError::io("sync", &folder))?;
        let segment = Segment::open(disk, &path, id, OpenMode::Read, 0)?;
        self.shared.insert_segment(&Arc::new(segment));
        Ok(true)
    }

    /// Moves aside the file of a segment that is none of the log's, so that it is not found damaged
    /// again and again.
    fn move_aside(&self, id: u32) -> Result<Option<PathBuf>> {
        if self.segment(id).is_some() {
            return Ok(None);
        }
        super::open::move_unreadable_aside(&**self.disk(), self.root(), &self.options().stem, id)
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

    /// Writes a frame without content over a range between two records, so that every reader steps
    /// over it.
    fn close_with_hole(&self, segment: &Segment, damage: Damage) -> Result<()> {
        let bytes = segment.read_used()?;
        let after = match segment.scanner(&bytes).at(damage.end, None) {
            Found::Record(record) => Some(record.header.sequence),
            _ => None,
        };
        self.write_hole(segment, damage, after)
    }

    /// Writes the hole; `after` is the number of the record behind it.
    fn write_hole(&self, segment: &Segment, damage: Damage, after: Option<u64>) -> Result<()> {
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
        // The hole takes the place of the records that were there, so that the numbers go on.
        let before = self.sequence_before(segment, damage.start)?;
        let after = after.unwrap_or(before);
        let header = RecordHeader {
            kind: KIND_HOLE,
            flags: 0,
            data_offset: RECORD_HEADER_BYTES as u32,
            salt: segment.salt,
            sequence: before,
            time: 0,
            count: u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX),
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

    /// Closes a segment whose end is damaged or was cut off with a hole as large as a frame must be.
    fn close_end(&self, segment: &Arc<Segment>, start: u64) -> Result<()> {
        let (disk, path) = (&**self.disk(), &segment.path);
        let mut tail = self.shared.tail.lock();
        let is_active = tail.active.id == segment.id;
        let next = segment.id.checked_add(1).and_then(|next| self.segment(next));
        let (used, after) = match is_active {
            true => (tail.offset, Some(tail.sequence)),
            false => (segment.used(), next.map(|next| next.first_sequence)),
        };
        let least = start + BinaryLogFormat::frame_len(RECORD_HEADER_BYTES as u64);
        let end = used.max(least).next_multiple_of(BinaryLogFormat::ALIGN_BYTES as u64);
        // The file may have to grow past what it was opened for.
        let reserve = segment.reserve.max(end);
        let file = disk.open(path, OpenMode::Write, reserve).map_err(LogError::io("open", path))?;
        if end > file.len() {
            file.allocate(end, false).map_err(LogError::io("repair", path))?;
        }
        drop(file);
        self.write_hole(segment, Damage { segment: segment.id, start, end }, after)?;
        let mode = if is_active { OpenMode::Write } else { OpenMode::Read };
        let whole = Arc::new(Segment::open(disk, path, segment.id, mode, reserve)?);
        if is_active {
            whole.used.store(end, Ordering::Release);
            whole.sealed.store(false, Ordering::Release);
            tail.active = Arc::clone(&whole);
            tail.offset = end;
            tail.look_ahead_at = 0;
            self.mark_end(end, tail.sequence, segment.id)?;
        }
        self.shared.insert_segment(&whole);
        Ok(())
    }

    /// Makes the log's end durable in both slots of the mark: an older mark may lie behind it.
    fn mark_end(&self, offset: u64, sequence: u64, segment: u32) -> Result<()> {
        let mut mark = self.shared.mark.lock();
        for _ in 0..2 {
            mark.write(Mark { segment, offset, sequence, clean: false })
                .and_then(|()| mark.sync())
                .map_err(LogError::io("write the mark in", self.root()))?;
        }
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

/// Checks one segment up to `used`, and adds what was found to the report. `end` is the number after
/// its last record, where it is known.
pub(super) fn verify_segment(
    segment: &Segment,
    used: u64,
    end: Option<u64>,
    report: &mut VerifyReport,
) -> Result<()> {
    let bytes = segment.read(0, usize::try_from(used).unwrap_or(usize::MAX))?;
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
    let named = report.damage.iter().skip(damage_before).any(|damage| damage.end == offset);
    if !named && end.is_some_and(|end| sequence < end) {
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

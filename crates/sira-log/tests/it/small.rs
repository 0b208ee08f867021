//! A small log cut at every byte and flipped at every bit: every record is there or an error says
//! that it is damaged, and a wrong byte is never served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::{Disk, OpenMode, SimDisk, read_all};
use sira_log::env::SimEnv;
use sira_log::frame::BinaryLogWriter;
use sira_log::log::{Damage, Entry, Found, SEGMENT_START, SegmentLog, SegmentLogOptions};
use sira_log::record::{ContentKind, RecordHeader};
use sira_log::{LogError, LogPosition};

const ROOT: &str = "/log";
const ACTIVE: &str = "/log/2026-11/messages.002";
const SEALED: &str = "/log/2026-11/messages.001";
const MARK: &str = "/log/.metadata/messages.mark";

fn open_with(disk: &SimDisk) -> Result<(SegmentLog, sira_log::log::OpenReport), LogError> {
    let options = SegmentLogOptions {
        segment_bytes: 16 << 10,
        reserve_bytes: 0,
        background: false,
        ..SegmentLogOptions::default()
    };
    let env = Arc::new(SimEnv::new(7, 1_795_000_000_000));
    SegmentLog::open(Arc::new(disk.clone()), env, Path::new(ROOT), options)
}

/// A frame that would be record `sequence` at `place`, but for the salt that its author cannot know.
fn forged(place: LogPosition, sequence: u64) -> Vec<u8> {
    let header = RecordHeader {
        kind: ContentKind::Custom as u8,
        flags: 0,
        data_offset: 40,
        salt: 1,
        sequence,
        time: 1,
        count: 1,
    };
    let data = b"this was never appended";
    let header = header.encode(place, 40 + data.len() as u32);
    let mut writer = BinaryLogWriter::new(Vec::new());
    writer.append(&[&header, data]).unwrap();
    writer.into_inner()
}

/// What the records hold. The last but one carries a frame for its own place.
fn records() -> Vec<Vec<u8>> {
    vec![
        b"first".to_vec(),
        vec![],
        vec![0; 700],
        (0..=255).collect(),
        b"ELOG\x05\0\0\0".repeat(30),
        b"the sixth".to_vec(),
        vec![0xFF; 90],
        vec![],
        b"last".to_vec(),
    ]
}

/// Records of the sealed segment.
const SEALED_RECORDS: usize = 4;

struct Small {
    disk: SimDisk,
    data: Vec<Vec<u8>>,
    /// Where each record's frame ends.
    ends: Vec<u64>,
    /// The end of the active segment.
    end: u64,
}

/// Appends a record and returns its number.
fn append(log: &SegmentLog, data: &[u8]) -> u64 {
    let entry = Entry {
        kind: ContentKind::Custom as u8,
        flags: 0,
        time: 1,
        count: 1,
        head: &[],
        data,
        align: 1,
        data_crc: None,
    };
    log.append(&entry).unwrap().sequence
}

/// Writes the log into two segments, all of it durable.
fn small(close: bool) -> Small {
    let disk = SimDisk::new(3);
    let (log, _) = open_with(&disk).unwrap();
    let mut data = records();
    let mut ends = Vec::new();
    for at in 0..data.len() {
        if at == SEALED_RECORDS {
            log.rotate().unwrap();
        }
        if at == data.len() - 2 {
            let (mut place, sequence) = log.end();
            place.offset += 8 + 40;
            data[at] = forged(place, sequence + 1);
        }
        append(&log, &data[at]);
        ends.push(log.end().0.offset);
    }
    log.wait_durable(data.len() as u64).unwrap();
    let end = log.active_segment().used();
    if close {
        log.close().unwrap();
    }
    Small { disk: disk.kill(), data, ends, end }
}

/// What a damaged log gives.
struct Outcome {
    /// An error or a report says that something is damaged or was cut off.
    reported: bool,
    /// Damage that opening or verifying named.
    damaged: bool,
    found: Vec<usize>,
}

/// Opens and reads everything that can be read; every record must be one that was written.
fn outcome(small: &Small, disk: &SimDisk, what: &str) -> Outcome {
    let (log, report) = match open_with(disk) {
        Ok(opened) => opened,
        Err(LogError::Format { .. } | LogError::Corrupt { .. }) => {
            return Outcome { reported: true, damaged: true, found: Vec::new() };
        }
        Err(error) => panic!("{what}: the open failed: {error}"),
    };
    let damaged = !report.damage.is_empty() || !log.verify().unwrap().damage.is_empty();
    let mut found = Vec::new();
    for segment in log.segments() {
        let bytes = segment.read_used().unwrap();
        let scanner = segment.scanner(&bytes);
        let mut offset = SEGMENT_START;
        while offset < bytes.len() as u64 {
            let record = match scanner.at(offset, None) {
                Found::Record(record) => record,
                _ => match scanner.resync(offset + 4, 0) {
                    Some(record) => record,
                    None => break,
                },
            };
            let sequence = record.header.sequence as usize;
            assert!(
                small.data.get(sequence).is_some_and(|data| data == record.data()),
                "{what}: record {sequence} was never written"
            );
            found.push(sequence);
            offset = record.end();
        }
    }
    if damaged {
        assert!(log.check_writable().is_err(), "{what}: a damaged log takes writes");
    }
    Outcome { reported: damaged || report.torn.is_some(), damaged, found }
}

fn is_whole(small: &Small, outcome: &Outcome) -> bool {
    outcome.found == (0..small.data.len()).collect::<Vec<_>>()
}

fn cut(disk: &SimDisk, path: &str, len: u64) {
    let file = disk.open(Path::new(path), OpenMode::Write, 0).unwrap();
    file.truncate(len).unwrap();
    file.sync().unwrap();
}

/// As a loss of power can leave it.
fn without_mark(disk: &SimDisk) {
    disk.remove_file(Path::new(MARK)).unwrap();
}

#[test]
fn the_small_log_is_what_it_should_be() {
    for close in [false, true] {
        let small = small(close);
        let outcome = outcome(&small, &small.disk.kill(), "untouched");
        assert!(is_whole(&small, &outcome) && !outcome.reported);
    }
}

#[test]
fn an_end_that_was_durable_is_missed_at_every_cut() {
    for close in [false, true] {
        let small = small(close);
        for len in 0..small.end {
            let disk = small.disk.kill();
            cut(&disk, ACTIVE, len);
            let outcome = outcome(&small, &disk, &format!("cut to {len}"));
            assert!(outcome.damaged, "cut to {len}: nothing says so");
            let kept = small.ends[SEALED_RECORDS..].iter().filter(|end| **end <= len).count();
            assert_eq!(outcome.found.len(), SEALED_RECORDS + kept, "cut to {len}");
        }
    }
}

#[test]
fn an_unsynced_end_is_a_prefix_at_every_cut() {
    let small = small(false);
    for len in 0..small.end {
        let disk = small.disk.kill();
        without_mark(&disk);
        cut(&disk, ACTIVE, len);
        let outcome = outcome(&small, &disk, &format!("cut to {len}"));
        let kept = small.ends[SEALED_RECORDS..].iter().filter(|end| **end <= len).count();
        let expected: Vec<usize> = (0..SEALED_RECORDS + kept).collect();
        assert_eq!(outcome.found, expected, "cut to {len}");
        assert!(!outcome.damaged, "cut to {len}: a torn end is no damage");
    }
}

#[test]
fn a_sealed_segment_is_missed_at_every_cut_and_never_cut() {
    let small = small(false);
    let whole = read_all(&small.disk, Path::new(SEALED)).unwrap();
    for len in 0..whole.len() as u64 {
        let disk = small.disk.kill();
        cut(&disk, SEALED, len);
        let outcome = outcome(&small, &disk, &format!("cut to {len}"));
        assert!(outcome.damaged, "cut to {len}: nothing says so");
        let kept = small.ends[..SEALED_RECORDS].iter().filter(|end| **end <= len).count();
        let kept = if len < SEGMENT_START { 0 } else { kept };
        assert_eq!(outcome.found.len(), kept + small.data.len() - SEALED_RECORDS);
        let after = read_all(&disk, Path::new(SEALED)).unwrap();
        assert_eq!(after, whole[..len as usize], "the sealed segment was written to");
    }
}

#[test]
fn every_flipped_bit_is_reported_or_harmless() {
    for (close, marked) in [(false, true), (true, true), (false, false)] {
        let small = small(close);
        if !marked {
            without_mark(&small.disk);
        }
        let files: Vec<(PathBuf, u64)> = small.disk.files();
        assert!(files.len() >= 4 || !marked, "{files:?}");
        for (path, len) in files {
            for bit in 0..len * 8 {
                let disk = small.disk.kill();
                disk.flip_bit(&path, bit / 8, (bit % 8) as u8).unwrap();
                let what = format!("bit {bit} of {}, closed {close}", path.display());
                let outcome = outcome(&small, &disk, &what);
                assert!(is_whole(&small, &outcome) || outcome.reported, "{what}");
                // Where the mark tells how far the log was durable, nothing counts as torn.
                let was_durable = marked && path.extension().is_some_and(|ext| ext != "mark");
                assert!(is_whole(&small, &outcome) || outcome.damaged || !was_durable, "{what}");
            }
        }
    }
}

#[test]
fn a_segment_that_was_cut_is_repaired_once() {
    let small = small(false);
    for (path, whole) in [(SEALED, small.ends[SEALED_RECORDS - 1]), (ACTIVE, small.end)] {
        // Not all cuts, for they take long: these meet every place of a word and of a frame.
        for len in (0..whole).step_by(5).chain([SEGMENT_START]).chain(small.ends.clone()) {
            if len >= whole {
                continue;
            }
            let what = format!("{path} cut to {len}");
            let disk = small.disk.kill();
            cut(&disk, path, len);
            let (log, _) = open_with(&disk).unwrap();
            assert_eq!(log.repair(&()).unwrap().lost.len(), 1, "{what}");
            assert_eq!(log.verify().unwrap().damage, [], "{what}");
            log.check_writable().unwrap();
            let next = append(&log, b"after the repair");
            assert_eq!(next, small.data.len() as u64, "{what}: numbers must go on");
            drop(log);
            for marked in [true, false] {
                let disk = disk.kill();
                if !marked {
                    without_mark(&disk);
                }
                let (log, report) = open_with(&disk).unwrap();
                assert_eq!(
                    (report.damage, log.verify().unwrap().damage),
                    (vec![], vec![]),
                    "{what}"
                );
                assert_eq!(log.appended(), next + 1, "{what}");
            }
        }
    }
}

/// Numbers go on behind records that were given up, so that an open without the mark, which counts
/// them, finds nothing wrong.
#[test]
fn a_hole_stands_for_the_records_that_were_there() {
    let small = small(false);
    let disk = small.disk.kill();
    disk.flip_bit(Path::new(ACTIVE), small.ends[SEALED_RECORDS] + 60, 1).unwrap();
    let (log, _) = open_with(&disk).unwrap();
    assert_eq!(log.verify().unwrap().damage.len(), 1);
    log.repair(&()).unwrap();
    drop(log);
    let disk = disk.kill();
    without_mark(&disk);
    let (log, report) = open_with(&disk).unwrap();
    assert_eq!((report.damage, report.torn), (vec![], None));
    assert_eq!(log.appended(), small.data.len() as u64);
}

/// Records that were cut off whole fail no checksum; only the next segment tells.
#[test]
fn a_sealed_segment_that_lost_whole_records_is_named_at_open() {
    for close in [false, true] {
        let small = small(close);
        for end in [SEGMENT_START].iter().chain(&small.ends[..SEALED_RECORDS - 1]) {
            let disk = small.disk.kill();
            cut(&disk, SEALED, *end);
            let (log, report) = open_with(&disk).unwrap();
            assert_eq!(report.damage, [Damage { segment: 1, start: *end, end: *end }]);
            assert!(matches!(log.check_writable(), Err(LogError::Damaged { .. })));
        }
    }
}

#[test]
fn numbers_behind_damage_are_not_given_again() {
    let small = small(false);
    let disk = small.disk.kill();
    without_mark(&disk);
    disk.flip_bit(Path::new(SEALED), small.ends[0] + 60, 1).unwrap();
    disk.flip_bit(Path::new(ACTIVE), 20, 1).unwrap();
    let (log, report) = open_with(&disk).unwrap();
    assert_eq!(report.damage.len(), 1, "the first frame of the active segment");
    assert!(log.appended() >= SEALED_RECORDS as u64, "{} is given again", log.appended());
}

#[test]
fn a_cut_end_behind_other_damage_is_repaired_with_it() {
    let small = small(false);
    let disk = small.disk.kill();
    disk.flip_bit(Path::new(SEALED), small.ends[0] + 20, 1).unwrap();
    cut(&disk, SEALED, small.ends[SEALED_RECORDS - 2]);
    let (log, report) = open_with(&disk).unwrap();
    assert_eq!(report.damage.len(), 2);
    assert_eq!(log.repair(&()).unwrap().lost.len(), 2);
    assert_eq!(log.verify().unwrap().damage, []);
}

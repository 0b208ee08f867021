use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::disk::OsDisk;
use crate::env::SystemEnv;

pub(in crate::log) fn options() -> SegmentLogOptions {
    SegmentLogOptions {
        segment_bytes: 64 << 10,
        reserve_bytes: 16 << 10,
        background: false,
        ..SegmentLogOptions::default()
    }
}

fn open(root: &Path) -> (SegmentLog, OpenReport) {
    SegmentLog::open(Arc::new(OsDisk), Arc::new(SystemEnv), root, options()).unwrap()
}

fn entry<'a>(head: &'a [&'a [u8]], data: &'a [u8]) -> Entry<'a> {
    Entry { kind: 5, flags: 0, time: 7, count: 1, head, data, align: 1, data_crc: None }
}

fn all(log: &SegmentLog) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    for segment in log.segments() {
        let bytes = segment.read_used().unwrap();
        let mut offset = SEGMENT_START;
        while let Found::Record(record) = segment.scanner(&bytes).at(offset, None) {
            records.push((record.header.sequence, record.data().to_vec()));
            offset = record.end();
        }
        assert_eq!(offset, segment.used(), "segment {} ends early", segment.id);
    }
    records
}

fn active_path(log: &SegmentLog) -> PathBuf {
    log.active_segment().path.clone()
}

fn unclean(log: SegmentLog) -> PathBuf {
    let path = active_path(&log);
    drop(log);
    path
}

#[test]
fn records_survive_rotation_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let (log, report) = open(dir.path());
    assert!(report.created);
    for n in 0..500_u64 {
        let data = vec![n as u8; (n * 7 % 900) as usize];
        let appended = log.append(&entry(&[b"head"], &data)).unwrap();
        assert_eq!(appended.sequence, n);
        expected.push((n, data));
    }
    log.wait_durable(500).unwrap();
    assert!(log.segments().len() > 2);
    assert_eq!(all(&log), expected);
    log.close().unwrap();
    assert!(matches!(log.append(&entry(&[], b"late")), Err(LogError::Closed)));
    drop(log);
    let (log, report) = open(dir.path());
    assert!(report.clean && report.scanned_records == 0);
    assert_eq!(all(&log), expected);
    log.append(&entry(&[], b"more")).unwrap();
    expected.push((500, b"more".to_vec()));
    unclean(log);
    let (log, report) = open(dir.path());
    assert!(!report.clean && report.torn.is_none() && report.damage.is_empty());
    assert_eq!(all(&log), expected);
}

#[test]
fn aligned_data_and_given_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let data = vec![3; 100_000];
    let crc = crc32c::crc32c(&data);
    let mut aligned = entry(&[b"k", b"meta"], &data);
    (aligned.align, aligned.data_crc) = (4096, Some(crc));
    log.append(&entry(&[], b"x")).unwrap();
    let appended = log.append(&aligned).unwrap();
    assert_eq!(appended.data_offset % 4096, 0);
    let segment = log.segment(appended.position.segment).unwrap();
    assert_eq!(segment.read(appended.data_offset, data.len()).unwrap(), data);
    assert_eq!(all(&log).last().unwrap().1, data);
}

#[test]
fn a_torn_end_is_saved_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&entry(&[], b"kept")).unwrap();
    log.wait_durable(1).unwrap();
    let end = log.active_segment().used();
    log.append(&entry(&[], &[9; 3000])).unwrap();
    let path = unclean(log);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[end as usize + 600..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (log, report) = open(dir.path());
    let torn = report.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (end, 600));
    assert_eq!(std::fs::read(torn.saved_to).unwrap(), bytes[end as usize..end as usize + 600]);
    assert_eq!(all(&log), [(0, b"kept".to_vec())]);
    assert_eq!(log.append(&entry(&[], b"next")).unwrap().sequence, 1);
}

#[test]
fn garbage_of_any_length_behind_the_end_opens_right() {
    for length in (0..1600).step_by(7).chain([512, 513, 1024, 4096]) {
        for fill in [0_u8, 0xA5] {
            let dir = tempfile::tempdir().unwrap();
            let (log, _) = open(dir.path());
            log.append(&entry(&[], b"kept")).unwrap();
            log.wait_durable(1).unwrap();
            let end = log.active_segment().used() as usize;
            let path = unclean(log);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(end);
            bytes.extend(std::iter::repeat_n(fill, length));
            std::fs::write(&path, &bytes).unwrap();
            let (log, report) = open(dir.path());
            assert!(report.damage.is_empty());
            assert_eq!(report.torn.is_some(), fill != 0 && length > 0, "{length} of {fill}");
            assert_eq!(all(&log), [(0, b"kept".to_vec())]);
        }
    }
}

#[test]
fn damage_before_the_mark_refuses_writes_and_keeps_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let mut places = Vec::new();
    for n in 0..5_u8 {
        places.push(log.append(&entry(&[], &[n; 50])).unwrap());
    }
    log.wait_durable(5).unwrap();
    let path = unclean(log);
    // The marks are gone, as after a loss of power: the frame itself tells damage from tearing.
    std::fs::remove_file(dir.path().join(".metadata/messages.mark")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[places[2].data_offset as usize + 3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (log, report) = open(dir.path());
    let expected =
        Damage { segment: 1, start: places[2].position.offset, end: places[3].position.offset };
    assert_eq!(report.damage, [expected]);
    assert!(matches!(log.append(&entry(&[], b"no")), Err(LogError::Damaged { .. })));
    let segment = log.segment(1).unwrap();
    assert!(segment.with_record(places[2].position.offset, |_| ()).is_err());
    for n in [0, 1, 3, 4] {
        let data = segment.with_record(places[n].position.offset, |r| r.data().to_vec()).unwrap();
        assert_eq!(data, [n as u8; 50]);
    }
}

#[test]
fn a_second_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _) = open(dir.path());
    let error = SegmentLog::open(Arc::new(OsDisk), Arc::new(SystemEnv), dir.path(), options());
    let text = error.unwrap_err().to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}

#[test]
fn many_waiters_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let options = SegmentLogOptions { background: true, ..options() };
    let (log, _) =
        SegmentLog::open(Arc::new(OsDisk), Arc::new(SystemEnv), dir.path(), options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let appended = log.append(&entry(&[], b"x")).unwrap();
                    log.wait_durable(appended.ticket).unwrap();
                    assert!(log.durable() >= appended.ticket);
                }
            });
        }
    });
    assert_eq!(log.durable(), 400);
    assert!(log.sync_count() <= 400);
}

/// Scrubs the whole log in steps of `bytes`.
fn scrub_all(log: &SegmentLog, bytes: u64) -> (u64, u64, Vec<Damage>) {
    let (mut at, mut read, mut records, mut damage) = (LogPosition::default(), 0, 0, Vec::new());
    loop {
        let step = log.scrub(at, bytes).unwrap();
        read += step.bytes;
        records += step.records;
        damage.extend(step.damage);
        match step.next {
            Some(next) => at = next,
            None => return (read, records, damage),
        }
    }
}

#[test]
fn a_scrub_in_steps_finds_what_verify_finds_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let mut flipped = None;
    for n in 0..500_u64 {
        let data = vec![n as u8 | 1; (n * 7 % 900) as usize + 100];
        let appended = log.append(&entry(&[b"head"], &data)).unwrap();
        if n == 50 {
            flipped = Some((active_path(&log), appended.position.offset));
        }
    }
    let bytes: u64 = log.segments().iter().map(|segment| segment.used()).sum();
    for step in [1, 1000, 1 << 30] {
        let (read, records, damage) = scrub_all(&log, step);
        assert_eq!((read, damage), (bytes, Vec::new()));
        // Each segment begins with a record of its own.
        assert_eq!(records, 500 + log.segments().len() as u64);
    }

    let (path, offset) = flipped.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\xff", offset + 90).unwrap();
    for step in [1, 1000, 1 << 30] {
        let (read, _, damage) = scrub_all(&log, step);
        assert_eq!(read, bytes);
        assert_eq!(damage.len(), 1);
        assert_eq!(damage[0].start, offset);
    }
    log.append(&entry(&[], b"goes on")).unwrap();
    log.remove_segment(log.segments()[0].id).unwrap();
    assert!(scrub_all(&log, 1000).2.is_empty(), "what is gone is not read");
    let damaged = log.verify().unwrap().damage;
    assert!(damaged.is_empty(), "{damaged:?}");
}

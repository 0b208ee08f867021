use std::path::Path;
use std::sync::Arc;

use crate::disk::OsDisk;
use crate::env::SystemEnv;
use crate::log::tests::options;
use crate::log::{Entry, SegmentLog, SegmentLogOptions};

fn open(root: &Path, options: SegmentLogOptions) -> SegmentLog {
    SegmentLog::open(Arc::new(OsDisk), Arc::new(SystemEnv), root, options).unwrap().0
}

fn append(log: &SegmentLog, bytes: usize) -> u64 {
    let data = vec![7; bytes];
    let entry = Entry {
        kind: 5,
        flags: 0,
        time: 7,
        count: 1,
        head: &[],
        data: &data,
        align: 1,
        data_crc: None,
    };
    log.append(&entry).unwrap().ticket
}

/// Names of the segment files, with their lengths.
fn files(root: &Path) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for month in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
        let name = month.file_name().into_string().unwrap();
        if crate::log::is_month(&name) {
            for file in std::fs::read_dir(month.path()).unwrap().map(Result::unwrap) {
                let name = file.file_name().into_string().unwrap();
                files.push((name, file.metadata().unwrap().len()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_nearly_full_segment_is_sealed_before_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options());
    let first = log.active_segment();
    append(&log, 50 << 10);
    log.run_due_sync().unwrap();
    assert_eq!(log.active_segment().id, first.id, "there is much room");
    append(&log, 8 << 10);
    log.run_due_sync().unwrap();
    assert_ne!(log.active_segment().id, first.id);
    assert!(first.is_sealed());
    assert_eq!(log.durable(), log.appended());
    assert_eq!(files(dir.path())[0].1, first.used(), "it is cut to its length");
}

#[test]
fn a_file_that_was_made_ahead_is_used_next_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options());
    let first = log.active_segment();
    append(&log, 58 << 10);
    *log.shared.prepared.lock() = Some(super::prepare_segment(&log.shared.place()).unwrap());
    let names: Vec<_> = files(dir.path());
    assert_eq!(names.len(), 2);
    assert_eq!(names[1].1, 0, "empty until the segment before it is sealed");
    log.rotate().unwrap();
    assert_eq!(log.active_segment().id, first.id + 1);
    assert_eq!(files(dir.path()).len(), 2, "no other file was made");

    *log.shared.prepared.lock() = Some(super::prepare_segment(&log.shared.place()).unwrap());
    assert_eq!(files(dir.path()).len(), 3);
    log.close().unwrap();
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn an_empty_file_that_a_crash_left_behind_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options());
    append(&log, 100);
    *log.shared.prepared.lock() = Some(super::prepare_segment(&log.shared.place()).unwrap());
    // Not closed: the process was killed.
    drop(log);
    assert_eq!(files(dir.path()).len(), 2);
    let log = open(dir.path(), options());
    assert_eq!(log.appended(), 1);
    assert!(!dir.path().join(".metadata/unborn-002").exists(), "nothing is worth keeping");
    assert_eq!(files(dir.path()).len(), 1);
    append(&log, 100);
    log.rotate().unwrap();
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn zeros_are_written_ahead_of_small_syncs_only() {
    for (write_reserve, bytes, ahead) in
        [(true, 100, true), (false, 100, false), (true, 300 << 10, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let segment_bytes = 8 << 20;
        let log = open(dir.path(), SegmentLogOptions { segment_bytes, write_reserve, ..options() });
        let ticket = append(&log, bytes);
        log.wait_durable(ticket).unwrap();
        let before = files(dir.path())[0].1;
        log.run_due_sync().unwrap();
        let grown = files(dir.path())[0].1 >= before + super::WRITTEN_BYTES;
        assert_eq!(grown, ahead, "write_reserve {write_reserve}, {bytes} bytes a sync");
    }
}

//! Small logs, cut at every byte and flipped at every bit: what is read is what was written, and
//! what is missing is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::{Disk, OpenMode, SimDisk};
use sira_log::env::SimEnv;
use sira_log::{
    AppendOptions, LogDurability, LogError, LogItem, LogReadOptions, LogStorage, LogStorageOptions,
    ReadDirection,
};

const ROOT: &str = "/log";

fn open(disk: &SimDisk) -> Result<LogStorage, LogError> {
    let mut options = LogStorageOptions::new(ROOT);
    options.segment_bytes = 1024;
    options.durability = LogDurability::Sync;
    options.background = false;
    let env = Arc::new(SimEnv::new(3, 1_795_000_000_000));
    LogStorage::open_on(Arc::new(disk.clone()), env, options)
}

/// A log of two segments, and the items in it by sequence. Every item is durable.
fn small_log(closed: bool) -> (SimDisk, Vec<Vec<u8>>) {
    let disk = SimDisk::new(1);
    let log = open(&disk).unwrap();
    let mut items = Vec::new();
    for n in 0..14_u8 {
        let item = vec![n.wrapping_mul(37); usize::from(n) * 5 % 48];
        log.append(LogItem::binary(&item), &AppendOptions::default()).unwrap();
        items.push(item);
    }
    assert_eq!(log.segments().segments().len(), 2);
    if closed {
        log.close().unwrap();
    }
    (disk.kill(), items)
}

/// What a disk's log says of its items: those that were read, and whether anything was named as
/// wrong. Fails on an item that was never written.
fn examine(disk: &SimDisk, items: &[Vec<u8>], what: &dyn Fn() -> String) -> (Vec<u64>, bool) {
    let log = match open(disk) {
        Ok(log) => log,
        Err(LogError::Corrupt { .. } | LogError::Format { .. }) => return (Vec::new(), true),
        Err(error) => panic!("{}: {error}", what()),
    };
    let mut named = !log.open_report().damage.is_empty();
    let mut seen = Vec::new();
    for direction in [ReadDirection::Forward, ReadDirection::Backward] {
        seen.clear();
        let options = LogReadOptions { direction, ..LogReadOptions::default() };
        for record in log.read(&options).unwrap() {
            match record {
                Ok(record) => {
                    let expected = items.get(record.sequence as usize);
                    assert_eq!(expected.map(Vec::as_slice), Some(&record.data[..]), "{}", what());
                    seen.push(record.sequence);
                }
                Err(LogError::Corrupt { .. }) => named = true,
                Err(error) => panic!("{}: {error}", what()),
            }
        }
    }
    seen.sort_unstable();
    (seen, named)
}

/// Files of the log that say something; the lock file does not.
fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("messages.lock")).collect()
}

fn is_segment(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "messages")
        && path.extension().is_some_and(|extension| extension.len() == 3)
        && !path.ends_with("messages.idx")
}

fn whole(items: &[Vec<u8>]) -> Vec<u64> {
    (0..items.len() as u64).collect()
}

#[test]
fn a_flipped_bit_is_never_served_and_never_hides_an_item() {
    for closed in [true, false] {
        let (disk, items) = small_log(closed);
        for (path, len) in files(&disk) {
            for at in 0..len {
                for bit in 0..8 {
                    let what = || format!("{} byte {at} bit {bit}, {closed}", path.display());
                    let disk = disk.kill();
                    disk.flip_bit(&path, at, bit).unwrap();
                    let (seen, named) = examine(&disk, &items, &what);
                    assert!(named || seen == whole(&items), "{}: only {seen:?}", what());
                    if !is_segment(&path) {
                        let unreadable = seen.is_empty() && path.ends_with("log.json");
                        assert!(unreadable || seen == whole(&items), "{}: {seen:?}", what());
                    }
                }
            }
        }
    }
}

#[test]
fn a_log_that_was_cut_says_so() {
    for closed in [true, false] {
        let (disk, items) = small_log(closed);
        for (path, len) in files(&disk).into_iter().filter(|(path, _)| is_segment(path)) {
            for cut in 0..len {
                let what = || format!("{} cut at {cut}, {closed}", path.display());
                let disk = disk.kill();
                disk.open(&path, OpenMode::Write, len).unwrap().truncate(cut).unwrap();
                let (seen, named) = examine(&disk, &items, &what);
                assert!(named || seen == whole(&items), "{}: only {seen:?}", what());
            }
        }
    }
}

/// The file that a log keeps a segment in, below the log's folder.
fn segment_of(disk: &SimDisk, root: &str, number: &str) -> PathBuf {
    let mut paths = files(disk).into_iter().map(|(path, _)| path);
    paths.find(|path| path.starts_with(root) && path.ends_with(number)).unwrap()
}

fn data(log: &LogStorage) -> Vec<Vec<u8>> {
    let records = log.read(&LogReadOptions::default()).unwrap();
    records.filter_map(|record| Some(record.ok()?.data.to_vec())).collect()
}

#[test]
fn a_log_whose_last_record_is_damaged_opens() {
    for closed in [true, false] {
        let (disk, items) = small_log(closed);
        let path = segment_of(&disk, ROOT, "messages.002");
        let end = open(&disk).unwrap().position().offset;
        let disk = disk.kill();
        disk.flip_bit(&path, end - 12, 3).unwrap();
        let log = open(&disk).unwrap();
        assert_eq!(data(&log), items[..items.len() - 1]);
        assert_eq!(log.verify().unwrap().primary.damage.len(), 1);
        assert_eq!(log.repair().unwrap().lost.len(), 1);
        log.append(LogItem::binary(b"more"), &AppendOptions::default()).unwrap();
    }
}

#[test]
fn a_segment_without_its_first_frame_is_given_up_once() {
    for number in ["messages.001", "messages.002"] {
        let (disk, items) = small_log(false);
        let path = segment_of(&disk, ROOT, number);
        disk.flip_bit(&path, 20, 3).unwrap();
        let log = open(&disk).unwrap();
        assert_eq!(log.open_report().damage.len(), 1);
        let report = log.repair().unwrap();
        assert_eq!((report.lost.len(), report.saved_to.len()), (1, 1));
        let kept = data(&log);
        assert!(!kept.is_empty() && kept.len() < items.len());
        let next = log.append(LogItem::binary(b"more"), &AppendOptions::default()).unwrap();
        assert!(next.sequence >= items.len() as u64, "number {} is given twice", next.sequence);
        drop(log);
        let log = open(&disk.kill()).unwrap();
        assert_eq!(log.open_report().damage, []);
        assert_eq!(data(&log).len(), kept.len() + 1);
    }
}

/// Whole segments come back from the mirror, with the epochs and keys of their records.
#[test]
fn a_mirror_brings_segments_epochs_and_keys_back() {
    enum Loss {
        FirstFrame,
        LastRecord,
        File,
    }
    for (loss, number) in [
        (Loss::FirstFrame, "messages.001"),
        (Loss::FirstFrame, "messages.002"),
        (Loss::File, "messages.002"),
        (Loss::LastRecord, "messages.002"),
    ] {
        let disk = SimDisk::new(1);
        let open = |disk: &SimDisk| {
            let mut options = LogStorageOptions::new(ROOT);
            options.mirror_path = Some("/mirror".into());
            options.segment_bytes = 1024;
            options.background = false;
            let env = Arc::new(SimEnv::new(3, 1_795_000_000_000));
            LogStorage::open_on(Arc::new(disk.clone()), env, options).unwrap()
        };
        let log = open(&disk);
        let mut receipts = Vec::new();
        for n in 0..14_u8 {
            let options = AppendOptions {
                idempotency_key: Some(&[n]),
                epoch: Some(if n == 13 { 5 } else { 1 }),
                ..AppendOptions::default()
            };
            receipts.push(log.append(LogItem::binary(&[n; 30]), &options).unwrap());
        }
        assert_eq!(log.segments().segments().len(), 2);
        log.sync_mirror().unwrap();
        let expected = data(&log);
        let end = log.position().offset;
        drop(log);
        let disk = disk.kill();
        let path = segment_of(&disk, ROOT, number);
        match loss {
            Loss::FirstFrame => disk.flip_bit(&path, 20, 3).unwrap(),
            Loss::LastRecord => disk.flip_bit(&path, end - 12, 3).unwrap(),
            Loss::File => disk.remove_file(&path).unwrap(),
        }
        let log = open(&disk);
        assert!(
            !log.open_report().damage.is_empty()
                || !log.verify().unwrap().primary.damage.is_empty()
        );
        let last = AppendOptions { idempotency_key: Some(&[13]), ..AppendOptions::default() };
        let _ = log.append(LogItem::binary(&[13; 30]), &last);
        assert_eq!(log.repair().unwrap().lost, []);
        assert_eq!(data(&log), expected);
        let stale = AppendOptions { epoch: Some(4), ..AppendOptions::default() };
        let refused = log.append(LogItem::binary(b"stale"), &stale);
        assert!(matches!(refused, Err(LogError::Fenced { current: 5, .. })), "{refused:?}");
        if matches!(loss, Loss::LastRecord) {
            let again = log.append(LogItem::binary(&[13; 30]), &last).unwrap();
            assert!(again.repeated && again.sequence == receipts[13].sequence, "{again:?}");
        }
        drop(log);
        assert_eq!(open(&disk.kill()).open_report().damage, []);
    }
}

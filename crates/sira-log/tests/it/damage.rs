//! Small logs, cut at every byte and flipped at every bit: what is read is what was written, and
//! what is missing is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::{Disk, OpenMode, SimDisk};
use sira_log::env::SimEnv;
use sira_log::{
    AppendOptions, BinaryLogCursor, LogDurability, LogError, LogItem, LogReadOptions, LogStorage,
    LogStorageOptions, ReadDirection,
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

/// Where frames of a file end.
fn frame_ends(disk: &SimDisk, path: &Path) -> Vec<u64> {
    let bytes = sira_log::disk::read_all(disk, path).unwrap();
    let mut cursor = BinaryLogCursor::at_start(bytes);
    std::iter::from_fn(|| cursor.next_frame().ok().flatten().map(|frame| frame.end)).collect()
}

/// A sealed segment that was cut between two frames is a shorter, whole segment, and only a gap in
/// the sequence tells: those cuts are left out here.
#[test]
fn a_log_that_was_cut_says_so() {
    for closed in [true, false] {
        let (disk, items) = small_log(closed);
        for (path, len) in files(&disk).into_iter().filter(|(path, _)| is_segment(path)) {
            let sealed = path.ends_with("messages.001");
            let ends = if sealed { frame_ends(&disk, &path) } else { Vec::new() };
            for cut in (0..len).filter(|cut| !ends.contains(cut)) {
                let what = || format!("{} cut at {cut}, {closed}", path.display());
                let disk = disk.kill();
                disk.open(&path, OpenMode::Write, len).unwrap().truncate(cut).unwrap();
                let (seen, named) = examine(&disk, &items, &what);
                assert!(named || seen == whole(&items), "{}: only {seen:?}", what());
            }
        }
    }
}

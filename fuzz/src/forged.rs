//! A log whose payloads are frames, records and whole log files, cut and damaged anywhere: what is
//! read back was appended, and nothing that payloads hold ever is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::{Disk, OpenMode, SimDisk, read_all};
use sira_log::env::SimEnv;
use sira_log::record::{ContentKind, RecordHeader};
use sira_log::{
    AppendOptions, BinaryLogWriter, LogDurability, LogError, LogItem, LogPosition, LogReadOptions,
    LogStorage, LogStorageOptions, ReadDirection,
};

use crate::Input;

/// Words of the input's own language, and of the log's format.
pub const WORDS: &[&[u8]] = &[
    b"\x01\x04data",
    b"\x02\x00\x00\x08forgery!",
    b"\x03\x00\x00\x00\x00",
    b"\x03\x40\x00\xFF\x00",
    b"\x04",
    b"\x05",
    b"ELOG",
    &[0; 8],
];

const ROOT: &str = "/log";
const MARK: &str = "/log/.metadata/messages.mark";

/// Most records, so that one run stays short.
const RECORDS_MAX: usize = 24;
/// Most bytes of a payload that copies the log.
const COPY_BYTES_MAX: usize = 6000;
/// Most damages.
const DAMAGES_MAX: usize = 4;
/// Bytes between the start of a record's frame and its data, without a key and metadata.
const LEAD_BYTES: u64 = 8 + 40 + 16;

/// ```text
/// | flags 1 | records: kind 1, ... | 0xFF | damages: kind 1, segment 1, place 2, ... |
/// ```
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let disk = SimDisk::new(u64::from(flags));
    let log = open(&disk).expect("a new log opens");
    let mut appended: Vec<Vec<u8>> = Vec::new();
    while appended.len() < RECORDS_MAX {
        let kind = input.byte();
        if kind == 0xFF || input.is_empty() {
            break;
        }
        if kind % 6 == 4 {
            log.segments().rotate().expect("there is room");
            continue;
        }
        if kind % 6 == 5 {
            log.sync().expect("the disk is well");
            continue;
        }
        let payload = payload(kind % 6, &mut input, &log, &disk);
        append(&log, &payload).expect("there is room");
        appended.push(payload);
    }
    if flags & 1 == 0 {
        log.sync().expect("the disk is well");
    }
    if flags & 2 != 0 {
        log.close().expect("the disk is well");
    }
    drop(log);
    let disk = disk.kill();
    if flags & 4 != 0 {
        disk.remove_file(Path::new(MARK)).expect("it is there");
    }
    let whole = input.is_empty();
    damage(&disk, &mut input);

    let (found, named) = check(&disk, &appended);
    let all: Vec<usize> = (0..appended.len()).collect();
    assert!(!whole || found == all, "an untouched log lost records");
    let was_durable = flags & 1 == 0 && flags & 4 == 0;
    assert!(found == all || named || !was_durable, "records are lost, and nothing says so");
    // Opening may cut a torn end, once; then the log stays what it is.
    let disk = disk.kill();
    assert_eq!(check(&disk, &appended).0, found, "a second open finds something else");
    repair(&disk.kill(), &appended, &found, flags & 8 != 0);
}

fn open(disk: &SimDisk) -> Result<LogStorage, LogError> {
    let options = LogStorageOptions {
        segment_bytes: 4096,
        durability: LogDurability::None,
        background: false,
        ..LogStorageOptions::new(ROOT)
    };
    let env = Arc::new(SimEnv::new(7, 1_795_000_000_000));
    LogStorage::open_on(Arc::new(disk.clone()), env, options)
}

fn append(log: &LogStorage, payload: &[u8]) -> Result<u64, LogError> {
    let options = AppendOptions { time_ms: Some(1), ..AppendOptions::default() };
    log.append(LogItem::custom(payload), &options).map(|receipt| receipt.sequence)
}

fn payload(kind: u8, input: &mut Input<'_>, log: &LogStorage, disk: &SimDisk) -> Vec<u8> {
    match kind {
        0 => input.run().to_vec(),
        1 => frame(&[input.run()]),
        // A record for the very place that it will stand at, but for the salt.
        2 => {
            let (salt, ahead, data) = (input.byte(), input.byte(), input.run());
            let mut place = log.position();
            place.offset += LEAD_BYTES;
            let header = RecordHeader {
                kind: ContentKind::Custom as u8,
                flags: 0,
                data_offset: 40,
                salt: u64::from(salt),
                sequence: log.next_sequence() + u64::from(ahead),
                time: 1,
                count: 1,
            };
            frame(&[&header.encode(place, 40 + data.len() as u32), data])
        }
        // Bytes of the log itself, its salt included.
        _ => {
            let segments = segments(disk);
            let path = &segments[input.up_to(segments.len() - 1)];
            let bytes = read_all(disk, path).expect("the disk is well");
            let from = input.up_to(bytes.len());
            let len = usize::from(input.short()).min(COPY_BYTES_MAX);
            bytes[from..(from + len).min(bytes.len())].to_vec()
        }
    }
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut writer = BinaryLogWriter::new(Vec::new());
    writer.append(parts).expect("memory takes every frame of this size");
    writer.into_inner()
}

/// Files of the segments, oldest first.
fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let is_segment =
        |path: &PathBuf| path.to_str().is_some_and(|path| path.contains("/messages.0"));
    disk.files().into_iter().map(|(path, _)| path).filter(is_segment).collect()
}

fn damage(disk: &SimDisk, input: &mut Input<'_>) {
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            return;
        }
        let kind = input.byte();
        let segments = segments(disk);
        let path = &segments[input.up_to(segments.len() - 1)];
        let file = disk.open(path, OpenMode::Write, 0).expect("it is there");
        let len = file.len() as usize;
        let at = input.up_to(len);
        if kind.is_multiple_of(3) {
            file.truncate(at as u64).expect("it gets shorter");
            continue;
        }
        let with = if kind % 3 == 1 { vec![0; input.up_to(2048)] } else { input.run().to_vec() };
        let with = &with[..with.len().min(len - at)];
        if !with.is_empty() {
            file.write_at(at as u64, &[with]).expect("it is within the file");
        }
    }
}

/// Opens the log and reads it both ways; each record must be one that was appended. Returns their
/// numbers, and whether the log says that it is damaged.
fn check(disk: &SimDisk, appended: &[Vec<u8>]) -> (Vec<usize>, bool) {
    let log = open(disk).expect("damage does not keep a log from being opened");
    let at_open = log.open_report().damage.clone();
    let found = read(&log, appended, ReadDirection::Forward);
    let mut backward = read(&log, appended, ReadDirection::Backward);
    backward.reverse();
    assert_eq!(found, backward, "the two directions differ");
    let rising = found.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(rising, "records out of order: {found:?}");
    let damage = log.verify().expect("the disk is well").primary.damage;
    (found, !at_open.is_empty() || !damage.is_empty())
}

fn read(log: &LogStorage, appended: &[Vec<u8>], direction: ReadDirection) -> Vec<usize> {
    let options = LogReadOptions { direction, ..LogReadOptions::default() };
    let reader = log.read(&options).expect("the log can be read");
    let mut found = Vec::new();
    for record in reader {
        match record {
            Ok(record) => {
                let LogPosition { segment, offset } = record.position;
                let at = record.sequence as usize;
                let real = appended.get(at).is_some_and(|payload| *payload == *record.data);
                assert!(real, "record {at} at {segment}:{offset} was never appended");
                found.push(at);
            }
            Err(LogError::Corrupt { .. }) => {}
            Err(error) => panic!("reading fails: {error}"),
        }
    }
    found
}

/// After a repair the log has what could be read before, verifies and takes records.
fn repair(disk: &SimDisk, appended: &[Vec<u8>], found: &[usize], killed: bool) {
    let log = open(disk).expect("it opened before");
    log.repair().expect("every damage can be given up");
    assert_eq!(log.verify().expect("the disk is well").primary.damage, []);
    assert_eq!(read(&log, appended, ReadDirection::Forward), found, "the repair lost records");
    let next = append(&log, b"after the repair").expect("a repaired log takes records");
    assert!(found.last().is_none_or(|last| (*last as u64) < next), "number {next} is given twice");
    if killed {
        log.sync().expect("the disk is well");
    } else {
        log.close().expect("the disk is well");
    }
    drop(log);
    let disk = disk.kill();
    if killed {
        disk.remove_file(Path::new(MARK)).expect("it is there");
    }
    let log = open(&disk).expect("a repaired log opens");
    assert_eq!(log.open_report().damage, []);
    let last = log.read(&LogReadOptions::default()).expect("the log can be read").last();
    let last = last.expect("it has a record").expect("the record is whole");
    assert_eq!((last.sequence, &*last.data), (next, &b"after the repair"[..]));
}

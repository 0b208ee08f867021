//! A log as format 1 writes it. Every later version must read these files as they are.
//!
//! They were made by this test with `SIRA_WRITE_GOLDEN=1`. A new format gets a folder of its own;
//! the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sira_log::disk::OsDisk;
use sira_log::env::SimEnv;
use sira_log::{
    AppendOptions, ContentKind, LogDurability, LogItem, LogReadOptions, LogStorage,
    LogStorageOptions, ReadDirection,
};

/// Files of the golden log that the format describes; the lock file is none of them.
const FILES: &[&str] = &[
    ".metadata/log.json",
    ".metadata/messages.mark",
    "2026-11/messages.001",
    "2026-11/messages.002",
    "2026-11/messages.idx",
];

const TIME_MS: u64 = 1_795_000_000_000;

/// What an item is: kind, metadata, data, epoch.
type Item = (ContentKind, Vec<u8>, Vec<u8>, u64);

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1")
}

fn open(root: &Path) -> LogStorage {
    let mut options = LogStorageOptions::new(root);
    options.segment_bytes = 2048;
    options.durability = LogDurability::None;
    options.background = false;
    let env = Arc::new(SimEnv::new(11, TIME_MS));
    LogStorage::open_on(Arc::new(OsDisk), env, options).unwrap()
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let step = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    std::iter::repeat_n((), len).scan(seed, |state, ()| step(state)).collect()
}

/// Writes the golden log, and says what is in it.
fn write(root: &Path) -> Vec<Item> {
    let log = open(root);
    let plain = AppendOptions::default();
    let mut items: Vec<Item> = Vec::new();
    let mut add = |kind, metadata: &[u8], data: &[u8], epoch| {
        items.push((kind, metadata.to_vec(), data.to_vec(), epoch));
    };

    log.append(LogItem::text("grüße"), &plain).unwrap();
    add(ContentKind::Text, b"", "grüße".as_bytes(), 0);
    log.append_json(&serde_json::json!({"role": "user", "n": 1}), &plain).unwrap();
    add(ContentKind::Json, b"", br#"{"n":1,"role":"user"}"#, 0);
    for len in [0, 1, 2, 3, 5] {
        log.append(LogItem::binary(&noise(len, len as u32)), &plain).unwrap();
        add(ContentKind::Binary, b"", &noise(len, len as u32), 0);
    }
    log.append(LogItem::with_metadata(b"about", b"data"), &plain).unwrap();
    add(ContentKind::MetadataData, b"about", b"data", 0);
    let keyed = AppendOptions {
        idempotency_key: Some(b"request-7"),
        epoch: Some(3),
        time_ms: Some(TIME_MS + 5),
        ..plain
    };
    log.append(LogItem::custom(b"once"), &keyed).unwrap();
    add(ContentKind::Custom, b"", b"once", 3);
    let batch = [LogItem::text("first"), LogItem::with_metadata(b"m", b"second")];
    log.append_batch(&batch, &plain).unwrap();
    add(ContentKind::Text, b"", b"first", 3);
    add(ContentKind::MetadataData, b"m", b"second", 3);
    // A log inside a log: none of its frames is one of this log.
    let inner = std::fs::read(root.join("2026-11/messages.001")).unwrap();
    let inner = &inner[..600];
    log.append(LogItem::binary(inner), &plain).unwrap();
    add(ContentKind::Binary, b"", inner, 3);
    let streamed = noise(1500, 9);
    log.append_stream(ContentKind::Custom, b"", &mut streamed.as_slice(), &plain).unwrap();
    add(ContentKind::Custom, b"", &streamed, 3);
    log.close().unwrap();
    items
}

fn copy(from: &Path, to: &Path) {
    for file in FILES {
        let target = to.join(file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), target).unwrap();
    }
}

fn read(log: &LogStorage, direction: ReadDirection) -> Vec<Item> {
    let options = LogReadOptions { direction, ..LogReadOptions::default() };
    log.read(&options)
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            (record.kind, record.metadata.to_vec(), record.data.to_vec(), record.epoch)
        })
        .collect()
}

#[test]
fn the_golden_log_is_read_and_goes_on() {
    let made = tempfile::tempdir().unwrap();
    let expected = write(made.path());
    if std::env::var_os("SIRA_WRITE_GOLDEN").is_some() {
        copy(made.path(), &golden());
    }

    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    let log = open(dir.path());
    assert!(log.open_report().clean, "{:?}", log.open_report());
    assert_eq!(read(&log, ReadDirection::Forward), expected);
    let mut backward = read(&log, ReadDirection::Backward);
    backward.reverse();
    assert_eq!(backward, expected);
    let report = log.verify().unwrap().primary;
    assert_eq!((report.segments, report.damage.len(), report.holes), (2, 0, 0));
    assert_eq!(log.next_sequence(), expected.len() as u64);

    let again = AppendOptions {
        idempotency_key: Some(b"request-7"),
        epoch: Some(3),
        ..AppendOptions::default()
    };
    let receipt = log.append(LogItem::custom(b"once"), &again).unwrap();
    assert!(receipt.repeated);
    assert_eq!(receipt.sequence, 8);
    let stale = AppendOptions { epoch: Some(2), ..AppendOptions::default() };
    assert!(log.append(LogItem::text("late"), &stale).is_err());
    log.append(LogItem::text("next"), &AppendOptions::default()).unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(read(&open(dir.path()), ReadDirection::Forward).len(), expected.len() + 1);
}

#[test]
fn the_golden_log_is_read_without_mark_and_index() {
    let made = tempfile::tempdir().unwrap();
    let expected = write(made.path());
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    for derived in [".metadata/messages.mark", "2026-11/messages.idx"] {
        std::fs::remove_file(dir.path().join(derived)).unwrap();
    }
    let log = open(dir.path());
    assert!(!log.open_report().clean);
    assert_eq!(read(&log, ReadDirection::Forward), expected);
}

#[test]
fn format_1_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for file in FILES {
        let (made, kept) =
            (std::fs::read(dir.path().join(file)), std::fs::read(golden().join(file)));
        assert!(made.unwrap() == kept.unwrap(), "{file} is written otherwise than format 1 says");
    }
}

//! A store as format 1 writes it. Every later version must read these files as they are.
//!
//! They were made by this test with `SIRA_WRITE_GOLDEN=1`. A new format gets a folder of its own;
//! the old one stays.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sira_log::disk::OsDisk;
use sira_store::embedded::{Engine, EngineOptions, WriteOptions};
use sira_store::env::SimEnv;
use sira_store::{Metadata, StorageError};

/// Files of the golden store that the formats describe; the lock file is none of them.
const FILES: &[&str] = &[
    ".metadata/log.json",
    ".metadata/namespaces.json",
    ".metadata/store.mark",
    "2026-11/store.001",
    "2026-11/store.002",
    "index/checkpoint.000001",
];

const TIME_MS: u64 = 1_795_000_000_000;

/// Far enough for every run of this test.
const FAR_MS: u64 = TIME_MS + 50 * 366 * 86_400_000;

/// Version, expiry, metadata and value of an object.
type Object = (u64, Option<u64>, Vec<u8>, Vec<u8>);

/// Objects by namespace and key.
type Contents = BTreeMap<(String, Vec<u8>), Object>;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1")
}

fn open(root: &Path) -> Arc<Engine> {
    let options = EngineOptions {
        segment_bytes: 72 << 10,
        background: false,
        reclaim_dead_ratio: 1.0,
        ..EngineOptions::default()
    };
    Engine::open_on(Arc::new(OsDisk), Arc::new(SimEnv::new(12, TIME_MS)), root, options).unwrap()
}

/// Writes the golden store, and says what is in it.
fn write(root: &Path) -> Contents {
    let engine = open(root);
    let default = engine.namespace("default").unwrap();
    let other = engine.namespace("other").unwrap();
    let gone = engine.namespace("gone").unwrap();
    let plain = WriteOptions::default();

    let large: Vec<u8> = (0..66_000_u32).map(|n| (n % 251) as u8).collect();
    engine.put(default, b"large", &large, plain).unwrap();
    for n in 0..40_u32 {
        let key = format!("sensor/{n:02}");
        engine.put(default, key.as_bytes(), &vec![n as u8; n as usize * 7], plain).unwrap();
    }
    engine.put(default, b"", b"the empty key", plain).unwrap();
    engine.put(default, &[0xFF; 1024], b"the longest key", plain).unwrap();
    let metadata = Metadata {
        content_type: Some("text/plain".to_owned()),
        user: [("model".to_owned(), "m-7".to_owned())].into(),
        ..Metadata::default()
    }
    .encode()
    .unwrap();
    let described = WriteOptions { expires_at_ms: Some(FAR_MS), metadata: &metadata, ..plain };
    engine.put(default, b"described", b"body", described).unwrap();
    let short = WriteOptions { expires_at_ms: Some(TIME_MS), ..plain };
    engine.put(default, b"expired", b"nobody sees this", short).unwrap();
    engine.put(gone, b"key", b"goes with its namespace", plain).unwrap();
    assert!(engine.drop_namespace("gone").unwrap());
    engine.checkpoint().unwrap();

    // Behind the checkpoint: replayed at opening.
    engine.put(default, b"sensor/00", b"replaced", plain).unwrap();
    let mut step = engine.begin(&[(default, b"sensor/01"), (other, b"a"), (other, b"b")]);
    assert!(step.delete(default, b"sensor/01").unwrap());
    step.put(other, b"a", Bytes::from_static(b"together"), plain).unwrap();
    step.put(other, b"b", Bytes::from_static(b"or not at all"), described).unwrap();
    step.commit().unwrap();
    engine.close().unwrap();
    contents(&engine)
}

fn contents(engine: &Engine) -> Contents {
    let mut contents = Contents::new();
    for (name, id) in engine.namespaces() {
        let mut keys = Vec::new();
        engine
            .scan(id, b"", None, |entry| {
                keys.push(entry.key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        for key in keys {
            let object = engine.get(id, &key).unwrap().unwrap();
            let shown = (
                object.version.as_u64(),
                object.expires_at_ms,
                object.metadata.to_vec(),
                object.value.to_vec(),
            );
            contents.insert((name.clone(), key), shown);
        }
    }
    contents
}

fn copy(from: &Path, to: &Path) {
    for file in FILES {
        let target = to.join(file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), target).unwrap();
    }
}

#[test]
fn the_golden_store_is_read_and_goes_on() {
    let made = tempfile::tempdir().unwrap();
    let expected = write(made.path());
    assert_eq!(expected.len(), 40 - 1 + 4 + 2);
    if std::env::var_os("SIRA_WRITE_GOLDEN").is_some() {
        copy(made.path(), &golden());
    }

    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    let engine = open(dir.path());
    assert!(engine.open_report().clean, "{:?}", engine.open_report());
    assert_eq!(contents(&engine), expected);
    assert_eq!(engine.stats().segments, 2);
    assert_eq!(engine.find_namespace("gone"), None);

    // The next checkpoint counts on from the one that was read.
    engine.checkpoint().unwrap();
    assert!(dir.path().join("index/checkpoint.000002").exists(), "the checkpoint was not read");

    let default = engine.namespace("default").unwrap();
    engine.put(default, b"new", b"value", WriteOptions::default()).unwrap();
    engine.close().unwrap();
    drop(engine);
    assert_eq!(contents(&open(dir.path())).len(), expected.len() + 1);
}

#[test]
fn the_golden_store_is_read_from_its_log_alone() {
    let made = tempfile::tempdir().unwrap();
    let expected = write(made.path());
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    for derived in [".metadata/store.mark", "index/checkpoint.000001"] {
        std::fs::remove_file(dir.path().join(derived)).unwrap();
    }
    assert_eq!(contents(&open(dir.path())), expected);
}

#[test]
fn a_store_without_its_table_of_namespaces_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    let names = dir.path().join(".metadata/namespaces.json");
    std::fs::remove_file(&names).unwrap();
    let error = Engine::open(dir.path(), EngineOptions::default()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("namespaces.json"), "{error}");
    assert!(!names.exists());
}

#[test]
fn format_1_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for file in FILES {
        let made = std::fs::read(dir.path().join(file)).unwrap();
        let kept = std::fs::read(golden().join(file)).unwrap();
        assert!(made == kept, "{file} is written otherwise than format 1 says");
    }
}

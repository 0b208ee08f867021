use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::backend::{BatchOperation, BatchResult, HealthStatus, StorageBackend};
use crate::conformance::{self, ConformanceOptions};
use crate::driver::{Area, Driver, Guard, Part, Place, Record};
use crate::env::{Env, SystemEnv};
use crate::error::StorageError;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

fn place() -> Place {
    Place { namespace: "default".into(), area: Area::Objects }
}

fn record(version: u64, body: &str, expires_at_ms: Option<u64>) -> Record {
    Record {
        version: Version::from_u64(version),
        expires_at_ms,
        size: body.len() as u64,
        envelope: Bytes::from_static(b"an envelope of some bytes"),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// All files and folders below one.
fn below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// The one file of a record.
fn only_file(root: &Path) -> std::path::PathBuf {
    let mut files = below(&root.join("data"));
    files.retain(|path| path.is_file());
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

async fn conforms(sync: bool) {
    let root = TempDir::new().unwrap();
    let open = || {
        let options = FilesystemOptions { sync, ..FilesystemOptions::new(root.path()) };
        Arc::new(FilesystemBackend::open(options).unwrap())
    };
    let options =
        ConformanceOptions { peers: vec![open(), open()], ..ConformanceOptions::default() };
    conformance::run(open(), options).await.into_result().unwrap();
    assert!(below(&root.path().join("data")).is_empty(), "folders stay behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_syncs() {
    conforms(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_without_syncs() {
    conforms(false).await;
}

#[tokio::test]
async fn instances_see_each_other_and_what_was_there_before() {
    let root = TempDir::new().unwrap();
    let one = FilesystemBackend::new(root.path()).unwrap();
    let two = FilesystemBackend::new(root.path()).unwrap();
    one.put("k", "v".into(), StorageOptions::default()).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().unwrap(), "v");
    drop((one, two));
    let three = FilesystemBackend::new(root.path()).unwrap();
    assert_eq!(three.get("k").await.unwrap().unwrap(), "v");
    assert_eq!(three.health_check().await, HealthStatus::Healthy);
    let stats = three.stats().await.unwrap();
    assert!(stats.available_bytes.is_some_and(|bytes| bytes > 0) && stats.used_bytes > 0);
}

#[tokio::test]
async fn a_new_process_removes_what_dead_ones_left_and_nothing_else() {
    let root = TempDir::new().unwrap();
    let tmp = root.path().join("tmp");
    let first = FilesystemBackend::new(root.path()).unwrap();
    for dead in ["without-a-lock", "with-a-lock"] {
        fs::create_dir(tmp.join(dead)).unwrap();
        fs::write(tmp.join(dead).join("17"), "half of a rec").unwrap();
    }
    fs::write(tmp.join("with-a-lock").join("alive"), "").unwrap();
    let second = FilesystemBackend::new(root.path()).unwrap();
    let mut sessions: Vec<_> = fs::read_dir(&tmp).unwrap().collect();
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    for backend in [first, second] {
        backend.put("k", "v".into(), StorageOptions::default()).await.unwrap();
        drop(backend);
    }
    sessions = fs::read_dir(&tmp).unwrap().collect();
    assert!(sessions.is_empty(), "{sessions:?}");
}

#[tokio::test]
async fn failed_writes_leave_nothing() {
    let root = TempDir::new().unwrap();
    let backend = FilesystemBackend::new(root.path()).unwrap();
    let write = StorageOptions { condition: Condition::IfPresent, ..StorageOptions::default() };
    assert!(backend.put("k", "v".into(), write).await.is_err());
    // The name is taken by a folder, which a rename does not replace.
    backend.put("k", "v".into(), StorageOptions::default()).await.unwrap();
    let file = only_file(root.path());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(file.join("in the way"), "").unwrap();
    let error = backend.put("k", "w".into(), StorageOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "io", "{error}");
    let unfinished: Vec<_> =
        below(&root.path().join("tmp")).into_iter().filter(|path| path.is_file()).collect();
    assert!(unfinished.iter().all(|path| path.ends_with("alive")), "{unfinished:?}");
}

#[test]
fn a_full_file_system_is_out_of_space() {
    for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded] {
        let error = super::files::io_error("cannot write", Path::new("/x"), kind.into());
        assert!(matches!(error, StorageError::OutOfSpace(_)), "{error}");
    }
    let long = std::io::ErrorKind::InvalidFilename.into();
    let error = super::files::io_error("cannot write", Path::new("/x"), long);
    assert!(matches!(error, StorageError::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn limits_are_kept() {
    let root = TempDir::new().unwrap();
    let options = FilesystemOptions {
        value_bytes_max: 10,
        allowed_extensions: Some(vec!["txt".to_owned(), "png".to_owned()]),
        ..FilesystemOptions::new(root.path())
    };
    let backend = FilesystemBackend::open(options).unwrap();
    let put = |key: &'static str, value: &'static str| {
        backend.put(key, value.into(), StorageOptions::default())
    };
    assert_eq!(put("a.txt", "12345678901").await.unwrap_err().code(), "too_large");
    for key in ["a", "a.txt/b", "txt", "a.txt.exe", "a.", "a.tx"] {
        assert_eq!(put(key, "v").await.unwrap_err().code(), "invalid_input", "{key}");
    }
    for key in ["a.txt", "a/b.PNG", ".txt", "a.exe.txt"] {
        put(key, "1234567890").await.unwrap();
        assert!(backend.delete(key).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let root = TempDir::new().unwrap();
    drop(FilesystemBackend::new(root.path()).unwrap());
    let format = root.path().join("FORMAT");
    assert_eq!(fs::read_to_string(&format).unwrap(), "sira filesystem 1\n");
    for (text, code) in [("sira filesystem 2\n", "unsupported"), ("else", "invalid_input")] {
        fs::write(&format, text).unwrap();
        let error = FilesystemBackend::new(root.path()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    fs::write(&format, "").unwrap();
    drop(FilesystemBackend::new(root.path()).unwrap());
    assert_eq!(fs::read_to_string(&format).unwrap(), "sira filesystem 1\n");
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(FilesystemBackend::new(file).unwrap_err().code(), "io");
}

#[tokio::test]
async fn damage_is_told_and_passed_over() {
    let root = TempDir::new().unwrap();
    let driver = FilesystemDriver::open(FilesystemOptions::new(root.path())).unwrap();
    driver.put(&place(), "k", record(1, "value", None), Guard::always(1)).await.unwrap();
    let file = only_file(root.path());
    let whole = fs::read(&file).unwrap();
    for cut in [0, 47, 60, whole.len() - 2] {
        fs::write(&file, &whole[..cut]).unwrap();
        for part in [Part::Whole, Part::Range(0..5)] {
            let error = driver.get(&place(), "k", part).await.unwrap_err();
            assert_eq!(error.code(), "corrupt", "{cut}: {error}");
        }
    }
    fs::write(&file, "x").unwrap();
    assert_eq!(driver.collect_expired(10, 10).await.unwrap(), 0);
    assert_eq!(driver.clean(None, Duration::ZERO).await.unwrap(), Cleaned::default());
    assert!(file.exists());
}

#[tokio::test]
async fn expired_files_are_collected_step_by_step() {
    let root = TempDir::new().unwrap();
    let driver = FilesystemDriver::open(FilesystemOptions::new(root.path())).unwrap();
    for number in 0..40 {
        let expiry = (number % 2 == 0).then_some(if number % 4 == 0 { 100 } else { 300 });
        let (key, record) = (format!("{}{number}", "k".repeat(300)), record(1, "v", expiry));
        driver.put(&place(), &key, record, Guard::always(1)).await.unwrap();
    }
    let mut collected = Vec::new();
    while collected.last() != Some(&0) {
        collected.push(driver.collect_expired(200, 3).await.unwrap());
    }
    assert_eq!(collected.iter().sum::<u64>(), 10);
    assert!(collected.len() >= 4, "{collected:?}");
    assert_eq!(driver.collect_expired(300, 100).await.unwrap(), 10);
}

#[tokio::test]
async fn cleaning_goes_by_age_and_namespace() {
    let root = TempDir::new().unwrap();
    let driver = FilesystemDriver::open(FilesystemOptions::new(root.path())).unwrap();
    let now = SystemEnv.now_ms();
    let long = "n".repeat(128).replace('n', "%");
    for namespace in ["one", "two", &long[..128]] {
        let place = Place { namespace: namespace.into(), area: Area::Objects };
        for (key, age_ms) in [("old", 7_200_000), ("new", 0)] {
            let record = record((now - age_ms) << 16, "value", None);
            driver.put(&place, key, record, Guard::always(now)).await.unwrap();
        }
    }
    let hour = Duration::from_secs(3600);
    let cleaned = driver.clean(Some("one"), hour).await.unwrap();
    assert_eq!((cleaned.objects, cleaned.bytes), (1, 48 + 25 + 5));
    assert_eq!(driver.clean(Some(&long[..128]), hour).await.unwrap().objects, 1);
    assert_eq!(driver.clean(None, hour).await.unwrap().objects, 1);
    assert_eq!(driver.clean(None, Duration::MAX).await.unwrap().objects, 0);
    assert_eq!(driver.clean(None, Duration::ZERO).await.unwrap().objects, 3);
    assert!(below(&root.path().join("data")).is_empty());
}

#[tokio::test]
async fn batches_are_answered_one_by_one() {
    let root = TempDir::new().unwrap();
    let backend = FilesystemBackend::new(root.path()).unwrap();
    let put = |number: usize| BatchOperation::Put {
        key: format!("k{number:03}"),
        value: format!("v{number}").into(),
        options: StorageOptions {
            condition: if number % 10 == 3 { Condition::IfPresent } else { Condition::Always },
            ..StorageOptions::default()
        },
    };
    let results = backend.batch((0..100).map(put).collect()).await.unwrap();
    for (number, result) in results.iter().enumerate() {
        assert_eq!(matches!(result, BatchResult::Error(_)), number % 10 == 3, "{number}");
    }
    assert_eq!(backend.list_keys("k", 1000).await.unwrap().len(), 90);
    assert_eq!(backend.get("k099").await.unwrap().unwrap(), "v99");
}

#[tokio::test]
async fn pages_of_many_files_are_in_order() {
    let root = TempDir::new().unwrap();
    let options = FilesystemOptions { sync: false, ..FilesystemOptions::new(root.path()) };
    let backend = FilesystemBackend::open(options).unwrap();
    let keys: Vec<_> =
        (0..700).map(|n| format!("{}/{}", "d".repeat(n % 5 * 99), n * 7919 % 700)).collect();
    for key in &keys {
        backend.put(key, "v".into(), StorageOptions::default()).await.unwrap();
    }
    let mut sorted = keys.clone();
    sorted.sort();
    let (mut seen, mut start_after) = (Vec::new(), None);
    loop {
        let options = crate::backend::ListOptions { start_after, limit: 37, ..Default::default() };
        let page = backend.list(options).await.unwrap();
        seen.extend(page.entries.into_iter().map(|entry| entry.key));
        start_after = page.next;
        if start_after.is_none() {
            break;
        }
    }
    assert_eq!(seen, sorted);
}

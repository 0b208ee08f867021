//! The backend that is made of a driver, over a driver that keeps encoded records in memory.

pub(crate) mod memory;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::{Area, DriverBackend};
use sira_store::{
    BatchOperation, BatchResult, Condition, ReadOptions, StorageBackend, StorageError,
    StorageOptions,
};

use memory::{Kind, MemoryDriver};

async fn conforms(driver: MemoryDriver, value_bytes_max: u64) {
    let peers = (0..3).map(|_| Arc::new(DriverBackend::new(driver.clone())) as _).collect();
    let backend = Arc::new(DriverBackend::new(driver.clone()));
    let options = ConformanceOptions { peers, value_bytes_max, ..ConformanceOptions::default() };
    let report = conformance::run(backend, options).await;
    let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
    assert!(report.passed.len() > 40, "{report}");
    // What the suite wrote is gone, chunks included, but for what expired by itself.
    streams::settled(&driver).await;
    for area in [Area::Objects, Area::Chunks] {
        let left = driver.keys(area);
        assert_eq!(left.iter().filter(|key| !key.contains("expiry/")).count(), 0, "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_driver_with_all_capabilities_conforms() {
    conforms(MemoryDriver::new(Kind::default()), 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn values_in_chunks_conform() {
    let kind = Kind { body_bytes_max: 64 * 1024, ..Kind::default() };
    conforms(MemoryDriver::new(kind), 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_driver_with_few_capabilities_conforms() {
    let kind = Kind {
        body_bytes_max: 100_000,
        atomic: false,
        range: false,
        expiry_unknown: true,
        pauses: None,
    };
    conforms(MemoryDriver::new(kind), 1 << 20).await;
}

fn chunked() -> (MemoryDriver, DriverBackend) {
    let driver = MemoryDriver::new(Kind { body_bytes_max: 64 * 1024, ..Kind::default() });
    (driver.clone(), DriverBackend::new(driver))
}

fn value(seed: u8) -> Bytes {
    let mut random = sira_store::env::SeededRandom::new(seed.into());
    (0..300_000).map(|_| random.next_u64() as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn chunks_of_replaced_and_refused_values_are_removed() {
    let (driver, backend) = chunked();
    let first = backend.put("k", value(1), StorageOptions::default()).await.unwrap();
    assert_eq!(driver.keys(Area::Chunks).len(), 5);
    backend.put("k", value(2), StorageOptions::default()).await.unwrap();
    assert_eq!(driver.keys(Area::Chunks).len(), 5);
    assert_eq!(backend.get("k").await.unwrap(), Some(value(2)));

    let stale = StorageOptions { condition: Condition::IfMatch(first), ..Default::default() };
    let error = backend.put("k", value(3), stale).await.unwrap_err();
    assert!(matches!(error, StorageError::PreconditionFailed(_)), "{error}");
    assert_eq!(driver.keys(Area::Chunks).len(), 5);

    backend.put("k", "small".into(), StorageOptions::default()).await.unwrap();
    assert_eq!(driver.keys(Area::Chunks).len(), 0);
    backend.put("k", value(4), StorageOptions::default()).await.unwrap();
    assert!(backend.delete("k").await.unwrap());
    assert_eq!(driver.keys(Area::Chunks).len(), 0);
}

#[tokio::test]
async fn a_batch_that_fails_leaves_no_chunks() {
    let (driver, backend) = chunked();
    let refused = StorageOptions { condition: Condition::IfPresent, ..Default::default() };
    let put =
        |key: &str, options| BatchOperation::Put { key: key.to_owned(), value: value(1), options };
    let operations = vec![put("a", StorageOptions::default()), put("b", refused)];
    for result in backend.batch(operations).await.unwrap() {
        assert!(matches!(result, BatchResult::Error(StorageError::PreconditionFailed(_))));
    }
    assert_eq!(driver.keys(Area::Chunks).len(), 0);
    assert_eq!(driver.keys(Area::Objects).len(), 0);
}

#[tokio::test]
async fn a_reader_that_finds_its_chunks_replaced_begins_again() {
    let (driver, backend) = chunked();
    backend.put("k", value(1), StorageOptions::default()).await.unwrap();
    // Between the record and its chunks, another writer comes.
    let writer = DriverBackend::new(driver.clone());
    driver.before_chunk_read(move || {
        let writer = writer.clone();
        Box::pin(async move {
            writer.put("k", value(2), StorageOptions::default()).await.unwrap();
        })
    });
    assert_eq!(backend.get("k").await.unwrap(), Some(value(2)));
}

#[tokio::test]
async fn what_a_crash_leaves_behind_is_collected_once_it_is_old() {
    let (driver, backend) = chunked();
    backend.put("kept", value(1), StorageOptions::default()).await.unwrap();
    backend.put("lost", value(2), StorageOptions::default()).await.unwrap();
    // As if the process had died between the chunks and the record.
    driver.forget("lost");
    assert_eq!(driver.keys(Area::Chunks).len(), 10);
    assert_eq!(backend.maintain().await.unwrap(), 0, "it may still be under way");

    let env = sira_store::env::SimEnv::new(1, u64::MAX >> 20);
    let later = DriverBackend::with_env(driver.clone(), Arc::new(env));
    assert_eq!(later.maintain().await.unwrap(), 5);
    assert_eq!(driver.keys(Area::Chunks).len(), 5);
    assert_eq!(backend.get("kept").await.unwrap(), Some(value(1)));
}

#[tokio::test]
async fn bytes_that_rot_are_not_served() {
    for body_bytes_max in [1 << 30, 64 * 1024] {
        let driver = MemoryDriver::new(Kind { body_bytes_max, ..Kind::default() });
        let backend = DriverBackend::new(driver.clone());
        backend.put("k", value(1), StorageOptions::default()).await.unwrap();
        // In the fourth block, which is whole in either form.
        driver.flip_bit(&value(1)[200_000..200_032]);
        let error = backend.get("k").await.unwrap_err();
        assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
        assert_eq!(error.detail().key.as_deref(), Some("k"));
        let range = |range| ReadOptions { range: Some(range), ..ReadOptions::default() };
        assert!(backend.read("k", range(199_000..199_001)).await.is_err());
        let sound = backend.read("k", range(10..70_000)).await.unwrap().unwrap();
        assert_eq!(sound.value, value(1).slice(10..70_000));
    }
}

#[tokio::test]
async fn expired_records_are_dropped() {
    let driver = MemoryDriver::new(Kind::default());
    let backend = DriverBackend::new(driver.clone());
    let brief = StorageOptions { ttl: Some(Duration::from_millis(1)), ..StorageOptions::default() };
    backend.put("brief", "v".into(), brief).await.unwrap();
    backend.put("kept", "v".into(), StorageOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(backend.maintain().await.unwrap(), 1);
    assert_eq!(driver.keys(Area::Objects), ["kept"]);
}

#[tokio::test]
async fn exact_versions_are_kept_or_refused() {
    let backend = DriverBackend::new(MemoryDriver::new(Kind::default()));
    let version = backend.put("k", "v".into(), StorageOptions::default()).await.unwrap();
    let exactly = |version| StorageOptions { version: Some(version), ..StorageOptions::default() };
    let older = sira_store::Version::from_u64(version.as_u64() - 1);
    for stale in [older, version] {
        let error = backend.put("k", "w".into(), exactly(stale)).await.unwrap_err();
        assert!(matches!(error, StorageError::Conflict(_)), "{error}");
    }
    let newer = sira_store::Version::from_u64(version.as_u64() + (1 << 40));
    assert_eq!(backend.put("k", "w".into(), exactly(newer)).await.unwrap(), newer);
    assert!(backend.put("other", "w".into(), StorageOptions::default()).await.unwrap() > newer);
}

#[test]
fn outside_of_a_runtime_it_says_so() {
    let backend = DriverBackend::new(MemoryDriver::new(Kind::default()));
    let result = pollster::block_on(backend.put("k", "v".into(), StorageOptions::default()));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

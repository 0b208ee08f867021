//! Stores within this process: RocksDB and sled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_store::driver::{Change, CommitError, Driver, DriverBackend, Guard, Part, Place, Record};
use sira_store::{Result, StorageBackend, StorageError, StorageOptions, Version};

use crate::conform::conforms;
use crate::{contract, edges};

fn place() -> Place {
    Place { namespace: "test".into(), area: sira_store::driver::Area::Objects }
}

fn record(version: u64, bytes: usize) -> Record {
    Record {
        version: Version::from_u64(version),
        size: bytes as u64,
        envelope: Bytes::from_static(b"envelope"),
        body: Bytes::from(vec![7; bytes]),
        expires_at_ms: None,
    }
}

async fn check_driver(driver: &Arc<dyn Driver>) {
    edges::check(&**driver, &**driver).await;
    contract::check(&[Arc::clone(driver), Arc::clone(driver)]).await;
}

/// A body may lie with its head, apart from it, and with it again.
async fn check_places_of_bodies(driver: &dyn Driver) {
    for (version, bytes) in [(1, 10), (2, 100_000), (3, 0), (4, 4096), (5, 4097), (6, 4096)] {
        let record = record(version, bytes);
        driver.put(&place(), "key", record.clone(), Guard::always(0)).await.unwrap();
        assert_eq!(driver.get(&place(), "key", Part::Whole).await.unwrap(), Some(record.clone()));
        let part = driver.get(&place(), "key", Part::Range(1..5)).await.unwrap().unwrap();
        assert_eq!(part.body.len(), bytes.min(5) - bytes.min(1));
        let head = driver.get(&place(), "key", Part::Head).await.unwrap();
        assert_eq!(head, Some(Record { body: Bytes::new(), ..record }));
    }
    assert!(driver.remove(&place(), "key", Guard::always(0)).await.unwrap());
}

/// Racing commits that each move one unit between two keys keep the sum.
async fn check_racing_commits(driver: &Arc<dyn Driver>) {
    let sum = async |driver: &dyn Driver| {
        let keys = ["one".to_owned(), "two".to_owned()];
        let found = driver.get_many(&place(), &keys).await.unwrap();
        found.into_iter().map(|record| record.unwrap().size).collect::<Vec<_>>()
    };
    for key in ["one", "two"] {
        driver.put(&place(), key, record(1, 100), Guard::always(0)).await.unwrap();
    }
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let driver = Arc::clone(driver);
            tokio::spawn(async move {
                let mut moved = 0;
                while moved < 5 {
                    let keys = ["one".to_owned(), "two".to_owned()];
                    let found = driver.get_many(&place(), &keys).await.unwrap();
                    let held: Vec<_> = found.into_iter().map(Option::unwrap).collect();
                    let changes =
                        [("one", &held[0], -1), ("two", &held[1], 1)].map(|(key, held, by)| {
                            Change::Put {
                                key: key.into(),
                                record: Record {
                                    version: Version::from_u64(held.version.as_u64() + 1),
                                    size: held.size.checked_add_signed(by).unwrap(),
                                    ..held.clone()
                                },
                                guard: Guard {
                                    condition: sira_store::Condition::IfMatch(held.version),
                                    ..Guard::always(0)
                                },
                            }
                        });
                    match driver.commit(&place(), changes.into()).await {
                        Ok(_) => moved += 1,
                        Err(CommitError { error: StorageError::PreconditionFailed(_), .. }) => {}
                        Err(failed) => panic!("{failed:?}"),
                    }
                }
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    assert_eq!(sum(&**driver).await, [60, 140]);
    for key in ["one", "two"] {
        driver.remove(&place(), key, Guard::always(0)).await.unwrap();
    }
}

/// Opens a store that was dropped a moment ago: what runs on its threads may hold it a little longer.
async fn reopen<B>(open: impl AsyncFn() -> Result<B>) -> B {
    for _ in 0..500 {
        match open().await {
            Err(StorageError::Locked(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            result => return result.unwrap(),
        }
    }
    panic!("the store stays locked");
}

async fn check_store<B: StorageBackend + 'static>(
    name: &str,
    open: impl AsyncFn() -> Result<B>,
    driver: impl Fn(&B) -> &DriverBackend,
) {
    let backend = open().await.unwrap();
    let locked = open().await.map(|_| ());
    assert!(matches!(locked, Err(StorageError::Locked(_))), "{locked:?}");
    let shared = Arc::clone(driver(&backend).driver());
    check_driver(&shared).await;
    check_places_of_bodies(&*shared).await;
    check_racing_commits(&shared).await;
    drop(shared);
    let backend = Arc::new(backend);
    conforms(name, vec![Arc::clone(&backend) as Arc<dyn StorageBackend>]).await;

    let large = Bytes::from(vec![3; 5_000_000]);
    backend.put("small", Bytes::from_static(b"small"), StorageOptions::default()).await.unwrap();
    backend.put("large", large.clone(), StorageOptions::default()).await.unwrap();
    drop(backend);
    let backend = reopen(open).await;
    assert_eq!(backend.get("small").await.unwrap().unwrap(), "small");
    assert_eq!(backend.get("large").await.unwrap().unwrap(), large);
    let stats = backend.stats().await.unwrap();
    assert!(stats.available_bytes.is_some_and(|bytes| bytes > 0));
}

async fn check_refusals<B>(open: impl AsyncFn(&Path) -> Result<B>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let refused = open(&file.join("below")).await.map(|_| ());
    assert!(refused.is_err(), "{refused:?}");
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use sira_backends::rocksdb::{RocksDbBackend, RocksDbCompression, RocksDbOptions};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        check_store(
            "rocksdb",
            async || RocksDbBackend::new(&path).await,
            RocksDbBackend::driver_backend,
        )
        .await;
        check_refusals(async |path| RocksDbBackend::new(path).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn folders_of_other_programs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = ::rocksdb::DB::open_default(folder.path()).unwrap();
        other.put("key", "value").unwrap();
        drop(other);
        let refused = RocksDbBackend::new(folder.path()).await.map(|_| ());
        assert!(matches!(refused, Err(StorageError::InvalidInput(_))), "{refused:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_compression_reads_what_the_others_wrote() {
        use RocksDbCompression::{Lz4, None, Snappy, Zstd};
        let folder = tempfile::tempdir().unwrap();
        let all = [None, Snappy, Lz4, Zstd];
        for (number, compression) in all.into_iter().enumerate() {
            let options =
                RocksDbOptions { compression, sync: false, ..RocksDbOptions::new(folder.path()) };
            let backend = reopen(async || RocksDbBackend::open(options.clone()).await).await;
            let value = Bytes::from(vec![number as u8; 200_000]);
            backend.put(&number.to_string(), value, StorageOptions::default()).await.unwrap();
            for earlier in 0..=number {
                let value = backend.get(&earlier.to_string()).await.unwrap().unwrap();
                assert_eq!(value, vec![earlier as u8; 200_000]);
            }
        }
    }
}

#[cfg(feature = "sled")]
mod sled {
    use sira_backends::sled::SledBackend;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        check_store("sled", async || SledBackend::new(&path).await, SledBackend::driver_backend)
            .await;
        check_refusals(async |path| SledBackend::new(path).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn folders_of_other_programs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = ::sled::open(folder.path()).unwrap();
        other.insert("key", "value").unwrap();
        drop(other);
        let refused = reopen(async || match SledBackend::new(folder.path()).await {
            Err(StorageError::InvalidInput(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => panic!("a folder of another program was opened"),
        });
        refused.await;
    }
}

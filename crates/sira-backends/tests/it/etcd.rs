//! etcd, a cluster of three.

use std::sync::Arc;

use bytes::Bytes;
use sira_backends::etcd::{EtcdBackend, EtcdDriver, EtcdOptions};
use sira_store::driver::{Area, Change, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{Condition, Retry, StorageError, Version};

use crate::conform::conforms;
use crate::support::{env, unique};
use crate::{contract, edges, transactions};

fn options(prefix: &str) -> EtcdOptions {
    EtcdOptions::new(env("SIRA_TEST_ETCD_URLS").split(','), prefix)
}

fn prefix() -> String {
    format!("{}/", unique("sira"))
}

async fn connect(options: &EtcdOptions) -> Arc<dyn Driver> {
    Arc::new(EtcdDriver::connect(options.clone()).await.unwrap())
}

async fn bare() -> etcd_client::Client {
    let urls = env("SIRA_TEST_ETCD_URLS");
    etcd_client::Client::connect(urls.split(',').collect::<Vec<_>>(), None).await.unwrap()
}

/// Removes what a test has left under its prefix.
async fn clean(prefix: &str) {
    let all = etcd_client::DeleteOptions::new().with_prefix();
    bare().await.delete(prefix, Some(all)).await.unwrap();
}

/// Keys under a prefix, as etcd has them.
async fn keys(prefix: &str) -> Vec<String> {
    let all = etcd_client::GetOptions::new().with_prefix().with_keys_only();
    let found = bare().await.get(prefix, Some(all)).await.unwrap();
    found.kvs().iter().map(|pair| pair.key_str().unwrap().to_owned()).collect()
}

fn place() -> Place {
    Place { namespace: "test".into(), area: Area::Objects }
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

#[tokio::test(flavor = "multi_thread")]
async fn driver() {
    let options = options(&prefix());
    let (driver, peer) = (connect(&options).await, connect(&options).await);
    edges::check(&*driver, &*peer).await;
    contract::check(&[driver, peer]).await;
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits() {
    let options = options(&prefix());
    let mut drivers = Vec::new();
    for _ in 0..4 {
        drivers.push(connect(&options).await);
    }
    transactions::check_small(&drivers).await;
    clean(&options.prefix).await;
}

/// A put of a batch that may expire, which takes most operations.
fn put(number: usize, version: u64, condition: Condition) -> Change {
    Change::Put {
        key: format!("{number:04}"),
        record: Record { expires_at_ms: Some(u64::MAX / 2), ..record(version, 5) },
        guard: Guard { condition, ..Guard::always(0) },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_many() {
    let options = options(&prefix());
    let driver = connect(&options).await;
    let most = driver.profile().commit_changes_max;
    let puts = |version, condition| (0..most).map(move |number| put(number, version, condition));
    let versions = driver.commit(&place(), puts(5, Condition::IfAbsent).collect()).await.unwrap();
    assert_eq!(versions, vec![Some(Version::from_u64(5)); most]);
    let versions = driver.commit(&place(), puts(1, Condition::Always).collect()).await.unwrap();
    assert_eq!(versions, vec![Some(Version::from_u64(6)); most]);
    // One in the middle stops all of them.
    let mut changes: Vec<_> = puts(9, Condition::Always).collect();
    changes[most / 2] = put(most / 2, 9, Condition::IfMatch(Version::from_u64(5)));
    let error = driver.commit(&place(), changes).await.unwrap_err();
    assert_eq!((error.index, error.error.code()), (Some(most / 2), "precondition_failed"));
    let whole = |bytes: usize| {
        let large = |number| Change::Put {
            key: format!("large{number}"),
            record: record(5, bytes),
            guard: Guard::always(0),
        };
        (0..20).map(large).collect::<Vec<_>>()
    };
    driver.commit(&place(), whole(50_000)).await.unwrap();
    let error = driver.commit(&place(), whole(500_000)).await.unwrap_err();
    assert_eq!(error.error.code(), "too_large", "{error:?}");
    // Conditions that want their keys to be there are compared one by one, of which few fit.
    let six = Condition::IfMatch(Version::from_u64(6));
    let error = driver.commit(&place(), puts(7, six).collect()).await.unwrap_err();
    assert_eq!(error.error.code(), "too_large", "{error:?}");
    let mixed = |number| put(number, 7, if number < 60 { six } else { Condition::Always });
    driver.commit(&place(), (0..most).map(mixed).collect()).await.unwrap();
    clean(&options.prefix).await;
}

/// Batches over more keys than are compared one by one, while one of them is counted up and another
/// one is written: no count is lost, and no version given twice.
#[tokio::test(flavor = "multi_thread")]
async fn commits_of_many_beside_other_writers() {
    const ROUNDS: u64 = 20;
    let options = options(&prefix());
    let (driver, other) = (connect(&options).await, connect(&options).await);
    driver.put(&place(), "0000", record(1, 5), Guard::always(0)).await.unwrap();
    let counting = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            for _ in 0..5 {
                let guard = Guard::always(0);
                let version = other.put(&place(), "0051", record(1, 7), guard).await.unwrap();
                let held = other.get(&place(), "0051", Part::Head).await.unwrap().unwrap();
                // Of one version there is one record.
                assert!(held.version > version || held.size == 7, "{version} is another's too");
            }
            loop {
                let held = other.get(&place(), "0050", Part::Whole).await.unwrap();
                let (count, condition) = match held {
                    Some(held) => (held.size, Condition::IfMatch(held.version)),
                    None => (0, Condition::IfAbsent),
                };
                let guard = Guard { condition, ..Guard::always(0) };
                let next = record(1, count as usize + 1);
                let next = Record { version: Version::from_u64(count + 1), ..next };
                if other.put(&place(), "0050", next, guard).await.is_ok() {
                    break;
                }
            }
        }
    });
    while !counting.is_finished() {
        let held = driver.get(&place(), "0050", Part::Whole).await.unwrap();
        let condition = match &held {
            Some(held) => Condition::IfMatch(held.version),
            None => Condition::IfAbsent,
        };
        let mut changes: Vec<_> = (0..200).map(|it| put(it, 1, Condition::Always)).collect();
        let record = held.unwrap_or(Record { version: Version::from_u64(1), ..record(1, 0) });
        let guard = Guard { condition, ..Guard::always(0) };
        changes[50] = Change::Put { key: "0050".into(), record, guard };
        if let Err(error) = driver.commit(&place(), changes).await {
            assert_eq!(error.error.code(), "precondition_failed", "{error:?}");
        }
    }
    counting.await.unwrap();
    let held = driver.get(&place(), "0050", Part::Whole).await.unwrap().unwrap();
    assert_eq!(held.size, ROUNDS, "a count was overwritten");
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_to_the_suite() {
    let options = options(&prefix());
    let endpoints = options.endpoints.clone();
    let first = Arc::new(EtcdBackend::new(endpoints, options.prefix.clone()).await.unwrap());
    let second = Arc::new(EtcdBackend::connect(options.clone()).await.unwrap());
    conforms("etcd", vec![first, second]).await;
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collection_leaves_no_keys() {
    let options = options(&prefix());
    let driver = connect(&options).await;
    let expiring = Record { expires_at_ms: Some(1_000), ..record(1, 10) };
    driver.put(&place(), "a", expiring.clone(), Guard::always(0)).await.unwrap();
    driver.put(&place(), "b", expiring.clone(), Guard::always(0)).await.unwrap();
    driver.put(&place(), "b", record(2, 10), Guard::always(0)).await.unwrap();
    driver.put(&place(), "c", expiring, Guard::always(0)).await.unwrap();
    driver.remove(&place(), "c", Guard::always(0)).await.unwrap();
    assert_eq!(driver.collect_expired(999, 100).await.unwrap(), 0);
    assert_eq!(driver.collect_expired(1_000, 100).await.unwrap(), 1);
    let root = &options.prefix;
    assert_eq!(
        keys(root).await,
        [format!("{root}format"), format!("{root}ob/test/b"), format!("{root}oh/test/b")]
    );
    clean(root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_and_large() {
    let options = options(&prefix());
    let driver = connect(&options).await;
    // Over and over the size at which a record is sent once, and of several requests.
    for (version, bytes) in [(1, 40_000), (2, 1024 * 1024), (3, 10)] {
        let stored = driver.put(&place(), "large", record(version, bytes), Guard::always(0)).await;
        assert_eq!(stored.unwrap().as_u64(), version);
    }
    let changes = (0..250).map(|number| Change::Put {
        key: format!("{number:03}"),
        record: record(5, 20_000),
        guard: Guard { condition: Condition::IfAbsent, ..Guard::always(0) },
    });
    let changes: Vec<_> = changes.collect();
    for result in driver.apply_many(&place(), changes.clone()).await {
        assert_eq!(result.unwrap(), Some(Version::from_u64(5)));
    }
    for result in driver.apply_many(&place(), changes.clone()).await {
        assert!(matches!(result, Err(StorageError::PreconditionFailed(_))), "{result:?}");
    }
    let keys: Vec<_> = changes.iter().map(|change| change.key().to_owned()).collect();
    let found = driver.get_many(&place(), &keys).await.unwrap();
    assert_eq!(found, vec![Some(record(5, 20_000)); 250]);
    let listed = driver.scan(&place(), Scan { limit: 1000, ..Scan::default() }).await.unwrap();
    assert_eq!(listed.len(), 251);
    assert_eq!(driver.stats().await.unwrap().keys, 251);
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_others_are_corrupt() {
    let options = options(&prefix());
    let driver = connect(&options).await;
    let mut bare = bare().await;
    let head = format!("{}oh/test/key", options.prefix);
    bare.put(head.clone(), "nothing of ours", None).await.unwrap();
    for part in [Part::Head, Part::Whole, Part::Range(0..1)] {
        let read = driver.get(&place(), "key", part).await;
        assert!(matches!(read, Err(StorageError::Corrupt(_))), "{read:?}");
    }
    assert!(driver.remove(&place(), "key", Guard::always(0)).await.unwrap());
    driver.put(&place(), "key", record(1, 5), Guard::always(0)).await.unwrap();
    bare.put(format!("{}ob/test/key", options.prefix), "longer than 5", None).await.unwrap();
    let read = driver.get(&place(), "key", Part::Whole).await;
    assert!(matches!(read, Err(StorageError::Corrupt(_))), "{read:?}");

    bare.put(format!("{}format", options.prefix), "2", None).await.unwrap();
    let newer = EtcdDriver::connect(options.clone()).await;
    assert!(matches!(newer, Err(StorageError::Unsupported(_))), "{newer:?}");
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_down_are_passed_over() {
    let mut options = options(&prefix());
    options.endpoints.insert(0, "http://127.0.0.1:1".into());
    options.endpoints.push("http://127.0.0.1:2".into());
    let driver = connect(&options).await;
    for version in 1..=50 {
        let stored = driver.put(&place(), "key", record(version, 1), Guard::always(0)).await;
        assert_eq!(stored.unwrap().as_u64(), version);
        assert!(driver.get(&place(), "key", Part::Whole).await.unwrap().is_some());
    }
    clean(&options.prefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_or_is_refused() {
    let nowhere = EtcdOptions::new(["http://127.0.0.1:1", "http://127.0.0.1:2"], "x/");
    let error = EtcdDriver::connect(nowhere).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.retry(), Retry::Temporary);

    let user = EtcdOptions {
        username: Some("nobody".into()),
        password: Some("hunter2".into()),
        ..options("x/")
    };
    let error = EtcdDriver::connect(user.clone()).await.unwrap_err();
    assert!(matches!(error, StorageError::InvalidInput(_)), "{error}");
    let inline = EtcdOptions::new(["http://user:hunter2@127.0.0.1:1"], "x/");
    let refused = EtcdDriver::connect(inline.clone()).await.unwrap_err();
    assert!(matches!(refused, StorageError::InvalidInput(_)), "{refused}");
    let texts = format!("{user:?} {error:?} {inline:?} {refused:?}");
    assert!(!texts.contains("hunter2"), "{texts}");
    for options in [
        EtcdOptions { endpoints: Vec::new(), ..user.clone() },
        EtcdOptions { password: None, ..user.clone() },
        EtcdOptions { cert_file: Some("a".into()), ..user },
    ] {
        let error = EtcdDriver::connect(options).await.unwrap_err();
        assert!(matches!(error, StorageError::InvalidInput(_)), "{error}");
    }
}

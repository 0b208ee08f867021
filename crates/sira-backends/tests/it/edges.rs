//! Edges that the contract and the conformance suite do not reach: parts of large and small records,
//! versions beyond 32 bits, and the collection of what has expired.

use bytes::Bytes;
use sira_store::driver::{Area, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{Condition, StorageError, Version};

use crate::support::{now_ms, unique};

/// A time at which nothing of these tests has expired.
const NOW_MS: u64 = 1_800_000_000_000;

/// Runs all checks in a namespace of their own, and leaves nothing. `peer` is another handle of the
/// same store.
pub async fn check(driver: &dyn Driver, peer: &dyn Driver) {
    let place = Place { namespace: unique("n").into(), area: Area::Objects };
    parts(driver, peer, &place).await;
    versions_grow(driver, &place).await;
    collection(driver, &place).await;
    for key in
        ["a", "a/b", "a//", "\0 odd \u{10FFFF}", "large", "grown", "future", "never", "lasting"]
    {
        assert!(driver.remove(&place, key, Guard::always(now_ms())).await.unwrap(), "{key}");
    }
    assert_eq!(list(driver, &place).await, Vec::<String>::new());
}

/// What has expired is dropped on demand, and nothing else.
async fn collection(driver: &dyn Driver, place: &Place) {
    let now_ms = now_ms();
    for (key, expires_at_ms) in [
        ("past", Some(now_ms - 5_000)),
        ("future", Some(now_ms + 3_600_000)),
        ("never", None),
        ("lasting", Some(now_ms - 5_000)),
    ] {
        let record = Record { expires_at_ms, ..record(1, key) };
        driver.put(place, key, record, Guard::always(now_ms)).await.unwrap();
    }
    put(driver, place, "lasting", record(2, "for ever")).await;
    let mut collected = 0;
    for _ in 0..64 {
        collected += driver.collect_expired(now_ms, 1000).await.unwrap();
        if get(driver, place, "past").await.is_none() {
            break;
        }
    }
    assert!(collected >= 1);
    let keys = list(driver, place).await;
    assert!(!keys.contains(&"past".to_owned()), "{keys:?}");
    for key in ["future", "lasting", "never"] {
        assert!(keys.iter().any(|listed| listed == key), "{keys:?}");
        assert!(get(driver, place, key).await.is_some(), "{key}");
    }
}

fn record(version: u64, text: &str) -> Record {
    Record {
        version: Version::from_u64(version),
        expires_at_ms: None,
        size: text.len() as u64,
        envelope: Bytes::from_static(b"envelope of twenty b"),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn guard(condition: Condition) -> Guard {
    Guard { condition, ..Guard::always(NOW_MS) }
}

async fn put(driver: &dyn Driver, place: &Place, key: &str, record: Record) -> Version {
    driver.put(place, key, record, Guard::always(NOW_MS)).await.unwrap()
}

async fn get(driver: &dyn Driver, place: &Place, key: &str) -> Option<Record> {
    driver.get(place, key, Part::Whole).await.unwrap()
}

async fn list(driver: &dyn Driver, place: &Place) -> Vec<String> {
    let all = Scan { limit: 1000, ..Scan::default() };
    driver.scan(place, all).await.unwrap().into_iter().map(|listed| listed.key).collect()
}

async fn parts(driver: &dyn Driver, peer: &dyn Driver, place: &Place) {
    for (key, body) in [("a", ""), ("a/b", "x"), ("a//", "yy"), ("\0 odd \u{10FFFF}", "zzz")] {
        for expires_at_ms in [None, Some(NOW_MS * 2)] {
            let version = get(driver, place, key).await.map_or(5, |held| held.version.as_u64() + 1);
            let record = Record { expires_at_ms, ..record(version, body) };
            put(driver, place, key, record.clone()).await;
            assert_eq!(get(peer, place, key).await, Some(record.clone()));
            let head = driver.get(place, key, Part::Head).await.unwrap().unwrap();
            assert_eq!(head, Record { body: Bytes::new(), ..record.clone() });
            for range in [0..1, 1..2, 1..100, 0..u64::MAX, 50..60, u64::MAX..u64::MAX] {
                let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
                let part = driver.get(place, key, Part::Range(range.clone())).await;
                let body =
                    record.body.slice(cut(range.start)..cut(range.end).max(cut(range.start)));
                assert_eq!(part.unwrap(), Some(Record { body, ..record.clone() }), "{range:?}");
            }
        }
    }
    let large = "0123456789abcdef".repeat(40_000);
    let envelope = Bytes::from(vec![7; 20_000]);
    let record = Record { envelope, ..record(9, &large) };
    put(driver, place, "large", record.clone()).await;
    assert_eq!(get(driver, place, "large").await, Some(record.clone()));
    let head = driver.get(place, "large", Part::Head).await.unwrap().unwrap();
    assert_eq!(head, Record { body: Bytes::new(), ..record.clone() });
    let part = driver.get(place, "large", Part::Range(16..24)).await.unwrap().unwrap();
    assert_eq!(part, Record { body: Bytes::from_static(b"01234567"), ..record });
    for part in [Part::Head, Part::Whole, Part::Range(0..5)] {
        assert_eq!(driver.get(place, "none", part).await.unwrap(), None);
    }
}

async fn versions_grow(driver: &dyn Driver, place: &Place) {
    put(driver, place, "grown", record(1 << 40, "first")).await;
    if driver.profile().conditional {
        let exact = Guard { exact: true, ..guard(Condition::Always) };
        for version in [1, 1 << 40] {
            let refused = driver.put(place, "grown", record(version, "late"), exact).await;
            assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
        }
        // Halves of 32 bits must be compared as one number.
        let next = (1 << 40) + (1 << 33) - 1;
        let taken = driver.put(place, "grown", record(next, "exact"), exact).await;
        assert_eq!(taken.unwrap().as_u64(), next);
        let present = guard(Condition::IfPresent);
        let grown = driver.put(place, "grown", record(7, "conditional"), present).await.unwrap();
        assert_eq!(grown.as_u64(), next + 1);
        let held = get(driver, place, "grown").await.unwrap();
        assert_eq!((held.version, &held.body[..]), (grown, &b"conditional"[..]));
    }
    let told = put(driver, place, "grown", record(7, "blind")).await;
    let held = get(driver, place, "grown").await.unwrap();
    assert_eq!((held.version, &held.body[..]), (told, &b"blind"[..]));
}

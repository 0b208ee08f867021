//! What drivers with transactions must do beyond the contract of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sira_store::driver::{Area, Change, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{Condition, StorageError, Version};

use crate::support::{now_ms, unique};

/// Checks a driver through several instances of it.
pub async fn check(drivers: &[Arc<dyn Driver>]) {
    large(drivers.first().expect("a driver").as_ref()).await;
    check_small(drivers).await;
}

/// The same of a driver whose transactions are small.
pub async fn check_small(drivers: &[Arc<dyn Driver>]) {
    let driver = drivers.first().expect("a driver");
    whole_or_not_at_all(driver.as_ref()).await;
    checks_leave_no_trace(driver.as_ref()).await;
    seen_whole(drivers).await;
    transfers(drivers).await;
    batches_that_cross(drivers).await;
    collects_what_expired(driver.as_ref()).await;
}

fn place() -> Place {
    Place { namespace: unique("ns").into(), area: Area::Objects }
}

fn guard(condition: Condition) -> Guard {
    Guard { condition, exact: false, now_ms: now_ms() }
}

fn record(number: u64, body: impl Into<Bytes>) -> Record {
    let body = body.into();
    let envelope = Bytes::from_static(b"envelope");
    let size = body.len() as u64;
    Record { version: Version::from_u64(number), expires_at_ms: None, size, envelope, body }
}

fn put(key: &str, record: Record, condition: Condition) -> Change {
    Change::Put { key: key.to_owned(), record, guard: guard(condition) }
}

fn remove(key: &str, condition: Condition) -> Change {
    Change::Remove { key: key.to_owned(), guard: guard(condition) }
}

async fn contents(driver: &dyn Driver, place: &Place) -> BTreeMap<String, (u64, Bytes)> {
    let scan = Scan { limit: 10_000, ..Scan::default() };
    let mut contents = BTreeMap::new();
    for listed in driver.scan(place, scan).await.expect("scan") {
        let record = driver.get(place, &listed.key, Part::Whole).await.expect("get");
        let record = record.expect("a key that is listed");
        contents.insert(listed.key, (record.version.as_u64(), record.body));
    }
    contents
}

async fn whole_or_not_at_all(driver: &dyn Driver) {
    let place = place();
    let before = [
        put("a", record(10, "a"), Condition::Always),
        put("b", record(10, "b"), Condition::IfAbsent),
    ];
    let versions = driver.commit(&place, before.to_vec()).await.expect("commit");
    assert_eq!(versions, [Some(Version::from_u64(10)); 2]);
    let held = contents(driver, &place).await;
    assert_eq!(held.len(), 2);

    let ten = Version::from_u64(10);
    let refused = [
        put("a", record(20, "new"), Condition::IfAbsent),
        put("a", record(20, "new"), Condition::IfMatch(Version::from_u64(11))),
        put("x", record(20, "new"), Condition::IfPresent),
        remove("x", Condition::IfPresent),
        remove("b", Condition::IfNoneMatch(ten)),
    ];
    for refused in refused {
        for at in 0..3 {
            let mut changes =
                vec![put("c", record(20, "c"), Condition::Always), remove("0", Condition::Always)];
            changes.insert(at, refused.clone());
            let error = driver.commit(&place, changes).await.expect_err("a guard that fails");
            assert_eq!(error.index, Some(at), "{refused:?}: {error:?}");
            assert_eq!(error.error.code(), "precondition_failed", "{refused:?}");
            assert_eq!(contents(driver, &place).await, held, "{refused:?}");
        }
    }

    let exact = |key: &str, number| Change::Put {
        key: key.to_owned(),
        record: record(number, "again"),
        guard: Guard { exact: true, ..guard(Condition::Always) },
    };
    let error = driver.commit(&place, vec![exact("a", 10)]).await.expect_err("a stale version");
    assert_eq!((error.index, error.error.code()), (Some(0), "conflict"));
    let among = vec![exact("c", 30), exact("b", 11), exact("a", 9), exact("0", 30)];
    let error = driver.commit(&place, among).await.expect_err("a stale version");
    assert_eq!((error.index, error.error.code()), (Some(2), "conflict"));
    assert_eq!(contents(driver, &place).await, held);
    let newer = ["d", "b", "e"].map(|key| exact(key, 15)).to_vec();
    let versions = driver.commit(&place, newer).await.expect("commit");
    assert_eq!(versions, [Some(Version::from_u64(15)); 3]);
    let undone = [remove("d", Condition::Always), remove("e", Condition::Always)];
    driver.commit(&place, undone.to_vec()).await.expect("commit");

    let changes = vec![
        remove("b", Condition::IfMatch(Version::from_u64(15))),
        put("a", record(5, "older"), Condition::IfMatch(ten)),
        remove("none", Condition::Always),
        put("c", record(30, "c"), Condition::Always),
    ];
    let versions = driver.commit(&place, changes).await.expect("commit");
    let version = |number| Some(Version::from_u64(number));
    assert_eq!(versions, [None, version(11), None, version(30)]);
    let held = contents(driver, &place).await;
    let keys: Vec<_> = held.iter().map(|(key, (version, _))| (key.as_str(), *version)).collect();
    assert_eq!(keys, [("a", 11), ("c", 30)]);
    driver.commit(&place, Vec::new()).await.expect("an empty commit");
}

async fn checks_leave_no_trace(driver: &dyn Driver) {
    let place = place();
    let check =
        |key: &str, condition| Change::Check { key: key.to_owned(), guard: guard(condition) };
    let ten = Version::from_u64(10);
    driver
        .commit(&place, vec![put("b", record(10, "b"), Condition::Always)])
        .await
        .expect("commit");
    // One that has expired and is still there.
    let expired = Record { expires_at_ms: Some(1), ..record(10, "e") };
    driver.put(&place, "e", expired, Guard::always(0)).await.expect("put");
    let held = driver.get(&place, "b", Part::Whole).await.expect("get");
    let changes = vec![
        check("a", Condition::IfAbsent),
        check("b", Condition::IfMatch(ten)),
        put("c", record(10, "c"), Condition::Always),
        check("e", Condition::IfAbsent),
        check("f", Condition::IfAbsent),
    ];
    let versions = driver.commit(&place, changes).await.expect("commit");
    assert_eq!(versions, [None, None, Some(ten), None, None]);
    assert_eq!(driver.get(&place, "b", Part::Whole).await.expect("get"), held);
    for key in ["a", "f"] {
        assert_eq!(driver.get(&place, key, Part::Whole).await.expect("get"), None, "{key}");
    }
    for refused in [check("b", Condition::IfAbsent), check("a", Condition::IfPresent)] {
        for at in 0..2 {
            let mut changes = vec![put("d", record(10, "d"), Condition::Always)];
            changes.insert(at, refused.clone());
            let error = driver.commit(&place, changes).await.expect_err("a check that fails");
            assert_eq!((error.index, error.error.code()), (Some(at), "precondition_failed"));
            assert_eq!(driver.get(&place, "d", Part::Whole).await.expect("get"), None);
        }
    }
    driver.collect_expired(now_ms(), 10).await.expect("collect");

    // Each by itself, as batches that are not atomic are.
    let answers = driver
        .apply_many(
            &place,
            vec![
                check("b", Condition::IfPresent),
                check("b", Condition::IfAbsent),
                put("d", record(10, "d"), Condition::Always),
            ],
        )
        .await;
    let codes: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map_err(StorageError::code)).collect();
    assert_eq!(codes, [Ok(&None), Err("precondition_failed"), Ok(&Some(ten))]);
}

async fn large(driver: &dyn Driver) {
    let place = place();
    let body = |number: u64| vec![number as u8; (number % 7) as usize * 20_000];
    let changes = |version: u64| {
        let put = |number: u64| {
            put(&format!("{number:04}"), record(version, body(number)), Condition::Always)
        };
        (0..1100).rev().map(put).collect::<Vec<_>>()
    };
    let versions = driver.commit(&place, changes(50)).await.expect("commit");
    assert_eq!(versions, [Some(Version::from_u64(50)); 1100]);
    // Versions grow over what is held, in both ways of a batch.
    let versions = driver.commit(&place, changes(7)).await.expect("commit");
    assert_eq!(versions, [Some(Version::from_u64(51)); 1100]);
    for answer in driver.apply_many(&place, changes(7)).await {
        assert_eq!(answer.expect("put"), Some(Version::from_u64(52)));
    }
    let held = contents(driver, &place).await;
    assert_eq!(held.len(), 1100);
    for (key, (version, held)) in held {
        assert_eq!((version, held), (52, body(key.parse().unwrap()).into()), "{key}");
    }
    let removals: Vec<_> =
        (0..1100).map(|number| remove(&format!("{number:04}"), Condition::Always)).collect();
    assert_eq!(driver.commit(&place, removals).await.expect("commit"), [None; 1100]);
    assert!(contents(driver, &place).await.is_empty());
}

/// Readers of several keys at once see all of a commit or none of it.
async fn seen_whole(drivers: &[Arc<dyn Driver>]) {
    let place = place();
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let changes = |round: u64| {
        let put =
            |key: &String| put(key, record(100 + round, format!("{round}")), Condition::Always);
        keys.iter().map(put).collect::<Vec<_>>()
    };
    let driver = drivers.first().expect("a driver");
    driver.commit(&place, changes(0)).await.expect("commit");
    let (writer, reader) = (Arc::clone(driver), Arc::clone(drivers.last().expect("a driver")));
    let reading = tokio::spawn({
        let (place, keys) = (place.clone(), keys.clone());
        async move {
            loop {
                let records = reader.get_many(&place, &keys).await.expect("get_many");
                let bodies: Vec<_> =
                    records.into_iter().map(|record| record.expect("a record").body).collect();
                let first = bodies.first().cloned().expect("a body");
                assert!(bodies.iter().all(|body| *body == first), "{bodies:?}");
                if first == "30" {
                    return;
                }
            }
        }
    });
    for round in 1..=30 {
        writer.commit(&place, changes(round)).await.expect("commit");
    }
    reading.await.expect("the reader");
}

/// Writers move amounts between keys, each on the versions that it read: nothing is lost.
async fn transfers(drivers: &[Arc<dyn Driver>]) {
    const ACCOUNTS: u64 = 4;
    const BEGIN: u64 = 100;
    let place = place();
    let driver = drivers.first().expect("a driver");
    for account in 0..ACCOUNTS {
        let record = record(1, BEGIN.to_string());
        driver.put(&place, &account.to_string(), record, guard(Condition::Always)).await.unwrap();
    }
    let tasks: Vec<_> = drivers
        .iter()
        .cycle()
        .take(8)
        .enumerate()
        .map(|(number, driver)| {
            let (driver, place) = (Arc::clone(driver), place.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let from = (number as u64 + done) % ACCOUNTS;
                    let to = (from + 1 + done % (ACCOUNTS - 1)) % ACCOUNTS;
                    let mut changes = Vec::new();
                    for (account, plus) in [(from, false), (to, true)] {
                        let key = account.to_string();
                        let held =
                            driver.get(&place, &key, Part::Whole).await.expect("get").unwrap();
                        let amount: u64 = std::str::from_utf8(&held.body).unwrap().parse().unwrap();
                        let amount = if plus { amount + 1 } else { amount - 1 };
                        let next = record(held.version.as_u64() + 1, amount.to_string());
                        changes.push(put(&key, next, Condition::IfMatch(held.version)));
                    }
                    match driver.commit(&place, changes).await {
                        Ok(_) => done += 1,
                        Err(error) => assert!(
                            matches!(
                                error.error,
                                StorageError::PreconditionFailed(_) | StorageError::Conflict(_)
                            ),
                            "{error:?}"
                        ),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
    let amounts = contents(driver.as_ref(), &place).await.into_values();
    let sum: u64 =
        amounts.map(|(_, body)| std::str::from_utf8(&body).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, ACCOUNTS * BEGIN);
}

/// Batches over the same keys in different orders end, each of them.
async fn batches_that_cross(drivers: &[Arc<dyn Driver>]) {
    let place = place();
    let tasks: Vec<_> = drivers
        .iter()
        .cycle()
        .take(8)
        .enumerate()
        .map(|(number, driver)| {
            let (driver, place) = (Arc::clone(driver), place.clone());
            tokio::spawn(async move {
                for round in 0..10 {
                    let change = |key: usize| {
                        let name = format!("k{key}");
                        match (key + number + round) % 3 {
                            0 => remove(&name, Condition::Always),
                            _ => put(&name, record(1, format!("{number}")), Condition::Always),
                        }
                    };
                    let mut changes: Vec<_> = (0..30).map(change).collect();
                    if number % 2 == 0 {
                        changes.reverse();
                    }
                    if number % 4 == 0 {
                        driver.commit(&place, changes).await.expect("commit");
                    } else {
                        for answer in driver.apply_many(&place, changes).await {
                            answer.expect("a change of a batch");
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
}

async fn collects_what_expired(driver: &dyn Driver) {
    let place = place();
    let now = now_ms();
    for number in 0..25_u64 {
        let expires_at_ms = match number % 5 {
            0 => None,
            1 => Some(now + 3_600_000),
            _ => Some(now - number),
        };
        let record = Record { expires_at_ms, ..record(1, "v") };
        driver.put(&place, &number.to_string(), record, Guard::always(now)).await.expect("put");
    }
    assert_eq!(driver.collect_expired(now, 10).await.expect("collect"), 10);
    assert_eq!(contents(driver, &place).await.len(), 15);
    assert_eq!(driver.collect_expired(now, 10).await.expect("collect"), 5);
    assert_eq!(driver.collect_expired(now, 10).await.expect("collect"), 0);
    assert_eq!(contents(driver, &place).await.len(), 10);
}

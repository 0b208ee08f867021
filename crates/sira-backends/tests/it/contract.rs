//! What every driver must do, checked on its own methods: each answer is compared with a model.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sira_store::driver::{
    After, Area, Change, Driver, Expiry, Guard, Held, Part, Place, Record, Scan,
};
use sira_store::{Condition, Result, StorageError, Version};

use crate::support::{now_ms, unique};

/// Writers that race.
const RACERS: usize = 16;

/// Engines that write without a look at what was there, where nothing is demanded of it.
const BLIND: &[&str] = &["s3", "minio", "azure_blob", "gcs"];

/// Keys whose order and spelling tend to break.
const KEYS: &[&str] = &[
    "a",
    "a/",
    "a//",
    "a/b",
    "a/b/c",
    "a.",
    "a-",
    "a0",
    "aa",
    "a\0",
    "\0",
    "\0\0",
    "A",
    "Z",
    "z",
    "é",
    "e",
    "e\u{301}",
    "\u{7F}",
    "\u{80}",
    "\u{E000}",
    "\u{FFFD}",
    "\u{10FFFF}",
    "日本",
    " ",
    ".",
    "..",
    "%2F",
    "'",
    "\"",
    "\\",
    "*",
    "{}",
    "$v",
    "10",
    "9",
    "~",
];

/// Checks a driver through several instances of it.
pub async fn check(drivers: &[Arc<dyn Driver>]) {
    let driver = drivers.first().expect("a driver");
    records(driver.as_ref()).await;
    guards_of_puts(driver.as_ref()).await;
    guards_of_removals(driver.as_ref()).await;
    scans(driver.as_ref()).await;
    batches(driver.as_ref()).await;
    places(driver.as_ref()).await;
    races(drivers).await;
    assert_eq!(driver.health_check().await, sira_store::HealthStatus::Healthy);
    driver.stats().await.expect("stats");
}

fn place() -> Place {
    Place { namespace: unique("ns").into(), area: Area::Objects }
}

fn version(number: u64) -> Version {
    Version::from_u64(number)
}

fn record(number: u64, expires_at_ms: Option<u64>, body: impl Into<Bytes>) -> Record {
    let body = body.into();
    Record {
        version: version(number),
        expires_at_ms,
        size: body.len() as u64,
        envelope: Bytes::from(format!("envelope {number}")),
        body,
    }
}

fn guard(condition: Condition) -> Guard {
    Guard { condition, exact: false, now_ms: now_ms() }
}

async fn put(driver: &dyn Driver, place: &Place, key: &str, record: Record) -> Version {
    driver.put(place, key, record, Guard::always(now_ms())).await.expect("put")
}

async fn held(driver: &dyn Driver, place: &Place, key: &str) -> Option<Record> {
    driver.get(place, key, Part::Whole).await.expect("get")
}

async fn records(driver: &dyn Driver) {
    let place = place();
    assert_eq!(held(driver, &place, "k").await, None);
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = vec![7; usize::try_from(driver.profile().body_bytes_max.min(1 << 20)).unwrap()];
    let later = now_ms() + 3_600_000;
    let bodies = [Bytes::new(), Bytes::from(every_byte), Bytes::from(large)];
    for (number, body) in bodies.into_iter().enumerate() {
        for expires_at_ms in [None, Some(later)] {
            let version = now_ms() << 16;
            let written = Record { size: 1 << 33, ..record(version, expires_at_ms, body.clone()) };
            let key = format!("k{number}{}", expires_at_ms.is_some());
            assert_eq!(put(driver, &place, &key, written.clone()).await, written.version);
            assert_eq!(held(driver, &place, &key).await.as_ref(), Some(&written));
            let head = driver.get(&place, &key, Part::Head).await.expect("head");
            assert_eq!(head, Some(Record { body: Bytes::new(), ..written.clone() }));
            for range in [0..3, 1..1, 2..1 << 40, 300..400, 1 << 40..1 << 41] {
                let part = driver.get(&place, &key, Part::Range(range.clone())).await;
                let at = |at: u64| usize::try_from(at).unwrap().min(body.len());
                let body = body.slice(at(range.start)..at(range.end));
                assert_eq!(part.expect("range"), Some(Record { body, ..written.clone() }));
            }
        }
    }
    let long = "é".repeat(512);
    put(driver, &place, &long, record(1, None, "long")).await;
    assert_eq!(held(driver, &place, &long).await, Some(record(1, None, "long")));
    // No time to live is too long.
    put(driver, &place, "ever", record(1, Some(u64::MAX), "v")).await;
    assert_eq!(held(driver, &place, "ever").await.unwrap().body, "v");
}

/// What a key may hold before a write: nothing, a record, one that has expired.
fn states(now_ms: u64) -> [Option<Held>; 4] {
    let held = |expires_at_ms| Some(Held { version: version(1000), expires_at_ms });
    [None, held(None), held(Some(now_ms + 3_600_000)), held(Some(now_ms - 5))]
}

fn conditions() -> Vec<Condition> {
    let mut all = vec![Condition::Always, Condition::IfAbsent, Condition::IfPresent];
    for number in [999, 1000] {
        all.extend([Condition::IfMatch(version(number)), Condition::IfNoneMatch(version(number))]);
    }
    all
}

fn same_kind<T: std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    seen: &Result<T>,
    model: &Result<U>,
) {
    let code = |error: &StorageError| error.code();
    assert_eq!(
        seen.as_ref().err().map(code),
        model.as_ref().err().map(code),
        "{what}: expected {model:?}, saw {seen:?}"
    );
}

async fn guards_of_puts(driver: &dyn Driver) {
    let place = place();
    let now_ms = now_ms();
    let mut cases = 0;
    for state in states(now_ms) {
        for condition in conditions() {
            for (exact, number) in
                [(true, 500), (true, 1000), (true, 2000), (false, 500), (false, 2000)]
            {
                cases += 1;
                let key = format!("put{cases}");
                if let Some(held) = state {
                    put(driver, &place, &key, record(1000, held.expires_at_ms, "before")).await;
                }
                let guard = Guard { condition, exact, now_ms };
                let seen = driver.put(&place, &key, record(number, None, "after"), guard).await;
                let model = guard.admit(state, version(number));
                let what = format!("{state:?}, {guard:?}, version {number}");
                same_kind(&what, &seen, &model);
                let holds = held(driver, &place, &key).await;
                match (seen, model) {
                    (Ok(seen), Ok(model)) => {
                        // A store that cannot look before it writes leaves the version as it is.
                        let blind = guard.is_blind()
                            && BLIND.contains(&driver.profile().name)
                            && seen == version(number);
                        let grown = seen >= model && (!exact || seen == model);
                        assert!(grown || blind, "{what}: {seen}");
                        let expected = Record { version: seen, ..record(number, None, "after") };
                        assert_eq!(holds, Some(expected), "{what}");
                    }
                    _ => assert_eq!(
                        holds,
                        state.map(|held| record(1000, held.expires_at_ms, "before")),
                        "{what}"
                    ),
                }
            }
        }
    }
}

async fn guards_of_removals(driver: &dyn Driver) {
    let place = place();
    let now_ms = now_ms();
    let mut cases = 0;
    for state in states(now_ms) {
        for condition in conditions() {
            cases += 1;
            let key = format!("remove{cases}");
            if let Some(held) = state {
                put(driver, &place, &key, record(1000, held.expires_at_ms, "before")).await;
            }
            let guard = Guard { condition, exact: false, now_ms };
            let seen = driver.remove(&place, &key, guard).await;
            let model = guard.admit_removal(state);
            let what = format!("{state:?}, {guard:?}");
            same_kind(&what, &seen, &model);
            let live = held(driver, &place, &key).await.filter(|held| held.held().lives(now_ms));
            match (seen, model) {
                (Ok(seen), Ok(model)) => {
                    assert_eq!(seen, model, "{what}");
                    assert_eq!(live, None, "{what}");
                }
                _ => assert_eq!(
                    live,
                    state.filter(|held| held.lives(now_ms)).map(|held| record(
                        1000,
                        held.expires_at_ms,
                        "before"
                    )),
                    "{what}"
                ),
            }
        }
    }
}

async fn scans(driver: &dyn Driver) {
    let place = place();
    let mut model = BTreeMap::new();
    for (number, key) in KEYS.iter().enumerate() {
        let expires_at_ms = (number % 3 == 0).then(|| now_ms() + 3_600_000);
        let record = record(10 + number as u64, expires_at_ms, vec![0; number]);
        put(driver, &place, key, record.clone()).await;
        model.insert((*key).to_owned(), record);
    }
    for number in 0..150 {
        let key = format!("many/{number:03}");
        put(driver, &place, &key, record(5, None, "v")).await;
        model.insert(key, record(5, None, "v"));
    }
    let afters = ["", "a", "a/", "a/b", "many/077", "z", "\u{10FFFF}"];
    let mut all = vec![None];
    all.extend(afters.map(|after| Some(After::Key(after.to_owned()))));
    all.extend(afters.map(|after| Some(After::Prefix(after.to_owned()))));
    for prefix in ["", "a", "a/", "many/", "\0", "é", "\u{10FFFF}", "none"] {
        for after in &all {
            for limit in [1, 7, 10_000] {
                let scan = Scan { prefix: prefix.to_owned(), after: after.clone(), limit };
                let expected: Vec<_> = model
                    .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .filter(|(key, _)| after.as_ref().is_none_or(|after| after.precedes(key)))
                    .take(limit)
                    .collect();
                let seen = driver.scan(&place, scan.clone()).await.expect("scan");
                let keys: Vec<_> = seen.iter().map(|listed| &listed.key).collect();
                let wanted: Vec<_> = expected.iter().map(|(key, _)| *key).collect();
                assert_eq!(keys, wanted, "{scan:?}");
                for (listed, (_, record)) in seen.iter().zip(expected) {
                    if driver.profile().list_sizes {
                        assert_eq!(listed.size, record.size);
                    }
                    assert!(listed.version.is_none_or(|version| version == record.version));
                    if listed.expiry != Expiry::Unknown {
                        assert_eq!(listed.expiry, Expiry::from(record.expires_at_ms));
                    }
                }
            }
        }
    }
}

async fn batches(driver: &dyn Driver) {
    let place = place();
    put(driver, &place, "newer", record(900, None, "before")).await;
    for key in ["live", "removed", "kept"] {
        put(driver, &place, key, record(50, None, "before")).await;
    }
    let mut changes: Vec<(Change, Option<&str>)> = Vec::new();
    let change = |key: &str, condition| Change::Put {
        key: key.to_owned(),
        record: record(100, None, "after"),
        guard: guard(condition),
    };
    for number in 0..300 {
        changes.push((change(&format!("k{number}"), Condition::Always), None));
    }
    changes.push((change("newer", Condition::Always), None));
    changes.push((change("live", Condition::IfAbsent), Some("precondition_failed")));
    changes.push((change("absent", Condition::IfPresent), Some("precondition_failed")));
    changes.push((change("fresh", Condition::IfAbsent), None));
    let remove =
        |key: &str, condition| Change::Remove { key: key.to_owned(), guard: guard(condition) };
    changes.push((remove("removed", Condition::Always), None));
    changes.push((remove("nothing", Condition::Always), None));
    let failed = Some("precondition_failed");
    changes.push((remove("kept", Condition::IfMatch(version(51))), failed));
    if driver.profile().conditional {
        put(driver, &place, "ahead", record(900, None, "before")).await;
        put(driver, &place, "same", record(100, None, "before")).await;
        put(driver, &place, "behind", record(50, None, "before")).await;
        let given = |key: &str| Change::Put {
            key: key.to_owned(),
            record: record(100, None, "after"),
            guard: Guard { exact: true, ..guard(Condition::Always) },
        };
        for number in 0..20 {
            changes.push((given(&format!("given{number}")), None));
        }
        changes.push((given("behind"), None));
        changes.push((given("same"), Some("conflict")));
        changes.push((given("ahead"), Some("conflict")));
    }
    let (changes, codes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    let answers = driver.apply_many(&place, changes.clone()).await;
    assert_eq!(answers.len(), changes.len());
    for ((answer, change), code) in answers.iter().zip(&changes).zip(codes) {
        assert_eq!(answer.as_ref().err().map(StorageError::code), code, "{change:?}: {answer:?}");
        if let Ok(answer) = answer {
            assert_eq!(answer.is_some(), matches!(change, Change::Put { .. }), "{change:?}");
        }
    }
    let keys: Vec<String> = ["missing", "live"]
        .into_iter()
        .map(str::to_owned)
        .chain(
            changes.iter().rev().map(|change| change.key().to_owned()).filter(|key| key != "live"),
        )
        .collect();
    let records = driver.get_many(&place, &keys).await.expect("get_many");
    assert_eq!(records.len(), keys.len());
    for (key, record) in keys.iter().zip(records) {
        let record = record.map(|record| (record.version.as_u64(), record.body));
        let expected = match key.as_str() {
            "missing" | "absent" | "removed" | "nothing" => None,
            "live" | "kept" => Some((50, Bytes::from("before"))),
            "same" => Some((100, Bytes::from("before"))),
            "ahead" => Some((900, Bytes::from("before"))),
            "newer" => {
                let blind = BLIND.contains(&driver.profile().name);
                let newer = record.as_ref().is_some_and(|(version, _)| *version > 900 || blind);
                assert!(newer, "{record:?}");
                continue;
            }
            _ => Some((100, Bytes::from("after"))),
        };
        assert_eq!(record, expected, "{key:?}");
    }
}

async fn places(driver: &dyn Driver) {
    let (one, other) = (place(), place());
    let chunks = Place { area: Area::Chunks, ..one.clone() };
    put(driver, &one, "k", record(1, None, "one")).await;
    put(driver, &chunks, "k", record(2, None, "chunk")).await;
    put(driver, &other, "k", record(3, None, "other")).await;
    assert!(driver.remove(&one, "k", Guard::always(now_ms())).await.expect("remove"));
    assert_eq!(held(driver, &one, "k").await, None);
    assert_eq!(held(driver, &chunks, "k").await, Some(record(2, None, "chunk")));
    assert_eq!(held(driver, &other, "k").await, Some(record(3, None, "other")));
    let scan = Scan { limit: 10, ..Scan::default() };
    assert_eq!(driver.scan(&one, scan.clone()).await.expect("scan"), []);
    assert_eq!(driver.scan(&chunks, scan).await.expect("scan").len(), 1);
    assert!(driver.remove(&chunks, "k", Guard::always(now_ms())).await.expect("remove"));
    assert_eq!(held(driver, &chunks, "k").await, None);
}

/// Runs the racers at once, spread over the instances.
async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    drivers: &[Arc<dyn Driver>],
    racer: impl Fn(Arc<dyn Driver>, usize) -> F,
) -> Vec<T> {
    let racers = drivers.iter().cycle().take(RACERS).enumerate();
    let tasks: Vec<_> =
        racers.map(|(number, driver)| tokio::spawn(racer(Arc::clone(driver), number))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a racer"));
    }
    results
}

async fn races(drivers: &[Arc<dyn Driver>]) {
    let driver = drivers.first().expect("a driver");
    let place = place();
    for round in 0..10 {
        let key = format!("k{round}");
        for condition in [Condition::IfAbsent, Condition::IfMatch(version(1 << 32))] {
            let results = race(drivers, |driver, number| {
                let (place, key) = (place.clone(), key.clone());
                async move {
                    let record = record(50 + number as u64, None, format!("racer {number}"));
                    driver.put(&place, &key, record, guard(condition)).await
                }
            })
            .await;
            let winners: Vec<_> =
                results.iter().enumerate().filter(|(_, result)| result.is_ok()).collect();
            let [(winner, Ok(version))] = winners.as_slice() else {
                panic!("{condition:?}: expected one winner, saw {results:?}")
            };
            for result in &results {
                let code = result.as_ref().err().map_or("precondition_failed", StorageError::code);
                assert_eq!(code, "precondition_failed", "{condition:?}: {result:?}");
            }
            let holds = held(driver.as_ref(), &place, &key).await.expect("the winner's record");
            assert_eq!((holds.version, holds.body), (*version, format!("racer {winner}").into()));
            put(driver.as_ref(), &place, &key, record(1 << 32, None, "before")).await;
        }

        let versions = race(drivers, |driver, number| {
            let (place, key) = (place.clone(), key.clone());
            async move {
                let record = record((1 << 33) + number as u64, None, format!("racer {number}"));
                driver.put(&place, &key, record, guard(Condition::Always)).await.expect("put")
            }
        })
        .await;
        let holds = held(driver.as_ref(), &place, &key).await.expect("the last record");
        assert!(versions.contains(&holds.version), "{versions:?} {holds:?}");
        if !BLIND.contains(&drivers.first().expect("a driver").profile().name) {
            let grown = versions.iter().all(|version| *version <= holds.version);
            assert!(grown, "{versions:?} {holds:?}");
        }

        let removed =
            race(drivers, |driver, _| {
                let (place, key) = (place.clone(), key.clone());
                async move {
                    driver.remove(&place, &key, guard(Condition::Always)).await.expect("remove")
                }
            })
            .await;
        assert_eq!(removed.into_iter().filter(|removed| *removed).count(), 1);
        assert_eq!(held(driver.as_ref(), &place, &key).await, None);
    }
}

//! SQLite.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rusqlite::Connection;
use sira_backends::sqlite::{SqliteBackend, SqliteDriver, SqliteOptions};
use sira_store::driver::{Area, Change, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{HealthStatus, Retry, StorageBackend, StorageError, Version};
use tempfile::TempDir;

use crate::support::now_ms;
use crate::{conform, contract, edges, transactions};

async fn open(path: &Path) -> SqliteDriver {
    SqliteDriver::open(SqliteOptions::new(path)).await.expect("open")
}

async fn drivers(folder: &TempDir) -> Vec<Arc<dyn Driver>> {
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
    for _ in 0..4 {
        drivers.push(Arc::new(open(&folder.path().join("db")).await));
    }
    drivers
}

async fn fails(path: &Path) -> StorageError {
    SqliteDriver::open(SqliteOptions::new(path)).await.expect_err("what cannot be opened")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn place() -> Place {
    Place { namespace: "ns".into(), area: Area::Objects }
}

fn record(body: impl Into<bytes::Bytes>) -> Record {
    let body = body.into();
    Record { version: Version::from_u64(1), size: body.len() as u64, body, ..Record::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let folder = folder();
    contract::check(&drivers(&folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let folder = folder();
    let mut handles: Vec<Arc<dyn StorageBackend>> = Vec::new();
    for _ in 0..4 {
        let backend = SqliteBackend::new(folder.path().join("db")).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("sqlite", handles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_edges() {
    let folder = folder();
    let drivers = drivers(&folder).await;
    edges::check(drivers[0].as_ref(), drivers[1].as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_transactions() {
    let folder = folder();
    transactions::check(&drivers(&folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_make_a_database_at_once() {
    for _ in 0..20 {
        let folder = folder();
        let path = folder.path().join("new/folder/db");
        let opening: Vec<_> =
            (0..8).map(|_| tokio::spawn(SqliteDriver::open(SqliteOptions::new(&path)))).collect();
        for opening in opening {
            let driver = opening.await.expect("a task").expect("open");
            assert_eq!(driver.health_check().await, HealthStatus::Healthy);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_opened_again() {
    let folder = folder();
    let path = folder.path().join("db");
    let driver = open(&path).await;
    driver.put(&place(), "k", record("value"), Guard::always(0)).await.expect("put");
    let other = open(&path).await;
    assert!(other.remove(&place(), "k", Guard::always(0)).await.expect("remove"));
    assert_eq!(driver.get(&place(), "k", Part::Whole).await.expect("get"), None);
    driver.put(&place(), "k", record("again"), Guard::always(0)).await.expect("put");
    drop((driver, other));
    let driver = open(&path).await;
    let held = driver.get(&place(), "k", Part::Whole).await.expect("get").expect("a record");
    assert_eq!(held.body, "again");
    let stats = driver.stats().await.expect("stats");
    assert_eq!(stats.keys, 1);
    assert!(stats.used_bytes > 0 && stats.available_bytes.is_some(), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_files_that_it_does_not_know() {
    let folder = folder();
    let path = folder.path().join("db");
    drop(open(&path).await);
    let set = |text: &str| Connection::open(&path).expect("open").execute_batch(text).expect("sql");
    set("PRAGMA user_version = 2");
    let error = fails(&path).await;
    assert_eq!((error.code(), error.retry()), ("unsupported", Retry::Permanent), "{error}");
    set("PRAGMA application_id = 7");
    assert_eq!(fails(&path).await.code(), "invalid_input");

    let foreign = folder.path().join("foreign");
    Connection::open(&foreign).expect("open").execute_batch("CREATE TABLE t (a)").expect("sql");
    let before = std::fs::read(&foreign).expect("read");
    assert_eq!(fails(&foreign).await.code(), "invalid_input");
    assert_eq!(std::fs::read(&foreign).expect("read"), before);

    let text = folder.path().join("text");
    std::fs::write(&text, "no database ".repeat(1000)).expect("write");
    assert_eq!(fails(&text).await.code(), "corrupt");
    assert_eq!(fails(folder.path()).await.code(), "not_found");
    for path in ["", ":memory:", "file:db"] {
        assert_eq!(fails(Path::new(path)).await.code(), "invalid_input", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_is_not_waited_for_without_end() {
    let folder = folder();
    let path = folder.path().join("db");
    let busy_timeout = std::time::Duration::from_millis(50);
    let options = SqliteOptions { busy_timeout, ..SqliteOptions::new(&path) };
    let driver = SqliteDriver::open(options).await.expect("open");
    driver.put(&place(), "k", record("value"), Guard::always(0)).await.expect("put");
    let other = Connection::open(&path).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("begin");
    let put = driver.put(&place(), "k", record("other"), Guard::always(0)).await;
    let error = put.expect_err("a database that is locked");
    assert_eq!((error.code(), error.retry()), ("unavailable", Retry::Temporary), "{error}");
    // Readers go on.
    let held = driver.get(&place(), "k", Part::Whole).await.expect("get").expect("a record");
    assert_eq!(held.body, "value");
    other.execute_batch("ROLLBACK").expect("rollback");
    driver.put(&place(), "k", record("other"), Guard::always(0)).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_wait_together_each_get_their_answer() {
    let folder = folder();
    let driver = Arc::new(open(&folder.path().join("db")).await);
    let tasks: Vec<_> = (0..200_u64)
        .map(|number| {
            let driver = Arc::clone(&driver);
            tokio::spawn(async move {
                let key = format!("{}", number % 50);
                match number % 4 {
                    0 => {
                        let refused = vec![
                            Change::Put {
                                key: format!("never{number}"),
                                record: record("v"),
                                guard: Guard::always(0),
                            },
                            Change::Remove {
                                key: "none".to_owned(),
                                guard: Guard {
                                    condition: sira_store::Condition::IfPresent,
                                    ..Guard::always(0)
                                },
                            },
                        ];
                        let error = driver.commit(&place(), refused).await.expect_err("a guard");
                        assert_eq!(error.index, Some(1));
                    }
                    1 => assert!(
                        !driver.remove(&place(), "none", Guard::always(0)).await.expect("remove")
                    ),
                    _ => {
                        let record =
                            Record { version: Version::from_u64(number), ..record(key.clone()) };
                        driver.put(&place(), &key, record, Guard::always(0)).await.expect("put");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
    let scan = Scan { limit: 1000, ..Scan::default() };
    let listed = driver.scan(&place(), scan).await.expect("scan");
    assert!(listed.iter().all(|listed| !listed.key.starts_with("never")), "{listed:?}");
    let expected = (0..200_u64).filter(|number| number % 4 > 1).map(|number| number % 50);
    let expected: std::collections::BTreeSet<String> =
        expected.map(|number| number.to_string()).collect();
    assert_eq!(
        listed.into_iter().map(|listed| listed.key).collect::<Vec<_>>(),
        Vec::from_iter(expected)
    );
}

/// Names the database in the process that is killed.
const VICTIM: &str = "SIRA_TEST_SQLITE_VICTIM";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_a_killed_process() {
    if let Ok(path) = std::env::var(VICTIM) {
        return write_until_killed(Path::new(&path)).await;
    }
    let folder = folder();
    let path = folder.path().join("db");
    for round in 0..3 {
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "sqlite::what_was_answered_outlives_a_killed_process", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let lines = BufReader::new(victim.stdout.take().expect("its output")).lines();
        let mut answered = Vec::new();
        for line in lines {
            let line = line.expect("a line");
            if let Some(key) = line.strip_prefix("answered ") {
                answered.push(key.to_owned());
            }
            if answered.len() == 100 {
                victim.kill().expect("kill");
            }
        }
        victim.wait().expect("wait");
        assert!(answered.len() >= 100, "{}", answered.len());
        let driver = open(&path).await;
        for key in answered {
            let held = driver.get(&place(), &key, Part::Whole).await.expect("get");
            assert_eq!(held.map(|held| held.body), Some(key.clone().into()), "round {round}");
        }
        let damage: String = Connection::open(&path)
            .expect("open")
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("a check");
        assert_eq!(damage, "ok");
    }
}

async fn write_until_killed(path: &Path) {
    let driver = Arc::new(open(path).await);
    let mut number = now_ms();
    loop {
        let puts: Vec<_> = (0..8)
            .map(|_| {
                number += 1;
                let (driver, key) = (Arc::clone(&driver), number.to_string());
                tokio::spawn(async move {
                    let record = record(key.clone());
                    driver.put(&place(), &key, record, Guard::always(0)).await.expect("put");
                    println!("answered {key}");
                })
            })
            .collect();
        for put in puts {
            put.await.expect("a task");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_read_in_part() {
    let folder = folder();
    let driver = open(&folder.path().join("db")).await;
    let size = driver.profile().body_bytes_max as usize;
    let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    driver.put(&place(), "k", record(body.clone()), Guard::always(0)).await.expect("put");
    for (begin, end) in [(0, size), (size / 2, size / 2 + 1000), (size - 10, size)] {
        let part = driver.get(&place(), "k", Part::Range(begin as u64..end as u64)).await;
        let part = part.expect("get").expect("a record").body;
        assert!(part == body[begin..end], "{begin}..{end}: {} bytes", part.len());
    }
}

//! MySQL and MariaDB.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sira_backends::mysql::{MySqlBackend, MySqlDriver, MySqlOptions};
use sira_store::driver::{Area, Driver, Guard, Part, Place, Record};
use sira_store::{HealthStatus, Retry, StorageBackend, StorageError, Version};

use crate::proxy::Proxy;
use crate::support::{env, now_ms, unique};
use crate::{conform, contract, edges, transactions};

/// A table of one test, dropped at its end.
struct Fixture {
    options: MySqlOptions,
}

impl Fixture {
    fn new() -> Self {
        Self { options: MySqlOptions::new(env("SIRA_TEST_MYSQL_URL"), unique("it")) }
    }

    async fn driver(&self) -> MySqlDriver {
        MySqlDriver::connect(self.options.clone()).await.expect("connect")
    }

    async fn drivers(&self) -> Vec<Arc<dyn Driver>> {
        let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
        for _ in 0..4 {
            drivers.push(Arc::new(self.driver().await));
        }
        drivers
    }

    /// Runs a statement beside the driver.
    async fn sql(&self, text: &str) {
        let mut conn = Conn::from_url(env("SIRA_TEST_MYSQL_URL")).await.expect("connect");
        conn.query_drop(text).await.expect("a statement");
        conn.disconnect().await.expect("disconnect");
    }

    async fn drop(self) {
        self.sql(&format!("DROP TABLE `{}`", self.options.table_name)).await;
    }

    async fn fails(&self, options: MySqlOptions) -> StorageError {
        let error = MySqlDriver::connect(options).await.expect_err("options that cannot work");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        error
    }
}

/// Host and port of the test server, and its database.
fn server() -> (String, String) {
    let url = env("SIRA_TEST_MYSQL_URL");
    let (_, rest) = url.rsplit_once('@').expect("a URL with a password");
    let (server, database) = rest.split_once('/').expect("a URL with a database");
    (server.to_owned(), database.to_owned())
}

fn place() -> Place {
    Place { namespace: "ns".into(), area: Area::Objects }
}

fn record(body: &'static str) -> Record {
    let body = body.into();
    Record { version: Version::from_u64(1), size: 5, body, ..Record::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let fixture = Fixture::new();
    contract::check(&fixture.drivers().await).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let fixture = Fixture::new();
    let mut handles: Vec<Arc<dyn StorageBackend>> = Vec::new();
    for _ in 0..4 {
        let backend = MySqlBackend::connect(fixture.options.clone()).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("mysql", handles).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_edges() {
    let fixture = Fixture::new();
    let drivers = fixture.drivers().await;
    edges::check(drivers[0].as_ref(), drivers[1].as_ref()).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_transactions() {
    let fixture = Fixture::new();
    transactions::check(&fixture.drivers().await).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_make_a_table_at_once() {
    let fixture = Fixture::new();
    let connecting: Vec<_> =
        (0..8).map(|_| tokio::spawn(MySqlDriver::connect(fixture.options.clone()))).collect();
    for connecting in connecting {
        let driver = connecting.await.expect("a task").expect("connect");
        assert_eq!(driver.health_check().await, HealthStatus::Healthy);
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_tables_that_it_does_not_know() {
    let fixture = Fixture::new();
    let driver = fixture.driver().await;
    let table = &fixture.options.table_name;
    fixture.sql(&format!("ALTER TABLE `{table}` COMMENT 'Objects of Sira, layout 2'")).await;
    let error = fixture.fails(fixture.options.clone()).await;
    assert_eq!((error.code(), error.retry()), ("unsupported", Retry::Permanent), "{error}");
    fixture.sql(&format!("ALTER TABLE `{table}` COMMENT ''")).await;
    let error = fixture.fails(fixture.options.clone()).await;
    assert_eq!(error.code(), "invalid_input", "{error}");
    fixture.drop().await;
    let error = driver.get(&place(), "k", Part::Whole).await.expect_err("a table that is gone");
    assert_eq!(error.code(), "not_found", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn says_why_it_cannot_connect() {
    let fixture = Fixture::new();
    let with_url = |url: &str| MySqlOptions { url: url.to_owned(), ..fixture.options.clone() };
    let (server, database) = server();
    let wrong = format!("mysql://sira:s3cret@{server}/{database}");
    let options = with_url(&wrong);
    assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
    let error = fixture.fails(options).await;
    assert_eq!(error.code(), "permission_denied", "{error}");

    for (url, code, retry) in [
        ("mysql://sira:s3cret@127.0.0.1:1/d", "unavailable", Retry::Temporary),
        ("mysql://sira:s3cret@127.0.0.1/d?s3cret", "invalid_input", Retry::Permanent),
        ("postgres://sira:s3cret@127.0.0.1/d", "invalid_input", Retry::Permanent),
    ] {
        let error = fixture.fails(with_url(url)).await;
        assert_eq!((error.code(), error.retry()), (code, retry), "{url}: {error}");
    }
    let nameless = MySqlOptions { table_name: "a`b".to_owned(), ..fixture.options.clone() };
    assert_eq!(fixture.fails(nameless).await.code(), "invalid_input");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_row_is_not_waited_for_without_end() {
    let mut fixture = Fixture::new();
    fixture.options.operation_timeout = Duration::from_secs(2);
    let driver = fixture.driver().await;
    driver.put(&place(), "k", record("value"), Guard::always(0)).await.expect("put");
    let mut conn = Conn::from_url(env("SIRA_TEST_MYSQL_URL")).await.expect("connect");
    conn.query_drop("START TRANSACTION").await.expect("begin");
    let text = format!("SELECT 1 FROM `{}` FOR UPDATE", fixture.options.table_name);
    conn.query_drop(text).await.expect("lock");
    let put = driver.put(&place(), "k", record("other"), Guard::always(0)).await;
    let error = put.expect_err("a row that is locked");
    // The server itself gave up, so nothing was changed.
    assert_eq!((error.code(), error.retry()), ("timeout", Retry::Temporary), "{error}");
    conn.query_drop("ROLLBACK").await.expect("rollback");
    let held = driver.get(&place(), "k", Part::Whole).await.expect("get").expect("a record");
    assert_eq!(held.body, "value");
    conn.disconnect().await.expect("disconnect");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_replaced() {
    let mut fixture = Fixture::new();
    let (server, _) = server();
    let proxy = Proxy::to(server.clone()).await;
    fixture.options.url = fixture.options.url.replace(&server, &proxy.address());
    let driver = Arc::new(fixture.driver().await);
    for round in 0..5 {
        let puts: Vec<_> = (0..8)
            .map(|number| {
                let (driver, key) = (Arc::clone(&driver), format!("{round}/{number}"));
                tokio::spawn(async move {
                    driver.put(&place(), &key, record("value"), Guard::always(now_ms())).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        proxy.cut();
        for put in puts {
            if let Err(error) = put.await.expect("a task") {
                assert_eq!(error.code(), "unavailable", "{error}");
                assert_ne!(error.retry(), Retry::Permanent, "{error}");
            }
        }
    }
    let mut tries = 0;
    while let HealthStatus::Critical(why) = driver.health_check().await {
        tries += 1;
        assert!(tries < 20, "{why}");
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_bodies_fit() {
    let fixture = Fixture::new();
    let driver = fixture.driver().await;
    let size = driver.profile().body_bytes_max as usize;
    let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let large = Record {
        body: body.clone().into(),
        size: size as u64,
        envelope: vec![1; 64 * 1024].into(),
        ..record("")
    };
    driver.put(&place(), &"k".repeat(1024), large, Guard::always(0)).await.expect("put");
    for (begin, end) in [(0, size), (size / 2, size / 2 + 1000), (size - 10, size)] {
        let part = Part::Range(begin as u64..end as u64);
        let part = driver.get(&place(), &"k".repeat(1024), part).await;
        let part = part.expect("get").expect("a record").body;
        assert!(part == body[begin..end], "{begin}..{end}: {} bytes", part.len());
    }
    fixture.drop().await;
}

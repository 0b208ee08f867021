//! PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use sira_backends::postgres::{PostgresBackend, PostgresDriver, PostgresOptions};
use sira_store::driver::{Area, Driver, Guard, Part, Place, Record};
use sira_store::{HealthStatus, Retry, StorageBackend, StorageError, Version};
use tokio_postgres::NoTls;

use crate::support::{env, now_ms, unique};
use crate::{conform, contract, edges, transactions};

/// A table of one test, dropped at its end.
struct Fixture {
    options: PostgresOptions,
}

impl Fixture {
    fn new() -> Self {
        let name = unique("it");
        let url = env("SIRA_TEST_POSTGRES_URL");
        let join = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{join}application_name={name}");
        Self { options: PostgresOptions::new(url, name) }
    }

    async fn driver(&self) -> PostgresDriver {
        PostgresDriver::connect(self.options.clone()).await.expect("connect")
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
        let url = env("SIRA_TEST_POSTGRES_URL");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
        let connection = tokio::spawn(connection);
        client.batch_execute(text).await.expect("a statement");
        drop(client);
        connection.await.expect("a task").expect("a connection");
    }

    /// The number that a query answers.
    async fn number(&self, text: &str) -> i64 {
        let url = env("SIRA_TEST_POSTGRES_URL");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
        let connection = tokio::spawn(connection);
        let number = client.query_one(text, &[]).await.expect("a query").get(0);
        drop(client);
        connection.await.expect("a task").expect("a connection");
        number
    }

    async fn drop(self) {
        self.sql(&format!("DROP TABLE \"{}\"", self.options.table_name)).await;
    }

    async fn fails(&self, options: PostgresOptions) -> StorageError {
        let error = PostgresDriver::connect(options).await.expect_err("options that cannot work");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        error
    }
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
        let backend = PostgresBackend::connect(fixture.options.clone()).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("postgres", handles).await;
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

/// The server keeps the plan of a statement: one that was made for an empty table must do for a large
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_looked_up_each_by_itself() {
    const ROWS: i64 = 20_000;
    let mut fixture = Fixture::new();
    fixture.options.pool_size = 1;
    let driver = fixture.driver().await;
    let table = fixture.options.table_name.clone();
    fixture.sql(&format!("ALTER TABLE \"{table}\" SET (autovacuum_enabled = off)")).await;
    let keys: Vec<String> = (1..=50).map(|number| format!("k{}", number * 300)).collect();
    for _ in 0..8 {
        assert_eq!(driver.get_many(&place(), &keys).await.expect("get_many"), vec![None; 50]);
    }
    fixture
        .sql(&format!(
            "INSERT INTO \"{table}\" (namespace, area, key, version, size, envelope, body) \
             SELECT 'ns', 0, ('k' || number)::bytea, 1, 1, '', 'x' \
             FROM generate_series(1, {ROWS}) AS number"
        ))
        .await;
    let found = driver.get_many(&place(), &keys).await.expect("get_many");
    assert!(found.iter().all(|record| record.as_ref().is_some_and(|record| record.size == 1)));

    // A server tells what its other sessions did once they have ended.
    drop(driver);
    let entries = format!(
        "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes \
         WHERE relname = '{table}'"
    );
    let mut read = 0;
    while read < 50 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        read = fixture.number(&entries).await;
    }
    assert!(read < ROWS / 10, "{read} entries of indexes were read for 50 keys of {ROWS}");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_make_a_table_at_once() {
    let fixture = Fixture::new();
    let connecting: Vec<_> =
        (0..8).map(|_| tokio::spawn(PostgresDriver::connect(fixture.options.clone()))).collect();
    for connecting in connecting {
        let driver = connecting.await.expect("a task").expect("connect");
        assert_eq!(driver.health_check().await, HealthStatus::Healthy);
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_holds_a_table() {
    let mut fixture = Fixture::new();
    let schema = unique("schema");
    fixture.sql(&format!("CREATE SCHEMA \"{schema}\"")).await;
    fixture.options.table_name = format!("{schema}.Objects");
    let driver = fixture.driver().await;
    driver.put(&place(), "k", record("value"), Guard::always(0)).await.expect("put");
    let again = fixture.driver().await;
    assert!(again.get(&place(), "k", Part::Whole).await.expect("get").is_some());
    fixture.sql(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await;
    let error = driver.get(&place(), "k", Part::Whole).await.expect_err("a table that is gone");
    assert_eq!(error.code(), "not_found", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_tables_that_it_does_not_know() {
    let fixture = Fixture::new();
    drop(fixture.driver().await);
    let table = &fixture.options.table_name;
    fixture.sql(&format!("COMMENT ON TABLE \"{table}\" IS 'Objects of Sira, layout 2'")).await;
    let error = fixture.fails(fixture.options.clone()).await;
    assert_eq!((error.code(), error.retry()), ("unsupported", Retry::Permanent), "{error}");
    fixture.sql(&format!("COMMENT ON TABLE \"{table}\" IS 'orders'")).await;
    let error = fixture.fails(fixture.options.clone()).await;
    assert_eq!(error.code(), "invalid_input", "{error}");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_why_it_cannot_connect() {
    let fixture = Fixture::new();
    let with_url = |url: &str| PostgresOptions { url: url.to_owned(), ..fixture.options.clone() };
    let url = env("SIRA_TEST_POSTGRES_URL");
    let (_, host) = url.rsplit_once('@').expect("a URL with a password");
    let wrong = format!("postgres://sira:s3cret@{host}");
    let options = with_url(&wrong);
    assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
    let error = fixture.fails(options).await;
    assert_eq!(error.code(), "permission_denied", "{error}");

    for (url, code, retry) in [
        ("postgres://sira:s3cret@127.0.0.1:1/d", "unavailable", Retry::Temporary),
        ("postgres://sira:s3cret@no-such-host.invalid/d", "unavailable", Retry::Temporary),
        ("postgres://sira:s3cret@127.0.0.1/d?s3cret", "invalid_input", Retry::Permanent),
        ("mysql://sira:s3cret@127.0.0.1/d", "invalid_input", Retry::Permanent),
    ] {
        let error = fixture.fails(with_url(url)).await;
        assert_eq!((error.code(), error.retry()), (code, retry), "{url}: {error}");
    }
    let nameless = PostgresOptions { table_name: "a b".to_owned(), ..fixture.options.clone() };
    assert_eq!(fixture.fails(nameless).await.code(), "invalid_input");
    let no_file = PostgresOptions { ca_file: Some("/no/such/file".into()), ..with_url(&wrong) };
    assert_eq!(fixture.fails(no_file).await.code(), "invalid_input");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_not_waited_for_without_end() {
    let mut fixture = Fixture::new();
    fixture.options.operation_timeout = Duration::from_millis(300);
    fixture.options.connect_timeout = Duration::from_millis(300);
    fixture.options.pool_size = 1;
    let driver = Arc::new(fixture.driver().await);
    driver.put(&place(), "k", record("value"), Guard::always(0)).await.expect("put");

    let url = env("SIRA_TEST_POSTGRES_URL");
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    let lock = client.transaction().await.expect("begin");
    let text = format!("LOCK TABLE \"{}\"", fixture.options.table_name);
    lock.batch_execute(&text).await.expect("lock");
    let waiting = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.put(&place(), "k", record("other"), Guard::always(0)).await }
    });
    let error = waiting.await.expect("a task").expect_err("a table that is locked");
    // The server itself gave up, so nothing was changed.
    assert_eq!((error.code(), error.retry()), ("timeout", Retry::Temporary), "{error}");
    lock.rollback().await.expect("rollback");
    let held = driver.get(&place(), "k", Part::Whole).await.expect("get").expect("a record");
    assert_eq!(held.body, "value");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_replaced() {
    let fixture = Fixture::new();
    let driver = Arc::new(fixture.driver().await);
    let name = &fixture.options.table_name;
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
    );
    for round in 0..5 {
        let puts: Vec<_> = (0..8)
            .map(|number| {
                let (driver, key) = (Arc::clone(&driver), format!("{round}/{number}"));
                tokio::spawn(async move {
                    driver.put(&place(), &key, record("value"), Guard::always(now_ms())).await
                })
            })
            .collect();
        fixture.sql(&terminate).await;
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
async fn large_bodies_are_read_in_part() {
    let fixture = Fixture::new();
    let driver = fixture.driver().await;
    let body: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let large = Record { body: body.clone().into(), size: body.len() as u64, ..record("") };
    driver.put(&place(), "k", large, Guard::always(0)).await.expect("put");
    for (begin, end) in [(0, 10), (12_345_678, 12_399_999), (19_999_990, 20_000_000)] {
        let part = driver.get(&place(), "k", Part::Range(begin as u64..end as u64)).await;
        let part = part.expect("get").expect("a record").body;
        assert!(part == body[begin..end], "{begin}..{end}: {} bytes", part.len());
    }
    let stats = driver.stats().await.expect("stats");
    assert!(stats.used_bytes > 20_000_000, "{stats:?}");
    fixture.drop().await;
}

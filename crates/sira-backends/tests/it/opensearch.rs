//! OpenSearch.

use std::sync::Arc;
use std::time::Duration;

use sira_backends::opensearch::{OpenSearchBackend, OpenSearchDriver, OpenSearchOptions};
use sira_store::driver::{Area, Change, Driver, Guard, Part, Place, Record};
use sira_store::{Condition, HealthStatus, Retry, StorageBackend, Version};

use crate::conform;
use crate::contract;
use crate::support::{env, now_ms, unique};

/// An index of one test, dropped at its end.
struct Fixture {
    options: OpenSearchOptions,
}

impl Fixture {
    fn new() -> Self {
        let mut options = OpenSearchOptions::new(env("SIRA_TEST_OPENSEARCH_URL"));
        options.index = unique("sira");
        Self { options }
    }

    async fn driver(&self) -> OpenSearchDriver {
        OpenSearchDriver::connect(self.options.clone()).await.expect("connect")
    }

    fn address(&self) -> String {
        format!("{}/{}-1", self.options.url, self.options.index)
    }

    async fn drop(self) {
        let dropped = reqwest::Client::new().delete(self.address()).send().await.expect("drop");
        assert!(dropped.status().is_success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let fixture = Fixture::new();
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
    for _ in 0..4 {
        drivers.push(Arc::new(fixture.driver().await));
    }
    contract::check(&drivers).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let fixture = Fixture::new();
    let mut handles: Vec<Arc<dyn StorageBackend>> = Vec::new();
    for _ in 0..4 {
        let backend = OpenSearchBackend::connect(fixture.options.clone()).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("opensearch", handles).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_set_an_index_up_at_once() {
    let fixture = Fixture::new();
    let connecting: Vec<_> =
        (0..8).map(|_| tokio::spawn(OpenSearchDriver::connect(fixture.options.clone()))).collect();
    for connecting in connecting {
        let driver = connecting.await.expect("a task").expect("connect");
        // The engine may not have seen yet that a single node needs no replicas.
        let health = driver.health_check().await;
        assert!(!matches!(health, HealthStatus::Critical(_)), "{health:?}");
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_newer_layout_and_what_is_not_its_own() {
    let fixture = Fixture::new();
    for (mappings, code) in [
        (r#"{"_meta":{"sira_layout":2}}"#, "unsupported"),
        (r#"{"properties":{"title":{"type":"text"}}}"#, "invalid_input"),
    ] {
        let alias = &fixture.options.index;
        let body = format!(r#"{{"aliases":{{"{alias}":{{}}}},"mappings":{mappings}}}"#);
        let made = reqwest::Client::new()
            .put(fixture.address())
            .header("content-type", "application/json")
            .body(body);
        assert!(made.send().await.expect("create").status().is_success());
        let error = OpenSearchDriver::connect(fixture.options.clone()).await.expect_err("refused");
        assert_eq!(error.code(), code);
        let options = fixture.options.clone();
        Fixture { options }.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_what_has_expired() {
    let fixture = Fixture::new();
    let driver = fixture.driver().await;
    let place = Place { namespace: "n".into(), area: Area::Objects };
    let now_ms = now_ms();
    for (key, expires_at_ms) in [("over", Some(now_ms - 1)), ("later", Some(now_ms + 99_999))] {
        let record = Record { version: Version::from_u64(1), expires_at_ms, ..Record::default() };
        driver.put(&place, key, record, Guard::always(now_ms)).await.expect("put");
    }
    let record = Record { version: Version::from_u64(1), ..Record::default() };
    driver.put(&place, "ever", record, Guard::always(now_ms)).await.expect("put");
    assert_eq!(driver.collect_expired(now_ms, 10).await.expect("collect"), 1);
    assert_eq!(driver.collect_expired(now_ms, 10).await.expect("collect"), 0);
    for (key, there) in [("over", false), ("later", true), ("ever", true)] {
        let found = driver.get(&place, key, Part::Whole).await.expect("get");
        assert_eq!(found.is_some(), there, "{key}");
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_is_an_error_and_not_an_absent_key() {
    let fixture = Fixture::new();
    let driver = fixture.driver().await;
    fixture.drop().await;
    let place = Place { namespace: "n".into(), area: Area::Objects };
    let error = driver.get(&place, "k", Part::Whole).await.expect_err("no index");
    assert_eq!(error.code(), "not_found");
    for condition in [Condition::Always, Condition::IfAbsent, Condition::IfPresent] {
        let guard = Guard { condition, exact: false, now_ms: now_ms() };
        let record = Record { version: Version::from_u64(1), ..Record::default() };
        let error = driver.put(&place, "k", record.clone(), guard).await.expect_err("no index");
        assert_eq!(error.code(), "not_found");
        let put = Change::Put { key: "k".to_owned(), record, guard };
        let error = driver.apply_many(&place, vec![put]).await.remove(0).expect_err("no index");
        assert_eq!(error.code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_unavailable_and_names_no_password() {
    let mut options = OpenSearchOptions::new("http://someone:s3cret@127.0.0.1:1");
    options.connect_timeout = Duration::from_millis(500);
    assert!(!format!("{options:?}").contains("s3cret"));
    let error = OpenSearchDriver::connect(options).await.expect_err("no server");
    assert_eq!((error.code(), error.retry()), ("unavailable", Retry::Temporary));
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

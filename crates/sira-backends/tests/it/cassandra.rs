//! Cassandra.

use std::sync::Arc;
use std::time::Duration;

use ::scylla::client::session::Session;
use ::scylla::client::session_builder::SessionBuilder;
use sira_backends::cassandra::{CassandraBackend, CassandraDriver, CassandraOptions};
use sira_store::driver::{Area, Driver, Guard, Part, Place, Record, Scan};
use sira_store::{HealthStatus, Retry, StorageBackend, Version};

use crate::conform;
use crate::contract;
use crate::support::{env, now_ms, unique};

/// A keyspace of one test, dropped at its end.
struct Fixture {
    options: CassandraOptions,
}

impl Fixture {
    fn new() -> Self {
        let nodes = env("SIRA_TEST_CASSANDRA_NODES");
        let mut options = CassandraOptions::new(nodes.split(','));
        options.keyspace = unique("sira");
        options.buckets = 16;
        Self { options }
    }

    async fn driver(&self) -> CassandraDriver {
        CassandraDriver::connect(self.options.clone()).await.expect("connect")
    }

    async fn session(&self) -> Session {
        let session = SessionBuilder::new().known_nodes(&self.options.nodes);
        session.build().await.expect("connect")
    }

    async fn drop(self) {
        let drop = format!("DROP KEYSPACE {}", self.options.keyspace);
        self.session().await.query_unpaged(drop, ()).await.expect("drop");
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
        let backend = CassandraBackend::connect(fixture.options.clone()).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("cassandra", handles).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_set_a_table_up_at_once_and_keep_its_buckets() {
    let fixture = Fixture::new();
    let connecting: Vec<_> = (1..=6)
        .map(|buckets| CassandraOptions { buckets, ..fixture.options.clone() })
        .map(|options| tokio::spawn(CassandraDriver::connect(options)))
        .collect();
    let place = Place { namespace: "n".into(), area: Area::Objects };
    let mut drivers = Vec::new();
    for connecting in connecting {
        drivers.push(connecting.await.expect("a task").expect("connect"));
    }
    for (number, driver) in drivers.iter().enumerate() {
        assert_eq!(driver.health_check().await, HealthStatus::Healthy);
        let version = Version::from_u64(1 + number as u64);
        let record = Record { version, ..Record::default() };
        let guard = Guard::always(now_ms());
        driver.put(&place, &format!("k{number}"), record, guard).await.expect("put");
    }
    for driver in &drivers {
        for number in 0..drivers.len() {
            let held = driver.get(&place, &format!("k{number}"), Part::Head).await.expect("get");
            assert_eq!(held.expect("a record").version.as_u64(), 1 + number as u64);
        }
        let scan = Scan { limit: 100, ..Scan::default() };
        assert_eq!(driver.scan(&place, scan).await.expect("scan").len(), drivers.len());
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_newer_layout() {
    let fixture = Fixture::new();
    fixture.driver().await;
    let newer = format!(
        "UPDATE {}.objects_layout SET layout = 2 WHERE id = 'objects' IF EXISTS",
        fixture.options.keyspace
    );
    fixture.session().await.query_unpaged(newer, ()).await.expect("update");
    let error = CassandraDriver::connect(fixture.options.clone()).await.expect_err("newer");
    assert_eq!(error.code(), "unsupported");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_unavailable_and_names_no_password() {
    let mut options = CassandraOptions::new(["127.0.0.1:1"]);
    options.connect_timeout = Duration::from_millis(500);
    options.user = Some("someone".to_owned());
    options.password = Some("s3cret".to_owned());
    assert!(!format!("{options:?}").contains("s3cret"));
    let error = CassandraDriver::connect(options.clone()).await.expect_err("no node");
    assert!(matches!(error.code(), "unavailable" | "timeout"), "{error:?}");
    assert_eq!(error.retry(), Retry::Temporary);
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");

    for keyspace in ["", "Upper", "a;b", "9", "a\"b"] {
        let options = CassandraOptions { keyspace: keyspace.to_owned(), ..options.clone() };
        let error = CassandraDriver::connect(options).await.expect_err("a bad name");
        assert_eq!(error.code(), "invalid_input");
    }
    let error = CassandraDriver::connect(CassandraOptions { buckets: 0, ..options }).await;
    assert_eq!(error.expect_err("no buckets").code(), "invalid_input");
}

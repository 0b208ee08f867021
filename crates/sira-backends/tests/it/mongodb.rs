//! MongoDB.

use std::sync::Arc;
use std::time::Duration;

use ::mongodb::Client;
use ::mongodb::bson::doc;
use sira_backends::mongodb::{MongoBackend, MongoDriver, MongoOptions};
use sira_store::driver::Driver;
use sira_store::{HealthStatus, Retry, StorageBackend};

use crate::conform;
use crate::contract;
use crate::support::{env, unique};

/// A collection of one test, dropped at its end.
struct Fixture {
    options: MongoOptions,
}

impl Fixture {
    fn new() -> Self {
        let mut options = MongoOptions::new(env("SIRA_TEST_MONGODB_URL"));
        options.collection = unique("sira");
        Self { options }
    }

    async fn driver(&self) -> MongoDriver {
        MongoDriver::connect(self.options.clone()).await.expect("connect")
    }

    async fn drop(self) {
        let client = Client::with_uri_str(&self.options.url).await.expect("connect");
        client
            .database("sira")
            .collection::<::mongodb::bson::Document>(&self.options.collection)
            .drop()
            .await
            .expect("drop");
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
        let backend = MongoBackend::connect(fixture.options.clone()).await.expect("connect");
        handles.push(Arc::new(backend));
    }
    conform::conforms("mongodb", handles).await;
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_set_a_collection_up_at_once() {
    let fixture = Fixture::new();
    let connecting: Vec<_> =
        (0..8).map(|_| tokio::spawn(MongoDriver::connect(fixture.options.clone()))).collect();
    for connecting in connecting {
        let driver = connecting.await.expect("a task").expect("connect");
        assert_eq!(driver.health_check().await, HealthStatus::Healthy);
    }
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_newer_layout() {
    let fixture = Fixture::new();
    let client = Client::with_uri_str(&fixture.options.url).await.expect("connect");
    client
        .database("sira")
        .collection(&fixture.options.collection)
        .insert_one(doc! { "_id": "!sira", "schema": 2_i64 })
        .await
        .expect("insert");
    let error = MongoDriver::connect(fixture.options.clone()).await.expect_err("a newer layout");
    assert_eq!(error.code(), "unsupported");
    fixture.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_unavailable_and_names_no_password() {
    let mut options = MongoOptions::new("mongodb://someone:s3cret@127.0.0.1:1/sira");
    options.connect_timeout = Duration::from_millis(200);
    assert!(!format!("{options:?}").contains("s3cret"));
    let error = MongoDriver::connect(options).await.expect_err("no server");
    assert_eq!((error.code(), error.retry()), ("unavailable", Retry::Temporary));
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");

    let options = MongoOptions::new("mongodb://someone:s3cret@:99999999/sira");
    let error = MongoDriver::connect(options).await.expect_err("no address");
    assert_eq!(error.code(), "invalid_input");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

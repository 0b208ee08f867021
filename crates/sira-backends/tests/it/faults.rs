//! Layers before every other engine behind a network, over connections that toxiproxy makes worse.
//!
//! Cassandra's client stays with the address of the one node that there is, etcd's with the one
//! member that it is given. A cluster of Redis tells its client the addresses of its nodes, which no
//! proxy stands before: there is none here.

use std::sync::Arc;

use sira_backends::config::{BackendConfig, BackendKind, open};
use sira_store::env::{Env, SystemEnv};
use sira_store::layers::Layers;
use sira_store::{StorageBackend, StorageBackendExt};
use tempfile::TempDir;

use crate::layers::{breaks_and_heals, check_kind, ms, survives, timeouts};
use crate::support::{env, unique};
use crate::toxiproxy::{Proxy, host_of};

/// Appends of each writer.
const APPENDS: u32 = 4;

/// Reads while nothing comes back.
const READS: usize = 20;

async fn connect(kind: BackendKind, settings: &str) -> Arc<dyn StorageBackend> {
    let text = format!("connect_timeout = \"1s\"\noperation_timeout = \"1500ms\"\n{settings}");
    let table: toml::Table = text.parse().unwrap();
    let config = BackendConfig::read(kind, toml::Value::Table(table)).unwrap();
    open("tested", &config).await.unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// Proves the layers before the engine at `server`, which is `host:port`; `settings` are its own
/// for such an address.
async fn proves(kind: BackendKind, server: &str, settings: &dyn Fn(&str) -> String) {
    let proxy = Arc::new(Proxy::to(server));
    let straight = connect(kind, &settings(server)).await;
    let spoiled = connect(kind, &settings(&proxy.through(server))).await;
    straight.put_bytes("key", "value").await.unwrap();
    assert_eq!(spoiled.get("key").await.unwrap().as_deref(), Some(&b"value"[..]));
    is_bounded(Arc::clone(&spoiled), &proxy).await;
    breaks_and_heals(Arc::clone(&spoiled), &proxy).await;
    survives(Arc::clone(&straight), spoiled, proxy, APPENDS).await;
    for key in ["key", "large", "list"] {
        straight.delete(key).await.unwrap();
    }
}

/// Reads end in bounded time while nothing comes back from the engine, each of them.
async fn is_bounded(engine: Arc<dyn StorageBackend>, proxy: &Proxy) {
    let (bound, never) = (ms(300), ms(5_000));
    let store = Layers::new(engine).timeout(timeouts(bound)).assemble().backend;
    tokio::task::block_in_place(|| proxy.poison("timeout", 1.0, r#""timeout":0"#));
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..READS {
        let store = Arc::clone(&store);
        reads.spawn(async move {
            let begun = SystemEnv.monotonic();
            check_kind(&store.get("key").await.unwrap_err());
            SystemEnv.monotonic() - begun
        });
    }
    let slowest = reads.join_all().await.into_iter().max().unwrap();
    assert!(slowest < never, "{slowest:?}");
    tokio::task::block_in_place(|| proxy.cure("timeout"));
    // Connections that were waited for in vain go, and others come.
    while store.get("key").await.is_err() {
        tokio::time::sleep(ms(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    let (url, table) = (env("SIRA_TEST_MYSQL_URL"), unique("sira"));
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "sira").unwrap();
    proves(BackendKind::MySql, host_of(&url), &|address| {
        format!(
            "url = \"mysql://sira@{address}/sira\"\npassword_file = {password:?}\n\
             table = {table:?}\npool_size = 8"
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb() {
    let (url, collection) = (env("SIRA_TEST_MONGODB_URL"), unique("sira"));
    proves(BackendKind::MongoDb, host_of(&url), &|address| {
        format!(
            "url = \"mongodb://{address}/sira?directConnection=true\"\n\
             collection = {collection:?}\npool_size = 8"
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cassandra() {
    let (nodes, table) = (env("SIRA_TEST_CASSANDRA_NODES"), unique("sira"));
    proves(BackendKind::Cassandra, &nodes, &|address| {
        format!(
            "nodes = [{address:?}]\nkeyspace = \"sira_faults\"\ntable = {table:?}\nbuckets = 4\n\
             replicas = {{ datacenter1 = 1 }}\npool_size = 2"
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opensearch() {
    let (url, index) = (env("SIRA_TEST_OPENSEARCH_URL"), unique("sira"));
    proves(BackendKind::OpenSearch, host_of(&url), &|address| {
        format!("url = \"http://{address}\"\nindex = {index:?}")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd() {
    let (urls, prefix) = (env("SIRA_TEST_ETCD_URLS"), unique("sira"));
    let server = host_of(urls.split(',').next().unwrap());
    proves(BackendKind::Etcd, server, &|address| {
        format!("endpoints = [{address:?}]\nprefix = \"{prefix}/\"")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let (endpoint, prefix) = (env("SIRA_TEST_S3_ENDPOINT"), unique("sira"));
    proves(BackendKind::S3, host_of(&endpoint), &|address| {
        format!(
            "endpoint = \"http://{address}\"\nbucket = {:?}\nregion = {:?}\n\
             access_key_id_env = \"SIRA_TEST_S3_ACCESS_KEY_ID\"\n\
             secret_access_key_env = \"SIRA_TEST_S3_SECRET_ACCESS_KEY\"\nprefix = {prefix:?}",
            env("SIRA_TEST_S3_BUCKET"),
            env("SIRA_TEST_S3_REGION")
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_blob() {
    let (endpoint, prefix) = (env("SIRA_TEST_AZURE_ENDPOINT"), unique("sira"));
    proves(BackendKind::AzureBlob, host_of(&endpoint), &|address| {
        format!(
            "endpoint = {:?}\ncontainer = {:?}\naccount = {:?}\n\
             account_key_env = \"SIRA_TEST_AZURE_ACCOUNT_KEY\"\nprefix = {prefix:?}",
            endpoint.replacen(host_of(&endpoint), address, 1),
            env("SIRA_TEST_AZURE_CONTAINER"),
            env("SIRA_TEST_AZURE_ACCOUNT")
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs() {
    let (endpoint, prefix) = (env("SIRA_TEST_GCS_ENDPOINT"), unique("sira"));
    proves(BackendKind::Gcs, host_of(&endpoint), &|address| {
        format!(
            "endpoint = \"http://{address}\"\nbucket = {:?}\nanonymous = true\n\
             prefix = {prefix:?}",
            env("SIRA_TEST_GCS_BUCKET")
        )
    })
    .await;
}

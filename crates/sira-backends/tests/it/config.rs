//! Engines that are opened from the text of a configuration file.

use std::sync::Arc;

use sira_backends::config::{BackendConfig, BackendKind, open};
use sira_store::{StorageBackend, StorageOptions};

#[cfg(feature = "all")]
use crate::support::env;
use crate::support::unique;

fn config(kind: BackendKind, text: &str) -> BackendConfig {
    let table: toml::Table = text.parse().unwrap();
    BackendConfig::read(kind, toml::Value::Table(table)).unwrap_or_else(|e| panic!("{kind}: {e}"))
}

/// Opens the engine, and stores and reads an object with it.
async fn opens(kind: BackendKind, text: &str) {
    let config = config(kind, text);
    let backend: Arc<dyn StorageBackend> =
        open("tested", &config).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    let (key, value) = (unique("config"), unique("value"));
    let put = backend.put(&key, value.clone().into(), StorageOptions::default()).await;
    put.unwrap_or_else(|e| panic!("{kind}: {e}"));
    let got = backend.get(&key).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    assert_eq!(got.as_deref(), Some(value.as_bytes()), "{kind}");
    assert!(backend.delete(&key).await.unwrap(), "{kind}");
}

/// Host, port and what follows of a URL `scheme://[user[:password]@]host:port/rest`.
fn parts(url: &str) -> (Option<String>, String, u16, String) {
    let (_, rest) = url.split_once("://").unwrap();
    let (login, rest) = match rest.split_once('@') {
        Some((login, rest)) => (Some(login.to_owned()), rest),
        None => (None, rest),
    };
    let (place, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = place.split_once(':').unwrap();
    let rest = rest.split('?').next().unwrap_or_default();
    (login, host.to_owned(), port.parse().unwrap(), rest.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_files() {
    let folder = tempfile::tempdir().unwrap();
    opens(BackendKind::Memory, "max_size = \"1MiB\"").await;
    let path = folder.path().join("files");
    opens(BackendKind::Filesystem, &format!("path = {path:?}\nsync = false")).await;
    assert!(path.is_dir());
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn local_engines() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| format!("path = {:?}\ncache_size = \"8MiB\"", folder.path().join(name));
    opens(BackendKind::Sqlite, &text("sqlite.db")).await;
    opens(BackendKind::Sled, &text("sled")).await;
    #[cfg(feature = "rocksdb")]
    opens(BackendKind::RocksDb, &(text("rocksdb") + "\ncompression = \"zstd\"")).await;
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_and_its_cluster() {
    let (_, host, port, _) = parts(&env("SIRA_TEST_REDIS_URL"));
    let prefix = unique("config");
    let text = format!("host = {host:?}\nport = {port}\nprefix = {prefix:?}\npool_size = 2");
    opens(BackendKind::Redis, &text).await;
    let nodes = env("SIRA_TEST_REDIS_CLUSTER_URLS");
    let nodes: Vec<_> = nodes.split(',').map(|url| url.split_once("://").unwrap().1).collect();
    // Several nodes are a cluster.
    opens(BackendKind::Redis, &format!("nodes = {nodes:?}\nprefix = {prefix:?}")).await;
    opens(BackendKind::RedisCluster, &format!("nodes = {nodes:?}\nprefix = {prefix:?}")).await;
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn sql_servers() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [
        (BackendKind::Postgres, env("SIRA_TEST_POSTGRES_URL")),
        (BackendKind::MySql, env("SIRA_TEST_MYSQL_URL")),
    ];
    for (kind, url) in servers {
        let (login, host, port, database) = parts(&url);
        let login = login.unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let secret = folder.path().join(kind.name());
        std::fs::write(&secret, format!("{password}\n")).unwrap();
        let text = format!(
            "host = {host:?}\nport = {port}\ndatabase = {database:?}\nuser = {user:?}\n\
             password_file = {secret:?}\noperation_timeout = \"20s\"\npool_size = 2\n\
             table_name = \"sira_config\""
        );
        opens(kind, &text).await;
        // Without the password, or with another one, nobody gets in, and it is not told.
        std::fs::write(&secret, "hunter2\n").unwrap();
        let error = open("tested", &config(kind, &text)).await.unwrap_err();
        assert_eq!(error.code(), "permission_denied", "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn document_and_wide_column_stores() {
    let url = env("SIRA_TEST_MONGODB_URL");
    let text = format!("url = {url:?}\ncollection = \"sira_config\"\nmax_connections = 4");
    opens(BackendKind::MongoDb, &text).await;
    let nodes = env("SIRA_TEST_CASSANDRA_NODES");
    let nodes: Vec<_> = nodes.split(',').collect();
    let text = format!(
        "nodes = {nodes:?}\nconsistency = \"quorum\"\nreplicas = {{ datacenter1 = 1 }}\n\
         keyspace = \"sira_config\""
    );
    opens(BackendKind::Cassandra, &text).await;
    let (_, host, port, _) = parts(&env("SIRA_TEST_OPENSEARCH_URL"));
    opens(BackendKind::OpenSearch, &format!("host = {host:?}\nport = {port}")).await;
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn etcd() {
    let endpoints = env("SIRA_TEST_ETCD_URLS");
    let endpoints: Vec<_> = endpoints.split(',').collect();
    opens(BackendKind::Etcd, &format!("endpoints = {endpoints:?}\nprefix = \"config/\"")).await;
}

#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread")]
async fn object_stores() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |variable: &str| {
        let path = folder.path().join(variable);
        std::fs::write(&path, env(variable)).unwrap();
        path
    };
    for (kind, name) in [(BackendKind::S3, "S3"), (BackendKind::Minio, "MINIO")] {
        let of = |what: &str| format!("SIRA_TEST_{name}_{what}");
        let text = format!(
            "endpoint = {:?}\nbucket = {:?}\nregion = {:?}\naccess_key_id_env = {:?}\n\
             secret_access_key_file = {:?}\nprefix = \"config\"\nmax_object_size = \"8MiB\"",
            env(&of("ENDPOINT")),
            env(&of("BUCKET")),
            env(&of("REGION")),
            of("ACCESS_KEY_ID"),
            secret(&of("SECRET_ACCESS_KEY")),
        );
        opens(kind, &text).await;
    }
    let text = format!(
        "endpoint = {:?}\ncontainer = {:?}\naccount = {:?}\naccount_key_env = \
         \"SIRA_TEST_AZURE_ACCOUNT_KEY\"\nprefix = \"config\"",
        env("SIRA_TEST_AZURE_ENDPOINT"),
        env("SIRA_TEST_AZURE_CONTAINER"),
        env("SIRA_TEST_AZURE_ACCOUNT"),
    );
    opens(BackendKind::AzureBlob, &text).await;
    let text = format!(
        "endpoint = {:?}\nbucket = {:?}\nanonymous = true\nprefix = \"config\"",
        env("SIRA_TEST_GCS_ENDPOINT"),
        env("SIRA_TEST_GCS_BUCKET"),
    );
    opens(BackendKind::Gcs, &text).await;
}

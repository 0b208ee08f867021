//! The table of `docs/backends.md` says what the backends declare. `SIRA_WRITE_DOCS=1` writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sira_backends::cassandra::{CassandraBackend, CassandraOptions};
use sira_backends::etcd::EtcdBackend;
use sira_backends::mongodb::{MongoBackend, MongoOptions};
use sira_backends::mysql::{MySqlBackend, MySqlOptions};
use sira_backends::object_store::{
    AzureBlobBackend, AzureBlobOptions, GcsBackend, GcsCredential, GcsOptions, MinioBackend,
    S3Backend, S3Options,
};
use sira_backends::opensearch::{OpenSearchBackend, OpenSearchOptions};
use sira_backends::postgres::{PostgresBackend, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_backends::sled::SledBackend;
use sira_backends::sqlite::SqliteBackend;
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::filesystem::FilesystemBackend;
use sira_store::{Capabilities, MemoryBackend, StorageBackend};

use crate::support::{env, unique};

const BEGIN: &str = "<!-- capabilities:begin -->\n";
const END: &str = "<!-- capabilities:end -->";

/// Name, feature, what it is tested against, and the backend.
type Row = (&'static str, &'static str, &'static str, Arc<dyn StorageBackend>);

fn s3(prefix: &str, endpoint: &str) -> S3Options {
    let of = |name: &str| env(&format!("SIRA_TEST_{prefix}_{name}"));
    let mut options = S3Options::new(of("BUCKET"), of("REGION"));
    options.endpoint = Some(env(endpoint));
    options.access_key_id = Some(of("ACCESS_KEY_ID"));
    options.secret_access_key = Some(of("SECRET_ACCESS_KEY"));
    options.common.prefix = unique("docs");
    options
}

async fn rows(folder: &Path) -> Vec<Row> {
    let name = unique("docs");
    let engine = Engine::open(&folder.join("embedded"), EngineOptions::default()).unwrap();
    let mut rows: Vec<Row> = vec![
        ("Embedded", "", "itself", Arc::new(EmbeddedBackend::new(engine))),
        ("Memory", "", "itself", Arc::new(MemoryBackend::new(1 << 30))),
    ];
    let filesystem = FilesystemBackend::new(folder.join("files")).unwrap();
    rows.push(("Filesystem", "", "ext4", Arc::new(filesystem)));

    let redis = RedisBackend::new(env("SIRA_TEST_REDIS_URL"), format!("{name}:")).await.unwrap();
    rows.push(("Redis", "redis", "Redis 7.0.15", Arc::new(redis)));
    let urls = env("SIRA_TEST_REDIS_CLUSTER_URLS");
    let cluster = RedisOptions::cluster(urls.split(','), format!("{name}:"));
    let cluster = RedisBackend::connect(cluster).await.unwrap();
    rows.push(("Redis Cluster", "redis", "Redis 7.0.15, six nodes", Arc::new(cluster)));
    let postgres = PostgresOptions::new(env("SIRA_TEST_POSTGRES_URL"), name.clone());
    let postgres = PostgresBackend::connect(postgres).await.unwrap();
    rows.push(("PostgreSQL", "postgres", "PostgreSQL 15", Arc::new(postgres)));
    let mysql = MySqlOptions::new(env("SIRA_TEST_MYSQL_URL"), name.clone());
    let mysql = MySqlBackend::connect(mysql).await.unwrap();
    rows.push(("MySQL, MariaDB", "mysql", "MariaDB 10.11", Arc::new(mysql)));
    let sqlite = SqliteBackend::new(folder.join("sqlite.db")).await.unwrap();
    rows.push(("SQLite", "sqlite", "the library that is built in", Arc::new(sqlite)));
    let sled = SledBackend::new(folder.join("sled")).await.unwrap();
    rows.push(("sled", "sled", "sled 0.34", Arc::new(sled)));
    let mut mongo = MongoOptions::new(env("SIRA_TEST_MONGODB_URL"));
    mongo.collection = name.clone();
    let mongo = MongoBackend::connect(mongo).await.unwrap();
    rows.push(("MongoDB", "mongodb", "mongo-java-server 1.47", Arc::new(mongo)));
    let nodes = env("SIRA_TEST_CASSANDRA_NODES");
    let mut cassandra = CassandraOptions::new(nodes.split(','));
    cassandra.keyspace = name.clone();
    let cassandra = CassandraBackend::connect(cassandra).await.unwrap();
    rows.push(("Cassandra, ScyllaDB", "cassandra", "Cassandra 5.0", Arc::new(cassandra)));
    let mut opensearch = OpenSearchOptions::new(env("SIRA_TEST_OPENSEARCH_URL"));
    opensearch.index = name.clone();
    let opensearch = OpenSearchBackend::connect(opensearch).await.unwrap();
    let tested = "OpenSearch 2.19";
    rows.push(("OpenSearch, Elasticsearch", "opensearch", tested, Arc::new(opensearch)));
    let versitygw = S3Backend::new(s3("S3", "SIRA_TEST_S3_ENDPOINT")).await.unwrap();
    rows.push(("S3", "object-store", "versitygw 1.8", Arc::new(versitygw)));
    let minio = MinioBackend::new(s3("MINIO", "SIRA_TEST_MINIO_ENDPOINT")).await.unwrap();
    rows.push(("MinIO", "object-store", "MinIO 2026-02", Arc::new(minio)));
    let of = |name: &str| env(&format!("SIRA_TEST_AZURE_{name}"));
    let mut azure = AzureBlobOptions::new(of("ACCOUNT"), of("CONTAINER"));
    azure.endpoint = Some(of("ENDPOINT"));
    azure.account_key = Some(of("ACCOUNT_KEY"));
    azure.common.prefix = name.clone();
    let azure = AzureBlobBackend::new(azure).await.unwrap();
    rows.push(("Azure Blob", "object-store", "Azurite 3.35", Arc::new(azure)));
    let mut gcs =
        GcsOptions::new(env("SIRA_TEST_GCS_BUCKET")).with_credential(GcsCredential::Anonymous);
    gcs.endpoint = Some(env("SIRA_TEST_GCS_ENDPOINT"));
    gcs.common.prefix = name.clone();
    let gcs = GcsBackend::new(gcs).await.unwrap();
    rows.push(("Google Cloud Storage", "object-store", "fake-gcs-server 1.56", Arc::new(gcs)));
    let endpoints = env("SIRA_TEST_ETCD_URLS");
    let etcd = EtcdBackend::new(endpoints.split(','), format!("{name}/")).await.unwrap();
    rows.push(("etcd", "etcd", "etcd 3.6, three nodes", Arc::new(etcd)));
    rows
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| engine | feature | conditions | lists | sizes in lists | ranges | atomic batches | \
         largest value | tested against |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, feature, tested, backend) in rows {
        let Capabilities {
            conditional,
            list,
            list_sizes,
            range,
            atomic_batch,
            value_bytes_max,
            ..
        } = backend.capabilities();
        let yes = |can: bool| if can { "yes" } else { "no" };
        let feature = if feature.is_empty() { "always" } else { feature };
        let _ = writeln!(
            out,
            "| {name} | {feature} | {} | {} | {} | {} | {} | {} MiB | {tested} |",
            yes(conditional),
            yes(list),
            yes(list_sizes),
            yes(range),
            yes(atomic_batch),
            value_bytes_max >> 20,
        );
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_backends_is_what_they_declare() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&rows(folder.path()).await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backends.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page marks its table");
    let (written, after) = rest.split_once(END).expect("the page marks its table");
    if std::env::var_os("SIRA_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "run this test with SIRA_WRITE_DOCS=1 to write the page anew");
}

//! Transactions over several real engines, with their log on the embedded one.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sira_backends::postgres::{PostgresBackend, PostgresOptions};
use sira_backends::redis::RedisBackend;
use sira_backends::sqlite::{SqliteBackend, SqliteOptions};
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::env::SystemEnv;
use sira_store::transaction::{PreparedPart, TransactionEngine, TransactionLog, TransactionPart};
use sira_store::{
    Capabilities, Condition, ListOptions, ListPage, Object, ObjectHead, ReadOptions, Result,
    StorageBackend, StorageOptions, Version,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::redis::{clean, prefix, single};
use crate::support::{env, unique};

/// A store whose other namespaces lie on another engine than its own.
#[derive(Debug)]
struct Split {
    log: TransactionLog,
    here: Arc<dyn StorageBackend>,
    elsewhere: Arc<dyn StorageBackend>,
    /// They stay open, so that what is committed is written to them.
    open: Mutex<HashMap<String, Arc<dyn StorageBackend>>>,
}

#[async_trait]
impl StorageBackend for Split {
    /// As if the engines had no batches of their own, so that all goes by the log.
    fn capabilities(&self) -> Capabilities {
        let here = self.here.capabilities();
        Capabilities { name: "split", atomic_batch: false, namespaces: true, ..here }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.here.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.here.read(key, options).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.here.head(key).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.here.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.here.list(options).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let mut open = self.open.lock().await;
        if let Some(known) = open.get(name) {
            return Ok(Arc::clone(known));
        }
        let namespace = self.log.around(name, self.elsewhere.namespace(name).await?);
        open.insert(name.to_owned(), Arc::clone(&namespace));
        Ok(namespace)
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.here.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.here.prepare(part).await
    }
}

/// Runs the suite's transactions with their keys on both engines.
async fn conforms(here: Arc<dyn StorageBackend>, elsewhere: Arc<dyn StorageBackend>) {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(folder.path(), EngineOptions::default()).expect("an engine");
    let home = Arc::new(EmbeddedBackend::new(engine));
    let log = TransactionLog::open(home, Arc::new(SystemEnv)).await.expect("a log");
    let here = log.around("here", here);
    let open = Mutex::default();
    let split = Arc::new(Split { log: log.clone(), here, elsewhere, open });
    for only in ["transactions/", "listing/", "values/", "cancellation/"] {
        let options =
            ConformanceOptions { only: Some(only.to_owned()), ..ConformanceOptions::default() };
        let backend = Arc::clone(&split) as Arc<dyn StorageBackend>;
        let report = conformance::run(backend, options).await.into_result().expect("conforms");
        if only == "transactions/" {
            assert_eq!(report.skipped, []);
        }
    }
    let figures = log.figures();
    assert!(figures.committed > 100, "{figures:?}");
    assert_eq!(figures.overtaken, 0, "{figures:?}");
}

async fn redis(prefix: &str) -> Arc<dyn StorageBackend> {
    Arc::new(RedisBackend::connect(single(prefix)).await.expect("connect"))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_and_postgres() {
    let prefix = prefix();
    let table = unique("it");
    let options = PostgresOptions::new(env("SIRA_TEST_POSTGRES_URL"), table.clone());
    let postgres = Arc::new(PostgresBackend::connect(options).await.expect("connect"));
    conforms(redis(&prefix).await, postgres).await;
    clean(&prefix).await;
    let url = env("SIRA_TEST_POSTGRES_URL");
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP TABLE IF EXISTS \"{table}\"")).await.expect("a statement");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sqlite_and_redis() {
    let (prefix, folder) = (prefix(), tempfile::tempdir().expect("a folder"));
    let options = SqliteOptions::new(folder.path().join("db"));
    let sqlite = Arc::new(SqliteBackend::open(options).await.expect("open"));
    conforms(sqlite, redis(&prefix).await).await;
    clean(&prefix).await;
}

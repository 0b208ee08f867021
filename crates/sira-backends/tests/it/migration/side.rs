//! Where objects come from or go to, named so that another process can open it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sira_backends::object_store::{ObjectStoreOptions, S3Backend, S3Options};
use sira_backends::postgres::{PostgresDriver, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_backends::sqlite::SqliteBackend;
use sira_store::driver::DriverBackend;
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::{BatchOperation, EmbeddedBackend, StorageBackend, StorageError};

use super::{BATCH, file};
use crate::support::{env, unique};

/// Time between two attempts to open what another process has open.
const PAUSE: Duration = Duration::from_millis(20);

/// An engine, and the place in it that belongs to one proof.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) engine: String,
    place: String,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.engine, self.place)
    }
}

impl Side {
    pub(super) fn new(engine: &str, folder: &Path) -> Self {
        let place = match engine {
            "embedded" | "sqlite" => file(folder, engine),
            "redis" => format!("{}:", unique("move")),
            _ => unique("move"),
        };
        Self { engine: engine.to_owned(), place }
    }

    /// What [`fmt::Display`] wrote.
    pub(super) fn parse(text: &str) -> Self {
        let (engine, place) = text.split_once(' ').unwrap();
        Self { engine: engine.to_owned(), place: place.to_owned() }
    }

    pub(super) fn is_of_one_process(&self) -> bool {
        self.engine == "embedded"
    }

    pub(super) async fn open(&self) -> Arc<dyn StorageBackend> {
        match self.engine.as_str() {
            "embedded" => loop {
                match Engine::open(Path::new(&self.place), EngineOptions::default()) {
                    Ok(engine) => break Arc::new(EmbeddedBackend::new(engine)),
                    // Its threads may not have ended yet where it was open before.
                    Err(StorageError::Locked(_)) => tokio::time::sleep(PAUSE).await,
                    Err(error) => panic!("{error}"),
                }
            },
            "postgres" => {
                let options = PostgresOptions::new(env("SIRA_TEST_POSTGRES_URL"), &self.place);
                Arc::new(DriverBackend::new(PostgresDriver::connect(options).await.unwrap()))
            }
            "redis" => {
                let options = RedisOptions::new(env("SIRA_TEST_REDIS_URL"), &self.place);
                Arc::new(RedisBackend::connect(options).await.unwrap())
            }
            "s3" => {
                let options =
                    S3Options::new(env("SIRA_TEST_S3_BUCKET"), env("SIRA_TEST_S3_REGION"))
                        .with_endpoint(env("SIRA_TEST_S3_ENDPOINT"))
                        .with_access_key(
                            env("SIRA_TEST_S3_ACCESS_KEY_ID"),
                            env("SIRA_TEST_S3_SECRET_ACCESS_KEY"),
                        )
                        .with_common(ObjectStoreOptions::with_prefix(&self.place));
                Arc::new(S3Backend::new(options).await.unwrap())
            }
            "sqlite" => Arc::new(SqliteBackend::new(&self.place).await.unwrap()),
            engine => panic!("{engine}"),
        }
    }

    /// Removes what servers hold of it.
    pub(super) async fn drop(&self) {
        if self.engine == "postgres" {
            let url = env("SIRA_TEST_POSTGRES_URL");
            let connect = tokio_postgres::connect(&url, tokio_postgres::NoTls);
            let (client, connection) = connect.await.unwrap();
            tokio::spawn(connection);
            return client.batch_execute(&format!("DROP TABLE \"{}\"", self.place)).await.unwrap();
        }
        let store = self.open().await;
        loop {
            let keys = store.list_keys("", BATCH).await.unwrap();
            if keys.is_empty() {
                return;
            }
            let deletes = keys.into_iter().map(BatchOperation::delete).collect();
            store.batch(deletes).await.unwrap();
        }
    }
}

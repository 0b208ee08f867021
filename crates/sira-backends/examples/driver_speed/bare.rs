//! The simplest good program of each engine: the same client library, values under keys and nothing
//! beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use parking_lot::Mutex;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use crate::Result;

/// Values under keys.
#[async_trait]
pub trait Bare: Send + Sync {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()>;
    async fn get(&self, key: &str) -> Result<usize>;
}

/// Connections that each carry many requests at once.
pub struct Redis {
    connections: Vec<ConnectionManager>,
    next: AtomicUsize,
}

impl Redis {
    pub async fn connect(url: &str, connections: usize) -> Result<Self> {
        let client = redis::Client::open(url)?;
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(client.get_connection_manager().await?);
        }
        Ok(Self { connections: opened, next: AtomicUsize::new(0) })
    }

    fn connection(&self) -> ConnectionManager {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections[next % self.connections.len()].clone()
    }
}

#[async_trait]
impl Bare for Redis {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        Ok(self.connection().set(key, value).await?)
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let value: Vec<u8> = self.connection().get(key).await?;
        Ok(value.len())
    }
}

/// A pool, and statements that are prepared once a connection.
pub struct Postgres(deadpool_postgres::Pool);

impl Postgres {
    pub async fn connect(url: &str, connections: usize) -> Result<Self> {
        let config: tokio_postgres::Config = url.parse()?;
        let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
        let pool = deadpool_postgres::Pool::builder(manager).max_size(connections).build()?;
        pool.get()
            .await?
            .batch_execute(
                "DROP TABLE IF EXISTS bare; \
                 CREATE TABLE bare (key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL)",
            )
            .await?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl Bare for Postgres {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let client = self.0.get().await?;
        let statement = client
            .prepare_cached(
                "INSERT INTO bare (key, value) VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .await?;
        client.execute(&statement, &[&key, &value]).await?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let client = self.0.get().await?;
        let statement = client.prepare_cached("SELECT value FROM bare WHERE key = $1").await?;
        let row = client.query_one(&statement, &[&key]).await?;
        Ok(row.get::<_, &[u8]>(0).len())
    }
}

/// A pool.
pub struct MySql(mysql_async::Pool);

impl MySql {
    pub async fn connect(url: &str, connections: usize) -> Result<Self> {
        let constraints = mysql_async::PoolConstraints::new(0, connections).ok_or("no pool")?;
        let options = mysql_async::OptsBuilder::from_opts(mysql_async::Opts::from_url(url)?)
            .pool_opts(mysql_async::PoolOpts::default().with_constraints(constraints));
        let pool = mysql_async::Pool::new(options);
        let mut conn = pool.get_conn().await?;
        conn.query_drop("DROP TABLE IF EXISTS bare").await?;
        conn.query_drop("CREATE TABLE bare (k varbinary(1024) PRIMARY KEY, v longblob NOT NULL)")
            .await?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl Bare for MySql {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let statement =
            "INSERT INTO bare (k, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)";
        Ok(self.0.get_conn().await?.exec_drop(statement, (key, value)).await?)
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let mut conn = self.0.get_conn().await?;
        let value: Option<Vec<u8>> =
            conn.exec_first("SELECT v FROM bare WHERE k = ?", (key,)).await?;
        Ok(value.map_or(0, |value| value.len()))
    }
}

/// One connection to write and one to read, on threads that may block.
pub struct Sqlite {
    writer: Arc<Mutex<rusqlite::Connection>>,
    reader: Arc<Mutex<rusqlite::Connection>>,
}

impl Sqlite {
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let open = || -> Result<_> {
            let connection = rusqlite::Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        let writer = open()?;
        writer
            .execute_batch("CREATE TABLE bare (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")?;
        let reader = open()?;
        Ok(Self { writer: Arc::new(Mutex::new(writer)), reader: Arc::new(Mutex::new(reader)) })
    }
}

#[async_trait]
impl Bare for Sqlite {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let (writer, key) = (Arc::clone(&self.writer), key.as_bytes().to_vec());
        tokio::task::spawn_blocking(move || {
            let writer = writer.lock();
            let mut put = writer.prepare_cached("INSERT OR REPLACE INTO bare VALUES (?, ?)")?;
            put.execute((key, value)).map(drop)
        })
        .await??;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let (reader, key) = (Arc::clone(&self.reader), key.as_bytes().to_vec());
        let value = tokio::task::spawn_blocking(move || {
            let reader = reader.lock();
            let mut get = reader.prepare_cached("SELECT value FROM bare WHERE key = ?")?;
            get.query_row((key,), |row| row.get::<_, Vec<u8>>(0))
        });
        Ok(value.await??.len())
    }
}

/// OpenDAL alone.
pub struct S3(opendal::Operator);

impl S3 {
    pub fn connect(of: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let service = opendal::services::S3::default()
            .root("/bare")
            .bucket(&of("BUCKET")?)
            .region(&of("REGION")?)
            .endpoint(&of("ENDPOINT")?)
            .access_key_id(&of("ACCESS_KEY_ID")?)
            .secret_access_key(&of("SECRET_ACCESS_KEY")?);
        let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
        let transport = opendal_http_transport_reqwest::ReqwestTransport::new(client);
        let operator = opendal::Operator::new(service)?;
        let context =
            operator.context().with_http_transport(opendal::HttpTransporter::new(transport));
        Ok(Self(operator.with_context(context)))
    }
}

#[async_trait]
impl Bare for S3 {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        self.0.write(key, value).await?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        Ok(self.0.read(key).await?.len())
    }
}

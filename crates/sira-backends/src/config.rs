//! Settings of every engine as a configuration file has them, and the engines that they open.
//!
//! The settings are there whichever engines are compiled in, so that a file can be checked anywhere;
//! [`open`] needs the engine. What a setting leaves out is the driver's default.
//!
//! Secrets never stand in the settings: `password_env` names the variable of the environment that
//! holds the password, `password_file` the file whose first line is it, and so for every other
//! secret. They are read when the engine is opened. `password = ...` and URLs that hold a password
//! are refused.
//!
//! ```
//! use sira_backends::config::{BackendConfig, BackendKind};
//!
//! let settings: toml::Table = "host = '10.0.0.7'\npassword_env = 'REDIS_PASSWORD'".parse()?;
//! let config = BackendConfig::read(BackendKind::Redis, settings)?;
//! assert_eq!(config.kind(), BackendKind::Redis);
//!
//! let settings: toml::Table = "host = '10.0.0.7'\npassword = '1234'".parse()?;
//! let refused = BackendConfig::read(BackendKind::Redis, settings).unwrap_err();
//! assert!(refused.message().contains("write password_env"), "{refused}");
//! # Ok::<_, toml::de::Error>(())
//! ```

#![cfg_attr(
    not(feature = "all"),
    allow(dead_code, reason = "for engines that are not compiled in")
)]

mod address;
mod document;
mod files;
mod guard;
mod kind;
mod local;
mod object_store;
mod open;
mod secret;
mod server;
pub mod units;

use serde::Deserializer;
use serde::de::{Deserialize, Error as _};

pub use address::ServerUrl;
pub use document::{CassandraConfig, CassandraLevel, MongoConfig, OpenSearchConfig};
pub use guard::fields_of;
pub use kind::{BackendKind, UnknownKind};
pub use local::{
    BlockCompression, FilesystemConfig, MemoryConfig, RocksDbConfig, SledConfig, SqliteConfig,
    SyncLevel,
};
pub use object_store::{AzureBlobConfig, GcsConfig, S3Config, StoreConditions};
pub use open::open;
pub use server::{EtcdConfig, RedisConfig, SqlConfig};

/// Settings of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendConfig {
    /// The server's own engine, which the server opens itself; it has no settings here.
    Embedded,
    /// Objects in memory.
    Memory(MemoryConfig),
    /// Files of a folder.
    Filesystem(FilesystemConfig),
    /// One Redis server, or a cluster where there are several nodes.
    Redis(RedisConfig),
    /// A Redis Cluster.
    RedisCluster(RedisConfig),
    /// PostgreSQL.
    Postgres(SqlConfig),
    /// MySQL or MariaDB.
    MySql(SqlConfig),
    /// SQLite.
    Sqlite(SqliteConfig),
    /// RocksDB.
    RocksDb(RocksDbConfig),
    /// sled.
    Sled(SledConfig),
    /// MongoDB.
    MongoDb(MongoConfig),
    /// Cassandra or ScyllaDB.
    Cassandra(CassandraConfig),
    /// OpenSearch or Elasticsearch.
    OpenSearch(OpenSearchConfig),
    /// The S3 protocol.
    S3(S3Config),
    /// MinIO.
    Minio(S3Config),
    /// Azure Blob Storage.
    AzureBlob(AzureBlobConfig),
    /// Google Cloud Storage.
    Gcs(GcsConfig),
    /// etcd.
    Etcd(EtcdConfig),
}

impl BackendConfig {
    /// Reads the settings of a backend of this kind: a table of the keys that
    /// [`BackendKind::keys`] lists, without the `type` that told the kind.
    ///
    /// # Errors
    /// The deserializer's, for an unknown key, a value of another type, a secret that stands in the
    /// settings, and settings that do not go together. None holds a secret.
    pub fn read<'de, D: Deserializer<'de>>(
        kind: BackendKind,
        settings: D,
    ) -> Result<Self, D::Error> {
        fn table<'de, T, D>(settings: D) -> Result<T, D::Error>
        where
            T: Deserialize<'de>,
            D: Deserializer<'de>,
        {
            T::deserialize(guard::Guarded(settings))
        }
        let config = match kind {
            BackendKind::Embedded => {
                table::<local::EmbeddedConfig, _>(settings)?;
                Self::Embedded
            }
            BackendKind::Memory => Self::Memory(table(settings)?),
            BackendKind::Filesystem => Self::Filesystem(table(settings)?),
            BackendKind::Redis => Self::Redis(table(settings)?),
            BackendKind::RedisCluster => Self::RedisCluster(table(settings)?),
            BackendKind::Postgres => Self::Postgres(table(settings)?),
            BackendKind::MySql => Self::MySql(table(settings)?),
            BackendKind::Sqlite => Self::Sqlite(table(settings)?),
            BackendKind::RocksDb => Self::RocksDb(table(settings)?),
            BackendKind::Sled => Self::Sled(table(settings)?),
            BackendKind::MongoDb => Self::MongoDb(table(settings)?),
            BackendKind::Cassandra => Self::Cassandra(table(settings)?),
            BackendKind::OpenSearch => Self::OpenSearch(table(settings)?),
            BackendKind::S3 => Self::S3(table(settings)?),
            BackendKind::Minio => Self::Minio(table(settings)?),
            BackendKind::AzureBlob => Self::AzureBlob(table(settings)?),
            BackendKind::Gcs => Self::Gcs(table(settings)?),
            BackendKind::Etcd => Self::Etcd(table(settings)?),
        };
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }

    /// The kind of the backend.
    #[must_use]
    pub const fn kind(&self) -> BackendKind {
        match self {
            Self::Embedded => BackendKind::Embedded,
            Self::Memory(_) => BackendKind::Memory,
            Self::Filesystem(_) => BackendKind::Filesystem,
            Self::Redis(_) => BackendKind::Redis,
            Self::RedisCluster(_) => BackendKind::RedisCluster,
            Self::Postgres(_) => BackendKind::Postgres,
            Self::MySql(_) => BackendKind::MySql,
            Self::Sqlite(_) => BackendKind::Sqlite,
            Self::RocksDb(_) => BackendKind::RocksDb,
            Self::Sled(_) => BackendKind::Sled,
            Self::MongoDb(_) => BackendKind::MongoDb,
            Self::Cassandra(_) => BackendKind::Cassandra,
            Self::OpenSearch(_) => BackendKind::OpenSearch,
            Self::S3(_) => BackendKind::S3,
            Self::Minio(_) => BackendKind::Minio,
            Self::AzureBlob(_) => BackendKind::AzureBlob,
            Self::Gcs(_) => BackendKind::Gcs,
            Self::Etcd(_) => BackendKind::Etcd,
        }
    }

    /// Checks what can be checked without the engine: settings that must be there, and that go
    /// together.
    ///
    /// # Errors
    /// What is wrong and what to write.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Embedded | Self::Memory(_) => Ok(()),
            Self::Filesystem(config) => local::need_path(&config.path),
            Self::Sqlite(config) => local::need_path(&config.path),
            Self::RocksDb(config) => local::need_path(&config.path),
            Self::Sled(config) => local::need_path(&config.path),
            Self::Redis(config) | Self::RedisCluster(config) => config.check(),
            Self::Postgres(config) => config.check("postgres"),
            Self::MySql(config) => config.check("mysql"),
            Self::MongoDb(config) => config.check(),
            Self::Cassandra(config) => config.check(),
            Self::OpenSearch(config) => config.check(),
            Self::S3(config) | Self::Minio(config) => config.check(),
            Self::AzureBlob(config) => config.check(),
            Self::Gcs(config) => config.check(),
            Self::Etcd(config) => config.check(),
        }
    }
}

#[cfg(test)]
mod tests;

//! The kinds of backends, by the names that a configuration calls them.

use std::fmt;
use std::str::FromStr;

use super::guard::fields_of;
use super::{
    AzureBlobConfig, CassandraConfig, EtcdConfig, FilesystemConfig, GcsConfig, MemoryConfig,
    MongoConfig, OpenSearchConfig, RedisConfig, RocksDbConfig, S3Config, SledConfig, SqlConfig,
    SqliteConfig,
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, [$($alias:literal),*], $($feature:literal)?, $config:ty;)*) => {
        /// Kinds of backends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum BackendKind {
            $($(#[$doc])* $kind,)*
        }

        impl BackendKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// What the kind is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Other names that are read.
            #[must_use]
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &[$($alias),*],)* }
            }

            /// The cargo feature of this crate that compiles the engine in; `None` where it is
            /// always there.
            #[must_use]
            pub const fn feature(self) -> Option<&'static str> {
                match self { $(Self::$kind => kinds!(@feature $($feature)?),)* }
            }

            /// Whether the engine is compiled in.
            #[must_use]
            pub const fn is_compiled(self) -> bool {
                match self { $(Self::$kind => kinds!(@compiled $($feature)?),)* }
            }

            /// The keys of the settings, other names of theirs included; `type` is not among them.
            #[must_use]
            pub fn keys(self) -> &'static [&'static str] {
                match self { $(Self::$kind => fields_of::<$config>(),)* }
            }
        }
    };
    (@feature) => { None };
    (@feature $feature:literal) => { Some($feature) };
    (@compiled) => { true };
    (@compiled $feature:literal) => { cfg!(feature = $feature) };
}

kinds! {
    /// The server's own engine.
    Embedded, "embedded", [], , super::local::EmbeddedConfig;
    /// Objects in memory, which end with the process.
    Memory, "memory", [], , MemoryConfig;
    /// Files of a folder.
    Filesystem, "filesystem", ["file"], , FilesystemConfig;
    /// Redis.
    Redis, "redis", [], "redis", RedisConfig;
    /// Redis Cluster.
    RedisCluster, "redis-cluster", ["redis_cluster"], "redis", RedisConfig;
    /// PostgreSQL.
    Postgres, "postgres", ["postgresql"], "postgres", SqlConfig;
    /// MySQL and MariaDB.
    MySql, "mysql", ["mariadb"], "mysql", SqlConfig;
    /// SQLite.
    Sqlite, "sqlite", [], "sqlite", SqliteConfig;
    /// RocksDB.
    RocksDb, "rocksdb", [], "rocksdb", RocksDbConfig;
    /// sled.
    Sled, "sled", [], "sled", SledConfig;
    /// MongoDB.
    MongoDb, "mongodb", ["mongo"], "mongodb", MongoConfig;
    /// Cassandra and ScyllaDB.
    Cassandra, "cassandra", ["scylla", "scylladb"], "cassandra", CassandraConfig;
    /// OpenSearch and Elasticsearch.
    OpenSearch, "opensearch", ["elasticsearch"], "opensearch", OpenSearchConfig;
    /// The S3 protocol.
    S3, "s3", [], "object-store", S3Config;
    /// MinIO.
    Minio, "minio", [], "object-store", S3Config;
    /// Azure Blob Storage.
    AzureBlob, "azure_blob", ["azure"], "object-store", AzureBlobConfig;
    /// Google Cloud Storage.
    Gcs, "gcs", [], "object-store", GcsConfig;
    /// etcd.
    Etcd, "etcd", [], "etcd", EtcdConfig;
}

impl BackendKind {
    /// The kinds whose engines are compiled in.
    pub fn compiled() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| kind.is_compiled())
    }

    /// Every name that is read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let of = |kind: &Self| std::iter::once(kind.name()).chain(kind.aliases().iter().copied());
        Self::ALL.iter().flat_map(of)
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no kind's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no backend of the type {0:?}; there are {list}", list = list())]
pub struct UnknownKind(pub String);

fn list() -> String {
    let names: Vec<_> = BackendKind::ALL.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

impl FromStr for BackendKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let is = |kind: &&Self| kind.name() == text || kind.aliases().contains(&text);
        Self::ALL.iter().find(is).copied().ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

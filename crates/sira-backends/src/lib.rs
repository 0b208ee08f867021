//! Drivers of outside engines: one module and one feature an engine.

#[cfg(feature = "cassandra")]
pub mod cassandra;
pub mod config;
#[cfg(any(feature = "cassandra", feature = "mongodb", feature = "opensearch"))]
mod deadline;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(
    feature = "cassandra",
    feature = "etcd",
    feature = "mongodb",
    feature = "mysql",
    feature = "object-store",
    feature = "opensearch",
    feature = "postgres",
    feature = "redis"
))]
mod handshake;
#[cfg(any(feature = "rocksdb", feature = "sled"))]
mod local;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "object-store")]
pub mod object_store;
#[cfg(feature = "opensearch")]
pub mod opensearch;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(any(feature = "cassandra", feature = "mongodb", feature = "opensearch"))]
mod signed;
#[cfg(feature = "sled")]
pub mod sled;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "cassandra", feature = "opensearch", feature = "postgres"))]
mod tls;

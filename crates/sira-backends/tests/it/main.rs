//! Integration tests, against real servers.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]
#![cfg_attr(not(feature = "all"), allow(dead_code, reason = "for engines that are not built"))]

#[cfg(feature = "object-store")]
mod backup;
#[cfg(feature = "cassandra")]
mod cassandra;
mod config;
mod conform;
mod contract;
#[cfg(feature = "all")]
mod documents;
mod edges;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "all")]
mod faults;
mod filesystem;
#[cfg(all(feature = "redis", feature = "postgres", feature = "object-store"))]
mod layers;
#[cfg(any(feature = "rocksdb", feature = "sled"))]
mod local;
#[cfg(all(feature = "postgres", feature = "redis", feature = "object-store", feature = "sqlite"))]
mod migration;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "object-store")]
mod object_store;
#[cfg(feature = "opensearch")]
mod opensearch;
#[cfg(feature = "all")]
mod plain;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "mysql")]
mod proxy;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(feature = "postgres", feature = "redis", feature = "object-store"))]
mod replication;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
#[cfg(feature = "all")]
mod tls;
#[cfg(all(feature = "redis", feature = "postgres", feature = "object-store"))]
mod toxiproxy;
#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod transaction_log;
mod transactions;

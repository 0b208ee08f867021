//! Tests of the server over real sockets.
#![allow(missing_docs, reason = "tests have no users")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod health;
mod http_batch;
mod http_capacity;
mod http_data;
mod http_hostile;
mod http_lifecycle;
mod http_list;
mod http_locks;
mod http_object;
mod http_operations;
mod http_storage;
mod http_stream;
mod http_syncs;
mod http_transaction;
mod http_versions;
mod resp;
mod support;

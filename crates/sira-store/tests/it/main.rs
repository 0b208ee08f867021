//! Integration tests of the store.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod backup;
mod cache;
mod client;
mod client_copies;
mod client_sync;
mod client_transactions;
mod conformance;
mod driver;
mod golden;
mod layers;
mod lifecycle;
mod migration;
mod names;
mod placement;
mod replication;
mod repository;
mod sealing;
mod simulation;
mod sync;
mod version_history;

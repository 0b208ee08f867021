//! Drives the real binary: on a folder, against a server it started, and through its signals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod alerts;
mod backup;
mod bench;
mod capacity;
mod config;
mod cp;
mod crash;
mod documents;
mod full_disk;
mod log;
mod many_sockets;
mod serve;
mod storage;
mod support;
mod telemetry;
mod verbs;

//! Drives the real binary: on a folder, against a server it started, and through its signals.

mod bench;
mod config;
mod cp;
mod documents;
mod serve;
mod support;
mod verbs;

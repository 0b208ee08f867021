//! Integration tests of the log.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod damage;
mod golden;
mod simulation;
mod small;

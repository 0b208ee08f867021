//! Integration tests of the log.
#![allow(missing_docs)]

mod golden;
mod simulation;

//! Integration tests of the log.
#![allow(missing_docs)]

mod simulation;

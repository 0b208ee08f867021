//! Integration tests of the store.
#![allow(missing_docs)]

mod simulation;

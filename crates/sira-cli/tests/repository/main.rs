//! Checks of the repository itself: tidiness of the sources, links and commands of the documents.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod commands;
mod documents;
mod files;
mod tidy;

//! Checks of the repository itself: tidiness of the sources, links and commands of the documents.
#![allow(missing_docs)]

mod commands;
mod documents;
mod files;
mod tidy;

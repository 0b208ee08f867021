//! Change logs: what a store was told to write, in order.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::version::Version;

/// A place in a change log, to be kept by who follows it. What the bytes say is the log's own matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePosition(pub Bytes);

/// That a key was written or removed. What it holds now is read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Version of what was written, or of the removal.
    pub version: Version,
    /// It was removed.
    pub removed: bool,
}

/// Changes in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes.
    pub changes: Vec<Change>,
    /// Behind them.
    pub next: ChangePosition,
    /// Records behind that, of whatever is in the same log.
    pub records_left: u64,
    /// When the last of the records was written, in milliseconds since the Unix epoch; `None` for a
    /// page of none.
    pub written_ms: Option<u64>,
}

/// What a store was told to write, in order. Only durable changes are in it.
#[async_trait]
pub trait ChangeLog: Send + Sync + fmt::Debug {
    /// The place behind everything that was written before.
    ///
    /// # Errors
    /// Those of the store.
    async fn end(&self) -> Result<ChangePosition>;

    /// Changes behind a place: those of about so many records. `None` where the log no longer has
    /// them, or is another one; then everything is to be looked at, from a place of now on.
    ///
    /// # Errors
    /// Those of the store.
    async fn after(&self, position: &ChangePosition, records: usize) -> Result<Option<ChangePage>>;

    /// Waits until everything that can be read now is durable.
    ///
    /// # Errors
    /// Those of the store.
    async fn settle(&self) -> Result<()>;
}

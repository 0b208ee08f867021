//! The embedded engine: the log is the store.

mod backend;
mod batch;
mod commit;
mod durable;
mod engine;
mod follow;
mod gate;
#[doc(hidden)]
pub mod index;
mod item;
mod namespaces;
mod spool;
mod stripes;
mod transaction;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use backend::EmbeddedBackend;
pub use engine::{
    Engine, History, LogPlace, LoggedWrite, MaintenanceReport, ObjectReader, Snapshot,
};
pub use sira_log::log::ScrubStep;
pub use sira_log::record::LogPosition;
pub use transaction::Transaction;

use crate::options::Durability;
use crate::version::Version;

/// A namespace of an engine. Numbers are never used again, not even after the namespace is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub(crate) u32);

impl NamespaceId {
    /// The number.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// How an engine is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Durability of writes that name none.
    pub durability: Durability,
    /// Size at which a segment file is sealed, in bytes; at most
    /// [`SEGMENT_BYTES_MAX`](crate::limits::SEGMENT_BYTES_MAX).
    pub segment_bytes: u64,
    /// Log bytes between two checkpoints of the index.
    pub checkpoint_bytes: u64,
    /// Share of dead bytes above which a sealed segment is rewritten, 0 to 1.
    pub reclaim_dead_ratio: f64,
    /// Most bytes a second that reclaiming space reads and writes.
    pub reclaim_bytes_per_second: u64,
    /// Pause between two looks for expired objects, segments to reclaim and checkpoints to write.
    pub maintenance_interval: Duration,
    /// Whether the engine runs threads of its own. Without them, the owner calls
    /// [`Engine::maintain`], as the simulation does.
    pub background: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            segment_bytes: 256 << 20,
            checkpoint_bytes: 1 << 30,
            reclaim_dead_ratio: 0.5,
            reclaim_bytes_per_second: 64 << 20,
            maintenance_interval: Duration::from_millis(500),
            background: true,
        }
    }
}

/// Options of one write to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions<'a> {
    /// When the object expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Encoded metadata, see [`Metadata::encode`](crate::Metadata::encode).
    pub metadata: &'a [u8],
    /// Version to store, above 0; a write is refused with
    /// [`StorageError::Conflict`](crate::StorageError::Conflict) unless it is greater than what the
    /// key holds. `None` lets the engine draw one.
    pub version: Option<Version>,
}

/// An object, borrowed from the engine for the length of a call.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRef<'a> {
    /// Version of the object.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Encoded metadata.
    pub metadata: &'a [u8],
    /// The bytes.
    pub value: &'a [u8],
}

/// An object that keeps its memory alive; nothing is copied.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// Version of the object.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Encoded metadata.
    pub metadata: Bytes,
    /// The bytes, or the range that was asked for.
    pub value: Bytes,
    /// Size of the whole value in bytes.
    pub size: u64,
}

/// One key of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanEntry<'a> {
    /// The key, without its namespace.
    pub key: &'a [u8],
    /// Size of the value in bytes.
    pub size: u64,
}

/// A place in the log, and so in the order of writes. What is durable up to a ticket is durable
/// for every smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub(crate) u64);

/// A write that readers see. It is durable once [`Engine::durable`] has reached its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Version of everything that was written, but for what gave its own.
    pub version: Version,
    /// What to wait for.
    pub ticket: Ticket,
}

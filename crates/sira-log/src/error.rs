//! Errors of the log.

use std::io;
use std::path::{Path, PathBuf};

/// Result of a log operation.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// What went wrong in a log operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The medium failed. Whether a write under way took effect is unknown.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The medium's error.
        source: io::Error,
    },
    /// No room for the record; nothing was written. Appends go on when space returns.
    #[error("no space left for {bytes} bytes in {path:?}: free some, appends then go on")]
    OutOfSpace {
        /// Bytes that were asked for.
        bytes: u64,
        /// The log's folder.
        path: PathBuf,
    },
    /// Stored bytes fail their checksum; they were not served.
    #[error("segment {segment} is corrupt at byte {offset}: {detail}")]
    Corrupt {
        /// Number of the segment.
        segment: u32,
        /// Place in the segment's file.
        offset: u64,
        /// What did not match.
        detail: &'static str,
    },
    /// Corruption was found: reads go on, writes are refused until `repair`.
    #[error(
        "the log is damaged at segment {segment}, byte {offset}: writes are refused until it is repaired"
    )]
    Damaged {
        /// Number of the segment.
        segment: u32,
        /// Place in the segment's file.
        offset: u64,
    },
    /// A write or sync failed earlier, so that it is unknown what is durable: reads go on, writes
    /// are refused until the log is opened again.
    #[error("the log stopped writing after an I/O error ({reason}): open it again to recover")]
    Poisoned {
        /// The first error.
        reason: String,
    },
    /// Another process has the log open.
    #[error("{path:?} is in use by {holder}")]
    Locked {
        /// The log's folder.
        path: PathBuf,
        /// Who holds it, as it wrote into the lock file.
        holder: String,
    },
    /// A record over the frame's limit.
    #[error("a record of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Bytes of the record.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Input that can never be right.
    #[error("{0}")]
    InvalidInput(String),
    /// A folder or a file that is not one of this log's, or from a newer version.
    #[error("{path:?} is not a log that this version reads: {detail}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The caller's `expected_sequence` is not the log's next sequence; nothing was written.
    #[error("expected sequence {expected}, but the log is at {actual}")]
    SequenceMismatch {
        /// What the caller expected.
        expected: u64,
        /// The sequence that the next record gets.
        actual: u64,
    },
    /// A writer with a newer fencing epoch has written; this one must stop.
    #[error("writer epoch {epoch} is fenced: epoch {current} has taken over")]
    Fenced {
        /// The caller's epoch.
        epoch: u64,
        /// The newest epoch seen.
        current: u64,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// Wraps the medium's error with what was being done.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the error is a lack of space.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::OutOfSpace { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

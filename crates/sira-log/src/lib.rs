//! Binary log of framed records.
//!
//! Layer 0 ([`frame`]) is pure framing: it knows bytes, no files. Layer 1 keeps frames in segments
//! on a [`disk`], commits them in groups, recovers after a crash and mirrors them.

pub mod checksum;
pub mod disk;
pub mod env;
mod error;
pub mod frame;
pub mod log;
pub mod record;
mod storage;

pub use error::{LogError, Result};
pub use frame::{BinaryLogCursor, BinaryLogFormat, BinaryLogWriter};
pub use record::{ContentKind, LogPosition};
pub use storage::{
    AppendOptions, AppendReceipt, CompactReport, JsonItem, LogDurability, LogItem, LogReadOptions,
    LogReader, LogRecord, LogStorage, LogStorageOptions, LogTail, MirrorReport, MirrorState,
    ReadDirection, StorageVerifyReport, log_stem, unpack_record,
};

//! Every limit of the store, in one place.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest namespace name, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// Most namespaces of one store.
pub const NAMESPACES_MAX: usize = 65_536;

/// Largest value that is held in memory while it is written, in bytes.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Largest value that is written from a stream, in bytes. A frame holds up to 4 GiB.
pub const STREAM_VALUE_BYTES_MAX: u64 = u32::MAX as u64 - 1024 * 1024;

/// Bytes of a stream that are collected in memory before the rest goes to a file aside.
pub const STREAM_MEMORY_BYTES: usize = 4 * 1024 * 1024;

/// Largest encoded metadata of one object, in bytes.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// Versions that a caller gives are below this, so that there are always greater ones.
pub const EXACT_VERSION_END: u64 = 1 << 63;

/// Largest seal of one object, in bytes: what describes a compressed or encrypted value.
pub const SEAL_BYTES_MAX: usize = u16::MAX as usize;

/// Largest encoded metadata of one object with its seal, in bytes.
pub const STORED_METADATA_BYTES_MAX: usize = METADATA_BYTES_MAX + SEAL_BYTES_MAX + 64;

/// Bytes of a value that are compressed and encrypted together.
pub const SEAL_SEGMENT_BYTES: usize = 1024 * 1024;

/// Most operations of one batch.
pub const BATCH_OPERATIONS_MAX: usize = 100_000;

/// Largest page of a listing, in entries.
pub const LIST_LIMIT_MAX: usize = 10_000;

/// Entries of a listing page when the caller names no limit.
pub const LIST_LIMIT_DEFAULT: usize = 1_000;

/// Values of at least this many bytes are aligned to [`BLOCK_ALIGN_BYTES`] and carry a checksum
/// for every [`BLOCK_BYTES`].
pub const BLOCK_VALUE_BYTES_MIN: usize = 64 * 1024;

/// Bytes that one checksum of a large value covers.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Alignment of a large value in its segment file, in bytes.
pub const BLOCK_ALIGN_BYTES: usize = 4096;

/// Largest size of a segment of the embedded engine, in bytes: the index keeps places in units of
/// four bytes, in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 4 * u32::MAX as u64;

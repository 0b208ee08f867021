//! Every limit of the server, in one place.

// RESP

/// Databases of the RESP door: the namespaces `db0` to `db15`.
pub const RESP_DATABASES: usize = 16;

/// Longest inline request and longest line of a request's framing, in bytes.
pub const RESP_LINE_BYTES_MAX: usize = 64 * 1024;

/// Longest argument of a request, in bytes: the largest value that the store takes.
pub const RESP_BULK_BYTES_MAX: usize = sira_store::limits::VALUE_BYTES_MAX;

/// Most arguments of a request before the client has authenticated.
pub const RESP_UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;

/// Longest argument before the client has authenticated, in bytes.
pub const RESP_UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of one client's requests that wait: the request that is arriving, and those that a
/// `MULTI` has queued.
pub const RESP_QUERY_BUFFER_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Most bytes of all clients' requests that wait, together.
pub const RESP_QUERY_BUFFERS_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Unsent bytes of replies past which a client's further requests wait until it reads, when there
/// are few clients; all clients share [`RESP_OUTPUT_BYTES`].
pub const RESP_OUTPUT_PAUSE_BYTES: usize = 1024 * 1024;

/// Least unsent bytes of replies that a client may have, however many clients there are.
pub const RESP_OUTPUT_PAUSE_BYTES_MIN: usize = 64 * 1024;

/// Unsent bytes of replies that all clients share.
pub const RESP_OUTPUT_BYTES: usize = 256 * 1024 * 1024;

/// Capacity that a client's buffers keep between requests, when there are few clients; all clients
/// share [`RESP_KEPT_BYTES`].
pub const RESP_KEEP_BYTES: usize = 1024 * 1024;

/// Least capacity that a client's buffers keep, however many clients there are.
pub const RESP_KEEP_BYTES_MIN: usize = 4 * 1024;

/// Capacity of idle buffers that all clients share.
pub const RESP_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// Values of at least this many bytes are sent from the store's memory, without a copy.
pub const RESP_SHARED_REPLY_BYTES_MIN: usize = 16 * 1024;

/// Bytes read from a socket at once.
pub const RESP_READ_BYTES: usize = 64 * 1024;

/// Most cursors of unfinished `SCAN`s that are remembered; the oldest goes first.
pub const RESP_SCAN_CURSORS_MAX: usize = 65_536;

/// Most connections that are accepted before other clients are served again.
pub const RESP_ACCEPT_BATCH: usize = 256;

/// Largest table of an `LCS`, in bytes.
pub const RESP_LCS_TABLE_BYTES_MAX: usize = 256 * 1024 * 1024;

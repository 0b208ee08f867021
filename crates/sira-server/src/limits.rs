//! Every limit of the front ends, in one place.

use std::time::Duration;

// Both doors

/// Connections of one door when the configuration names no number.
pub const CONNECTIONS_MAX_DEFAULT: usize = 20_000;

/// Connections that the kernel queues for a door before the server takes them.
pub const BACKLOG: u32 = 4096;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;

// HTTP

/// Time from the first byte of a request head to its last.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that a connection without a request stays open.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Longest pause within a request body, and longest wait for a client that does not read its
/// answer.
pub const HTTP_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after which an HTTP/2 connection is asked whether it is alive, and time to answer.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// Request heads are refused with a problem document past this many bytes of header fields: room
/// for the largest metadata ([`sira_store::limits::METADATA_BYTES_MAX`]) and 16 KiB beside it.
pub const HTTP_HEADERS_BYTES_MAX: usize = 32 * 1024;

/// Past this many bytes of request head the parser itself gives up, with a bare 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header fields of a request.
pub const HTTP_HEADERS_MAX: usize = 256;

/// Longest request target, in bytes: a key with every byte percent-encoded, and a long query.
pub const HTTP_TARGET_BYTES_MAX: usize = 16 * 1024;

/// Most requests under way on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 128;

/// Bytes that one HTTP/2 stream may send before the server has read them.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that one HTTP/2 connection may send before the server has read them.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Bodies up to this size are collected before they are written; larger ones are streamed.
pub const HTTP_COLLECT_BYTES_MAX: usize = 1 << 20;

/// Bytes of a streamed body that count against [`HTTP_UPLOAD_BYTES_MAX`]: what the store collects
/// before it writes to a file aside, and the pieces on the way.
pub const HTTP_STREAM_HELD_BYTES: usize =
    sira_store::limits::STREAM_MEMORY_BYTES + 4 * HTTP_COLLECT_BYTES_MAX;

/// Objects from this size on are verified piece by piece while they are answered.
pub const HTTP_PIECEWISE_BYTES_MIN: u64 = 4 << 20;

/// Bodies up to this size do not count against [`HTTP_UPLOAD_BYTES_MAX`].
pub const HTTP_BODY_FREE_BYTES: usize = 64 * 1024;

/// Bytes of request bodies that may be in memory at once, over all connections.
pub const HTTP_UPLOAD_BYTES_MAX: usize = 1 << 30;

/// Longest wait of an upload for its share of [`HTTP_UPLOAD_BYTES_MAX`].
pub const HTTP_UPLOAD_WAIT: Duration = Duration::from_secs(10);

/// Largest JSON request body, in bytes.
pub const HTTP_JSON_BYTES_MAX: usize = 64 << 20;

/// Largest value that is answered inside a JSON document, in bytes, over all values of the answer.
pub const HTTP_JSON_VALUE_BYTES_MAX: usize = 32 << 20;

/// Objects of a listing that are looked up before other requests get their turn.
pub const HTTP_LIST_BATCH: usize = 256;

/// Size of the pieces in which large answers are handed to the connection.
pub const HTTP_SLICE_BYTES: usize = 256 * 1024;

/// Most bytes of a refused body that are read, so that the client sees the answer rather than a
/// reset connection.
pub const HTTP_DRAIN_BYTES_MAX: usize = 16 << 20;

/// Longest time spent on reading a refused body.
pub const HTTP_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest request id that is taken over from the client, in bytes.
pub const HTTP_REQUEST_ID_BYTES_MAX: usize = 128;

/// Most connections over the limit that are told so at once; more are just closed.
pub const HTTP_REFUSALS_MAX: usize = 256;

/// Longest time spent on telling a client that the server is full.
pub const HTTP_REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Seconds that `Retry-After` names on a 503.
pub const HTTP_RETRY_AFTER_SECONDS: u32 = 1;

/// Most entity tags of one `If-Match` or `If-None-Match`.
pub const HTTP_ENTITY_TAGS_MAX: usize = 64;

/// Longest time to live, in seconds (some 100 years).
pub const TTL_SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// Furthest and nearest horizon of a forecast.
pub const CAPACITY_HORIZON_MAX: Duration = Duration::from_secs(1_825 * 86_400);
/// See [`CAPACITY_HORIZON_MAX`].
pub const CAPACITY_HORIZON_MIN: Duration = Duration::from_secs(1);

/// Most namespaces of all backends that are counted.
pub const CAPACITY_NAMESPACES_MAX: usize = 1_000;

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

/// Longest lease of a lock, in milliseconds: a day.
pub const LOCK_LEASE_MAX_MS: u64 = 86_400_000;

/// Longest wait for a lock over HTTP, in milliseconds.
pub const LOCK_WAIT_MAX_MS: u64 = 60_000;

/// Longest name of an owner of locks.
pub const LOCK_LABEL_BYTES_MAX: usize = 256;

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

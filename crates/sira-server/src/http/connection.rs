//! One connection: HTTP/1.1 or HTTP/2 with prior knowledge, told apart by its first bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::HttpLimits;
use crate::http::io::{Activity, TimedStream};
use crate::http::observe::Peer;
use crate::http::service::ConnectionService;
use crate::limits;

/// First bytes of every HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Pause between two looks at a preface that has arrived in part.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are served.
    Serving,
    /// Requests under way are finished, no others are taken.
    Draining,
    /// Whatever is left is cut off.
    Closing,
}

/// Serves a connection until its client leaves, is too slow, or the server shuts down.
pub async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    http_limits: Arc<HttpLimits>,
    mut phase: watch::Receiver<Phase>,
) {
    let multiplexed = tokio::select! {
        protocol = detect(&stream, &http_limits) => match protocol {
            Ok(multiplexed) => multiplexed,
            Err(_) => return,
        },
        // Nobody has asked for anything yet.
        () = reached(&mut phase, Phase::Draining) => return,
    };
    let activity = Arc::new(Activity::default());
    let service = ConnectionService::new(router, Arc::clone(&activity), Peer(peer));
    let io = TokioIo::new(TimedStream::new(stream, activity, multiplexed, &http_limits));
    if multiplexed {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
            .max_header_list_size(limits::HTTP_HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(limits::HTTP2_PING_INTERVAL)
            .keep_alive_timeout(limits::HTTP2_PING_INTERVAL)
            .serve_connection(io, service);
        drive(connection, phase).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(limits::HTTP_HEADERS_MAX)
            .max_header_size(limits::HTTP_HEAD_BYTES_MAX)
            .serve_connection(io, service);
        drive(connection, phase).await;
    }
}

/// Runs a connection to its end, or through the shutdown's phases.
async fn drive<C>(connection: C, mut phase: watch::Receiver<Phase>)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = reached(&mut phase, Phase::Draining) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = reached(&mut phase, Phase::Closing) => {
                    tracing::debug!("connection cut off by the shutdown");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits until the shutdown is in this phase, or the server is gone.
pub async fn reached(phase: &mut watch::Receiver<Phase>, at_least: Phase) {
    let _ = phase.wait_for(|phase| *phase >= at_least).await;
}

/// Whether the client speaks HTTP/2; nothing is taken out of the socket.
async fn detect(stream: &TcpStream, http_limits: &HttpLimits) -> io::Result<bool> {
    let mut seen = [0_u8; PREFACE.len()];
    let count = timeout(http_limits.idle_timeout, stream.peek(&mut seen)).await??;
    if let Some(multiplexed) = decide(&seen, count) {
        return Ok(multiplexed);
    }
    timeout(http_limits.head_timeout, async {
        loop {
            // What is there already makes the socket readable, so readiness cannot be awaited.
            tokio::time::sleep(PREFACE_PAUSE).await;
            let count = stream.peek(&mut seen).await?;
            if let Some(multiplexed) = decide(&seen, count) {
                return Ok(multiplexed);
            }
        }
    })
    .await?
}

/// The protocol, once the first bytes tell.
fn decide(seen: &[u8], count: usize) -> Option<bool> {
    let seen = seen.get(..count)?;
    if seen.is_empty() || !PREFACE.starts_with(seen) {
        Some(false)
    } else if seen.len() == PREFACE.len() {
        Some(true)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(decide(PREFACE, PREFACE.len()), Some(true));
        for part in 1..PREFACE.len() {
            assert_eq!(decide(PREFACE, part), None, "{part}");
        }
        assert_eq!(decide(PREFACE, 0), Some(false));
        assert_eq!(decide(b"PUT / HTTP/1.1\r\nHost: localh", 24), Some(false));
    }
}

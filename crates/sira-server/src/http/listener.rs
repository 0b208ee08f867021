//! The door itself: takes connections up to the limit, tells the others, and drains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{HttpLimits, ServerConfig};
use crate::error::ServerError;
use crate::http::connection::{self, Phase};
use crate::limits;
use crate::metrics::HttpMetrics;
use crate::problem::Problem;

/// Pause after the operating system refused a connection for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The bound and serving HTTP door.
#[derive(Debug)]
pub struct HttpDoor {
    addr: SocketAddr,
    phase: watch::Sender<Phase>,
    slots: Arc<Semaphore>,
    slot_count: u32,
    accepting: JoinHandle<()>,
}

impl HttpDoor {
    /// Binds the address and serves the router on it.
    ///
    /// # Errors
    /// [`ServerError::Bind`].
    pub fn start(
        config: &ServerConfig,
        router: Router,
        metrics: Arc<HttpMetrics>,
    ) -> Result<Self, ServerError> {
        let addr = config.http_addr;
        let listener =
            bind(addr).map_err(|source| ServerError::Bind { door: "HTTP", addr, source })?;
        let addr = listener.local_addr()?;
        let slot_count = u32::try_from(config.max_connections.min(Semaphore::MAX_PERMITS))
            .unwrap_or(u32::MAX >> 3);
        let slots = Arc::new(Semaphore::new(slot_count as usize));
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let accepting = tokio::spawn(accept(Acceptor {
            listener,
            router,
            limits: Arc::new(config.http.clone()),
            slots: Arc::clone(&slots),
            refusals: Arc::new(Semaphore::new(limits::HTTP_REFUSALS_MAX)),
            phase: phase_seen,
            metrics,
        }));
        Ok(Self { addr, phase, slots, slot_count, accepting })
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections, lets requests under way finish for up to `grace`, and cuts off
    /// the rest. Says whether all finished.
    pub async fn shutdown(self, grace: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        let _ = self.accepting.await;
        let drained = timeout(grace, self.slots.acquire_many(self.slot_count)).await.is_ok();
        self.phase.send_replace(Phase::Closing);
        if !drained {
            // Cutting off is quick: it waits for no client.
            let _ = self.slots.acquire_many(self.slot_count).await;
        }
        drained
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(limits::BACKLOG)
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    limits: Arc<HttpLimits>,
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    metrics: Arc<HttpMetrics>,
}

async fn accept(mut acceptor: Acceptor) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = connection::reached(&mut acceptor.phase, Phase::Draining) => return,
            accepted = acceptor.listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The client's own failures pass at once; out of files or memory lasts a while.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        acceptor.metrics.connections_accepted.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        let Ok(slot) = Arc::clone(&acceptor.slots).try_acquire_owned() else {
            acceptor.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            if let Ok(permit) = Arc::clone(&acceptor.refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = timeout(limits::HTTP_REFUSAL_TIMEOUT, refuse(stream)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let (router, limits) = (acceptor.router.clone(), Arc::clone(&acceptor.limits));
        let (phase, metrics) = (acceptor.phase.clone(), Arc::clone(&acceptor.metrics));
        tokio::spawn(async move {
            let _open = metrics.open_connection();
            connection::serve(stream, peer, router, limits, phase).await;
            drop(slot);
        });
    }
}

/// Tells a client that the server is full. Reads what it sends for a moment, so that closing does
/// not reset the connection under the answer.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let problem = Problem {
        code: "too_many_connections",
        ..Problem::unavailable(
            "the server has as many connections as it may (--max-connections); close some or try \
             again",
        )
    };
    let body = problem.document("").to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nretry-after: {}\r\nconnection: close\r\n\r\n",
        body.len(),
        limits::HTTP_RETRY_AFTER_SECONDS
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0_u8; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

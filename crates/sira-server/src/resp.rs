//! The RESP door: RESP2 and RESP3 on event loops of its own, straight onto the embedded engine; for
//! databases that a policy keeps elsewhere, over the client.
//!
//! A loop reads what a client sent, runs all of it and answers with one write. Replies to writes
//! that must be durable are held, in order, until the engine has synced: one fsync serves all
//! clients of a tick while the next tick's commands run. Databases 0 to 15 are the namespaces `db0`
//! to `db15`; they hold strings.

mod away;
mod balance;
mod command;
mod commands;
mod connection;
mod data;
mod executor;
mod glob;
mod mailbox;
mod number;
mod output;
mod parser;
mod session;
mod shared;
mod spin;
mod stats;
mod table;
mod worker;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sira_store::Durability;
use tokio::runtime::Handle;

use crate::limits::RESP_QUERY_BUFFERS_BYTES_MAX;
use crate::storage::Storage;

use away::Away;
pub(crate) use away::Databases;
use command::Failure;
use mailbox::{Mailbox, Message};
use session::Session;
use shared::Shared;
pub(crate) use shared::namespace_name;
use worker::Worker;

#[cfg(feature = "fuzzing")]
pub use parser::pieces::{Requests, Sender, requests};
pub use stats::{CommandStats, LATENCY_BUCKETS, RespStats};

/// The version of Redis whose replies these are.
const REDIS_VERSION: &str = "7.0.15";

/// Most event loops that are of use: more only take cores from clients and from the engine.
const LOOPS_MAX: usize = 2;

/// What `SHUTDOWN` does.
#[derive(Clone)]
pub struct OnShutdown(pub Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for OnShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnShutdown")
    }
}

/// How the RESP door is run.
#[derive(Clone)]
pub struct RespConfig {
    /// Where it listens; port 0 picks a free one.
    pub addr: SocketAddr,
    /// What clients must give with `AUTH`, as user `default`.
    pub token: Option<Arc<[u8]>>,
    /// Most clients at once.
    pub max_connections: usize,
    /// When writes are answered.
    pub durability: Durability,
    /// Most bytes of all clients' requests that wait, together.
    pub query_bytes_max: usize,
    /// Event loops; clients move to the second one when the first has more work than time.
    pub loops: usize,
    /// Called by `SHUTDOWN`; without it the command is refused.
    pub on_shutdown: Option<OnShutdown>,
}

impl Default for RespConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 9096)),
            token: None,
            max_connections: 20_000,
            durability: Durability::Sync,
            query_bytes_max: RESP_QUERY_BUFFERS_BYTES_MAX,
            loops: cores.min(LOOPS_MAX),
            on_shutdown: None,
        }
    }
}

impl fmt::Debug for RespConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespConfig")
            .field("addr", &self.addr)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("max_connections", &self.max_connections)
            .field("durability", &self.durability)
            .field("query_bytes_max", &self.query_bytes_max)
            .field("loops", &self.loops)
            .field("on_shutdown", &self.on_shutdown)
            .finish()
    }
}

/// A running RESP door. Dropped, it stops at once.
#[derive(Debug)]
pub struct RespServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl RespServer {
    /// Binds the address and serves on threads of its own; what works on databases that do not lie
    /// on the engine runs as tasks of `runtime`.
    ///
    /// # Errors
    /// The system's error when the address cannot be bound or a thread cannot be started; the
    /// engine's when a database's namespace cannot be made.
    pub fn start(storage: &Storage, runtime: Handle, config: RespConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let mailboxes =
            (0..config.loops.max(1)).map(|_| Mailbox::new()).collect::<io::Result<Box<[_]>>>()?;
        let env = Arc::clone(storage.engine.env());
        let away = Away::new(storage.client.clone(), runtime);
        let shared =
            Shared::new(storage, away, config, addr, mailboxes).map_err(io::Error::other)?;
        let shared = Arc::new(shared);
        let weak = Arc::downgrade(&shared);
        storage.databases.watch(Arc::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.databases_changed();
            }
        }));
        // The engine keeps its watchers: they must not keep the server.
        let weak = Arc::downgrade(&shared);
        shared.engine.watch_durable(Arc::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.mailboxes.iter().for_each(Mailbox::durable);
            }
        }));
        let mut server = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let mut listener = Some(listener);
        for index in 0..shared.mailboxes.len() {
            let shared = Arc::clone(&shared);
            let listener = listener.take();
            // A loop that cannot begin is an error of the start, not of the thread.
            let (report, begun) = std::sync::mpsc::sync_channel(1);
            let thread = env.spawn(
                &format!("sira-resp-{index}"),
                Box::new(move || {
                    let Some(stats) = shared.stats.get(index) else { return };
                    match Worker::new(index, &shared, stats, listener) {
                        Ok(worker) => {
                            let _ = report.send(Ok(()));
                            worker.run();
                        }
                        Err(error) => {
                            let _ = report.send(Err(error));
                        }
                    }
                }),
            )?;
            server.threads.push(thread);
            begun.recv().map_err(io::Error::other)??;
        }
        Ok(server)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Counters since the start, or since `CONFIG RESETSTAT`.
    #[must_use]
    pub fn stats(&self) -> RespStats {
        self.shared.snapshot()
    }

    /// Takes no more clients or requests, sends the replies to those that were read for up to
    /// `grace`, and disconnects all.
    pub fn shutdown(mut self, grace: Duration) {
        self.stop(grace);
    }

    fn stop(&mut self, grace: Duration) {
        let deadline = self.shared.env.monotonic().saturating_add(grace);
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::Stop(deadline));
        }
        for thread in self.threads.drain(..) {
            // A loop that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Drop for RespServer {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop(Duration::ZERO);
        }
    }
}

/// Names a connection.
fn client_name(session: &Session, name: &[u8]) -> Result<(), Failure> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Failure::fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    *session.info.name.lock() = name.to_vec();
    Ok(())
}

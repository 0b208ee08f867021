//! Errors of starting and stopping the server.

use std::io;
use std::net::SocketAddr;

use sira_store::StorageError;

/// Why the server did not start or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address beyond loopback without a token.
    #[error(
        "refusing to serve {door} on {addr} without a token: everybody who reaches it could read \
         and erase the data. Set one: export SIRA_TOKEN=$(openssl rand -hex 32) (or bind 127.0.0.1)"
    )]
    Exposed {
        /// Name of the door.
        door: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// A setting that cannot be right.
    #[error("{0}")]
    Config(String),
    /// An address that cannot be bound.
    #[error("cannot listen for {door} on {addr}: {source}. {}", bind_advice(source))]
    Bind {
        /// Name of the door.
        door: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The operating system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn bind_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Another process listens there: stop it, or choose another port with --http-addr or \
             --resp-addr"
        }
        io::ErrorKind::PermissionDenied => "Ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => {
            "The address is not one of this machine: bind 127.0.0.1 or 0.0.0.0"
        }
        _ => "Choose another address with --http-addr or --resp-addr",
    }
}

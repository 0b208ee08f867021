//! A way to a server that can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Passes connections on to a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    ways: Arc<Mutex<Vec<AbortHandle>>>,
    listening: AbortHandle,
}

impl Proxy {
    /// A way to `server`, which is `host:port`.
    pub async fn to(server: String) -> Self {
        Self::at("127.0.0.1", server).await
    }

    /// The same, that begins at this address.
    pub async fn at(host: &str, server: String) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let ways = Arc::new(Mutex::new(Vec::new()));
        let listening = tokio::spawn({
            let ways = Arc::clone(&ways);
            async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let server = server.clone();
                    let way = tokio::spawn(async move {
                        if let Ok(mut server) = TcpStream::connect(server).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    });
                    ways.lock().expect("no panic").push(way.abort_handle());
                }
            }
        });
        Self { address, ways, listening: listening.abort_handle() }
    }

    /// Where the way begins, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts the connections that there are; new ones can be made.
    pub fn cut(&self) {
        for way in self.ways.lock().expect("no panic").drain(..) {
            way.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.listening.abort();
    }
}

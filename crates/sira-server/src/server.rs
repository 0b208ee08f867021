//! The server: both doors over one engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sira_store::StorageError;
use sira_store::embedded::{EmbeddedBackend, Engine};

use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::http::app::App;
use crate::http::listener::HttpDoor;
use crate::http::routes;
use crate::metrics::HttpMetrics;

/// A running server.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    app: App,
    http: HttpDoor,
}

impl Server {
    /// Binds both doors and serves.
    ///
    /// # Errors
    /// [`ServerError::Exposed`] for an address beyond loopback without a token,
    /// [`ServerError::Bind`] for an address that cannot be bound.
    pub async fn start(engine: Arc<Engine>, config: ServerConfig) -> Result<Self, ServerError> {
        config.check()?;
        let metrics = Arc::new(HttpMetrics::new(routes::table().iter().map(|route| route.pattern)));
        let store = EmbeddedBackend::new(Arc::clone(&engine));
        let app = App::new(store, &config, Arc::clone(&metrics));
        let http = HttpDoor::start(&config, routes::router(app.clone()), metrics)?;
        tracing::info!(http = %http.local_addr(), "serving");
        Ok(Self { engine, app, http })
    }

    /// Bound address of the HTTP door.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// `/readyz` turns 503, both doors close, requests under way get up to `grace`, then the engine
    /// is flushed and closed.
    ///
    /// # Errors
    /// [`ServerError::Storage`] when the engine cannot make everything durable.
    pub async fn shutdown(self, grace: Duration) -> Result<(), ServerError> {
        self.app.drain();
        let drained = self.http.shutdown(grace).await;
        if !drained {
            tracing::warn!("requests were still under way after {grace:?} and were cut off");
        }
        let engine = self.engine;
        let closed = tokio::task::spawn_blocking(move || {
            engine.flush()?;
            engine.close()
        });
        closed.await.map_err(|error| {
            StorageError::unavailable("the runtime shut down").with_source(error)
        })??;
        Ok(())
    }
}

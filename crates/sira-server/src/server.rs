//! The server: both doors over one storage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::embedded::Engine;
use sira_store::{Result as StorageResult, StorageError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::http::app::App;
use crate::http::listener::HttpDoor;
use crate::http::routes;
use crate::http::syncs::follow;
use crate::metrics::{self, HttpMetrics, MetricFamilies};
use crate::resp::{OnShutdown, RespConfig, RespServer};
use crate::storage::Storage;

/// A running server.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    app: App,
    http: HttpDoor,
    resp: Arc<Mutex<Option<RespServer>>>,
    resp_addr: SocketAddr,
    shutdown_requested: watch::Receiver<bool>,
    /// What watches the backends, keeps them tidy and backs them up.
    tasks: [Task; 7],
}

/// What a server counts, to be read again and again.
#[derive(Debug, Clone)]
pub struct MetricsSource(App);

impl MetricsSource {
    /// What `/metrics` shows.
    ///
    /// # Errors
    /// The engine's.
    pub async fn families(&self) -> StorageResult<MetricFamilies> {
        self.0.families().await
    }
}

/// A task that ends with the server.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Binds both doors and serves.
    ///
    /// # Errors
    /// [`ServerError::Exposed`] for an address beyond loopback without a token,
    /// [`ServerError::Bind`] for an address that cannot be bound.
    pub async fn start(storage: Storage, config: ServerConfig) -> Result<Self, ServerError> {
        config.check()?;
        let engine = Arc::clone(&storage.engine);
        let (request_shutdown, shutdown_requested) = watch::channel(false);
        let resp = start_resp(storage.clone(), &config, request_shutdown).await?;
        let resp_addr = resp.local_addr();
        let resp = Arc::new(Mutex::new(Some(resp)));

        let counters =
            Arc::new(HttpMetrics::new(routes::table().iter().map(|route| route.pattern)));
        let watched = Arc::clone(&storage.monitor)
            .run(storage.client.clone(), Arc::clone(&storage.collector));
        let maintained =
            Arc::clone(&storage.maintenance).run(storage.client.clone(), Arc::clone(engine.env()));
        let lifecycle = Arc::clone(&storage.lifecycle);
        let aged = lifecycle.run(storage.client.clone(), Arc::clone(&engine));
        let looked_at =
            Arc::clone(&storage.health).run(storage.client.clone(), Arc::clone(&storage.collector));
        let sampled = Arc::clone(&storage.capacity)
            .run(storage.client.clone(), Arc::clone(&storage.collector));
        let notified = Arc::clone(&storage.notifier).run(Arc::clone(engine.env()));
        let backed_up = Arc::clone(&storage.backups).run(Arc::clone(engine.env()));
        let tasks = [
            Task(tokio::spawn(watched)),
            Task(tokio::spawn(maintained)),
            Task(tokio::spawn(aged)),
            Task(tokio::spawn(looked_at)),
            Task(tokio::spawn(sampled)),
            Task(tokio::spawn(notified)),
            Task(tokio::spawn(backed_up)),
        ];
        let app = App::new(storage, &config, Arc::clone(&counters));
        let door = Arc::clone(&resp);
        app.add_metrics(Box::new(move |out| {
            let stats = door.lock().as_ref().map(RespServer::stats);
            if let Some(stats) = stats {
                metrics::resp::write(&stats, out);
            }
        }));
        follow::resume(&app).await;
        let http = HttpDoor::start(&config, routes::router(app.clone()), counters)?;
        tracing::info!(http = %http.local_addr(), resp = %resp_addr, "serving");
        Ok(Self { engine, app, http, resp, resp_addr, shutdown_requested, tasks })
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> MetricsSource {
        MetricsSource(self.app.clone())
    }

    /// Bound address of the HTTP door.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// Bound address of the RESP door.
    #[must_use]
    pub fn resp_addr(&self) -> SocketAddr {
        self.resp_addr
    }

    /// Waits until a client asks for a shutdown, with RESP's `SHUTDOWN`. The server goes on until
    /// [`Server::shutdown`] is called.
    pub async fn shutdown_requested(&self) {
        let mut requested = self.shutdown_requested.clone();
        if requested.wait_for(|requested| *requested).await.is_err() {
            // The door is gone, and nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }

    /// `/readyz` turns 503, both doors close, requests under way get up to `grace`, then the engine
    /// is flushed and closed.
    ///
    /// # Errors
    /// [`ServerError::Storage`] when the engine cannot make everything durable.
    pub async fn shutdown(self, grace: Duration) -> Result<(), ServerError> {
        self.app.drain();
        drop(self.tasks);
        let resp = self.resp.lock().take();
        let resp = tokio::task::spawn_blocking(move || {
            if let Some(resp) = resp {
                resp.shutdown(grace);
            }
        });
        let drained = self.http.shutdown(grace).await;
        if !drained {
            tracing::warn!("requests were still under way after {grace:?} and were cut off");
        }
        self.app.syncs().close().await;
        self.app.health().close().await;
        self.app.capacity().close().await;
        resp.await.map_err(runtime_gone)?;
        let engine = self.engine;
        let closed = tokio::task::spawn_blocking(move || {
            engine.flush()?;
            engine.close()
        });
        Ok(closed.await.map_err(runtime_gone)??)
    }
}

fn runtime_gone(error: tokio::task::JoinError) -> StorageError {
    StorageError::unavailable("the runtime shut down before the data was synced").with_source(error)
}

/// Starts the RESP door, which makes its databases' namespaces and so waits for the disk.
async fn start_resp(
    storage: Storage,
    config: &ServerConfig,
    request_shutdown: watch::Sender<bool>,
) -> Result<RespServer, ServerError> {
    let addr = config.resp_addr;
    let resp = RespConfig {
        addr,
        token: config.token.as_ref().map(|token| token.expose().as_bytes().into()),
        max_connections: config.max_connections,
        durability: config.durability,
        on_shutdown: Some(OnShutdown(Arc::new(move || {
            request_shutdown.send_replace(true);
        }))),
        ..RespConfig::default()
    };
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || RespServer::start(&storage, runtime, resp))
        .await
        .map_err(runtime_gone)?
        .map_err(|source| ServerError::Bind { door: "RESP", addr, source })
}

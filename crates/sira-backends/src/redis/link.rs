//! Connections to a server or a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use sira_store::{Result, StorageError};

use super::error::{Effect, is_redirection, is_unknown_script, storage_error};
use super::options::RedisOptions;
use super::script::{Request, SCRIPTS, with_text};

/// Requests of one pipeline.
const PIPELINE_REQUESTS: usize = 512;

/// Requests that are on their way to a cluster at once, of one batch.
const CLUSTER_REQUESTS: usize = 256;

/// Times that the client itself asks a cluster again where nothing is at stake.
const READ_RETRIES: u32 = 4;

/// Waits before a write that a cluster has redirected is made again.
const REDIRECTION_WAITS_MS: [u64; 6] = [0, 10, 20, 40, 80, 160];

/// Where requests go.
#[derive(Clone)]
pub(super) enum Link {
    /// One server; each connection carries many requests at once and is made anew when it breaks.
    Single { connections: Arc<[ConnectionManager]>, next: Arc<AtomicUsize> },
    /// A cluster. The client makes a request again when its connection breaks, which must not happen
    /// to a write: writes have connections of their own, on which it never does.
    Cluster { reads: ClusterConnection, writes: ClusterConnection },
}

impl Link {
    pub(super) async fn connect(options: &RedisOptions) -> Result<Self> {
        options.check()?;
        // Fails when the process has chosen its provider already, which then is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let link = if options.cluster {
            Self::connect_cluster(options).await
        } else {
            Self::connect_single(options).await
        };
        link.map_err(|error| error.with_backend("redis"))
    }

    async fn connect_single(options: &RedisOptions) -> Result<Self> {
        let [info] = &options.connection_infos()?[..] else {
            return Err(StorageError::invalid_input(
                "several URLs of Redis servers need the option `cluster`",
            ));
        };
        let client = match options.certificates().await? {
            Some(certificates) => Client::build_with_tls(info.clone(), certificates),
            None => Client::open(info.clone()),
        }
        .map_err(refused)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.operation_timeout))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_pipeline_buffer_size(1024);
        let mut connections = Vec::with_capacity(options.pool_size);
        for _ in 0..options.pool_size {
            let connection = ConnectionManager::new_with_config(client.clone(), config.clone());
            connections.push(connection.await.map_err(refused)?);
        }
        Ok(Self::Single { connections: connections.into(), next: Arc::default() })
    }

    async fn connect_cluster(options: &RedisOptions) -> Result<Self> {
        let infos = options.connection_infos()?;
        let certificates = options.certificates().await?;
        let connect = async |retries| {
            let mut builder = ClusterClientBuilder::new(infos.clone())
                .retries(retries)
                .tcp_settings(options.tcp_settings())
                .connection_timeout(options.connect_timeout)
                .response_timeout(options.operation_timeout)
                .overall_response_timeout(Some(options.operation_timeout));
            if let Some(certificates) = &certificates {
                builder = builder.certs(certificates.clone());
            }
            let client = builder.build().map_err(refused)?;
            client.get_async_connection().await.map_err(refused)
        };
        Ok(Self::Cluster { reads: connect(READ_RETRIES).await?, writes: connect(0).await? })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// Makes one request.
    pub(super) async fn run(&self, request: &Request, effect: Effect) -> Result<Value> {
        let result = match self.send(&request.cmd, request.slot, effect).await {
            Err(error) if is_unknown_script(&error) => match with_text(&request.cmd) {
                Some(cmd) => self.send(&cmd, request.slot, effect).await,
                None => Err(error),
            },
            result => result,
        };
        result.map_err(|error| storage_error(error, effect))
    }

    /// Makes several requests at once, and answers each.
    pub(super) async fn run_all(
        &self,
        requests: Vec<Request>,
        effect: Effect,
    ) -> Vec<Result<Value>> {
        if let Self::Single { connections, .. } = self {
            let mut rest = requests.into_iter();
            let pipelines = std::iter::from_fn(|| {
                let part: Vec<_> = rest.by_ref().take(PIPELINE_REQUESTS).collect();
                (!part.is_empty()).then_some(part)
            });
            let pipelines: Vec<_> = pipelines.map(|part| self.pipeline(part, effect)).collect();
            let results: Vec<_> =
                stream::iter(pipelines).buffered(connections.len()).collect().await;
            return results.into_iter().flatten().collect();
        }
        let requests: Vec<_> =
            requests.into_iter().map(|request| self.run_own(request, effect)).collect();
        stream::iter(requests).buffered(CLUSTER_REQUESTS).collect().await
    }

    /// Makes a request that is about no key on the server, or on each node of the cluster that takes
    /// writes.
    pub(super) async fn run_everywhere(&self, cmd: Cmd) -> Result<Vec<Value>> {
        let result = match self {
            Self::Single { .. } => self.send(&cmd, 0, Effect::Read).await.map(|value| vec![value]),
            Self::Cluster { reads, .. } => {
                let masters = (MultipleNodeRoutingInfo::AllMasters, None);
                let mut reads = reads.clone();
                let answer = reads.route_command(cmd, RoutingInfo::MultiNode(masters)).await;
                answer.and_then(Value::extract_error).map(|value| match value {
                    Value::Map(nodes) => nodes.into_iter().map(|(_, value)| value).collect(),
                    value => vec![value],
                })
            }
        };
        result.map_err(|error| storage_error(error, Effect::Read))
    }

    async fn run_own(&self, request: Request, effect: Effect) -> Result<Value> {
        self.run(&request, effect).await
    }

    async fn send(&self, cmd: &Cmd, slot: u16, effect: Effect) -> RedisResult<Value> {
        match self {
            Self::Single { .. } => {
                let value = self.connection()?.send_packed_command(cmd).await?;
                value.extract_error()
            }
            Self::Cluster { reads, .. } if effect == Effect::Read => route(reads, cmd, slot).await,
            Self::Cluster { writes, .. } => {
                for wait_ms in REDIRECTION_WAITS_MS {
                    match route(writes, cmd, slot).await {
                        Err(error) if is_redirection(&error) => {}
                        result => return result,
                    }
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                route(writes, cmd, slot).await
            }
        }
    }

    /// Makes several requests in one round trip, and those again whose script the server lacked.
    async fn pipeline(&self, requests: Vec<Request>, effect: Effect) -> Vec<Result<Value>> {
        let mut pipeline = Pipeline::with_capacity(requests.len());
        for request in requests {
            pipeline.add_command(request.cmd);
        }
        let mut results = self.send_pipeline(&pipeline).await;
        // Each round teaches the server the script that the first failure names.
        for _ in 0..SCRIPTS {
            let lacking =
                |result: &RedisResult<Value>| result.as_ref().is_err_and(is_unknown_script);
            let failed: Vec<_> = (0..results.len()).filter(|i| lacking(&results[*i])).collect();
            let commands: Vec<_> = pipeline.cmd_iter().collect();
            let again = failed.iter().filter_map(|i| commands.get(*i).copied());
            let mut retry = Pipeline::new();
            for (number, cmd) in again.enumerate() {
                let with_text = if number == 0 { with_text(cmd) } else { None };
                retry.add_command(with_text.unwrap_or_else(|| cmd.clone()));
            }
            if retry.is_empty() {
                break;
            }
            for (i, result) in failed.into_iter().zip(self.send_pipeline(&retry).await) {
                results[i] = result;
            }
        }
        let mapped = results.into_iter();
        mapped.map(|result| result.map_err(|error| storage_error(error, effect))).collect()
    }

    async fn send_pipeline(&self, pipeline: &Pipeline) -> Vec<RedisResult<Value>> {
        let count = pipeline.len();
        let answers = match self.connection() {
            Ok(mut connection) => connection.send_packed_commands(pipeline, 0, count).await,
            Err(error) => Err(error),
        };
        match answers {
            Ok(values) if values.len() == count => {
                values.into_iter().map(Value::extract_error).collect()
            }
            Ok(_) => vec![Err(miscounted()); count],
            Err(error) => vec![Err(error); count],
        }
    }

    /// The connection whose turn it is.
    fn connection(&self) -> RedisResult<ConnectionManager> {
        let Self::Single { connections, next } = self else {
            return Err((ErrorKind::Client, "a cluster has no single connection").into());
        };
        let turn = next.fetch_add(1, Ordering::Relaxed) % connections.len().max(1);
        connections.get(turn).cloned().ok_or_else(|| (ErrorKind::Client, "no connections").into())
    }
}

async fn route(connection: &ClusterConnection, cmd: &Cmd, slot: u16) -> RedisResult<Value> {
    let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
    let mut connection = connection.clone();
    connection.route_command(cmd.clone(), RoutingInfo::SingleNode(node)).await?.extract_error()
}

/// The error of a connection that could not be made.
fn refused(error: RedisError) -> StorageError {
    storage_error(error, Effect::Read)
}

fn miscounted() -> RedisError {
    (ErrorKind::Parse, "fewer answers than requests").into()
}

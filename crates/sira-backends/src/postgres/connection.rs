//! Connections: a pool of them, each with its prepared statements.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use sira_store::{Result, StorageError};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, Error, Row};

use super::error::{Effect, is_collision, pool_error, storage_error};
use super::{Parameters, PostgresOptions, tls};

/// How often a statement is run again after a collision with others.
const COLLISIONS_MAX: u32 = 6;

/// Wait after the first collision; it doubles with each.
const COLLISION_WAIT: Duration = Duration::from_millis(4);

/// How long the server may take to say that it gave up a statement.
const GIVE_UP_TIME: Duration = Duration::from_millis(500);

/// A pool of connections.
pub(super) struct Connections {
    pool: Pool,
    address: String,
    operation_timeout: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("address", &self.address)
            .field("pool", &self.pool.status())
            .finish()
    }
}

impl Connections {
    /// A pool that connects when it has to.
    pub(super) fn new(options: &PostgresOptions) -> Result<Self> {
        let mut config = parse(&options.url)?;
        config.connect_timeout(options.connect_timeout);
        if config.get_application_name().is_none() {
            config.application_name("sira");
        }
        if options.ca_file.is_some() {
            match config.get_ssl_mode() {
                SslMode::Disable => {
                    return Err(StorageError::invalid_input(
                        "a ca_file goes with TLS, which sslmode=disable turns off",
                    ));
                }
                // Who names an authority does not mean to do without.
                _ => config.ssl_mode(SslMode::Require),
            };
        }
        let tls = tls::connector(config.get_ssl_mode(), options.ca_file.as_deref())?;
        let address = address(&config);
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, tls, manager_config);
        let timeout = Some(options.connect_timeout);
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(1))
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .runtime(Runtime::Tokio1)
            .post_create(session(options.operation_timeout))
            .build()
            .map_err(|error| {
                StorageError::invalid_input("no pool of connections can be made").with_source(error)
            })?;
        Ok(Self { pool, address, operation_timeout: options.operation_timeout })
    }

    /// A connection for one caller.
    pub(super) async fn client(&self) -> Result<Client> {
        let size = || self.pool.status().max_size;
        self.pool.get().await.map_err(|error| pool_error(error, &self.address, size()))
    }

    /// Runs a statement, again after a collision, and answers its rows.
    pub(super) async fn query(
        &self,
        text: &str,
        parameters: Parameters<'_>,
        effect: Effect,
    ) -> Result<Vec<Row>> {
        let mut collisions = 0;
        loop {
            let client = self.client().await?;
            let Ok(result) = self.in_time(query(&client, text, parameters)).await else {
                // What was asked may still be on its way: nobody else waits behind it.
                drop(Object::take(client));
                return Err(late(self.operation_timeout, effect));
            };
            drop(client);
            match result {
                Ok(rows) => return Ok(rows),
                Err(error) if is_collision(&error) && wait_for_others(&mut collisions).await => {}
                Err(error) => return Err(storage_error(&error, effect).with_source(error)),
            }
        }
    }

    /// The result of what a server does in time.
    pub(super) async fn in_time<T>(
        &self,
        task: impl Future<Output = T>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        tokio::time::timeout(self.operation_timeout + GIVE_UP_TIME, task).await
    }

    /// How long a statement may take.
    pub(super) fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }
}

async fn query(client: &Client, text: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
    let statement = client.prepare_cached(text).await?;
    client.query(&statement, parameters).await
}

/// The error of a statement that was not answered.
pub(super) fn late(time: Duration, effect: Effect) -> StorageError {
    StorageError::timeout(format!("PostgreSQL did not answer within {time:?}"))
        .with_retry(effect.unanswered())
}

/// Whether a transaction that collided so often may be run again; waits before it says so.
pub(super) async fn wait_for_others(collisions: &mut u32) -> bool {
    *collisions += 1;
    if *collisions > COLLISIONS_MAX {
        return false;
    }
    tokio::time::sleep(COLLISION_WAIT * (1 << *collisions)).await;
    true
}

/// What every connection begins with, whatever the server's defaults are: a statement that takes too
/// long ends, and so does a transaction that its client left behind. Rows are found by an index, in
/// its order: a plan that was made while the table was small, and is kept with its statement, would
/// else read all of the table once it is large.
fn session(operation_timeout: Duration) -> Hook {
    let ms = operation_timeout.as_millis().clamp(1, i32::MAX as u128);
    let text = format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
    );
    Hook::async_fn(move |client, _| {
        let text = text.clone();
        Box::pin(async move { client.batch_execute(&text).await.map_err(HookError::Backend) })
    })
}

/// A connection that is in a transaction, and is closed if it is dropped before that has ended.
pub(super) struct InTransaction(Option<Client>);

impl InTransaction {
    pub(super) fn new(client: Client) -> Self {
        Self(Some(client))
    }

    pub(super) fn client(&self) -> Result<&Client> {
        self.0.as_ref().ok_or_else(|| StorageError::unavailable("the transaction has ended"))
    }

    /// The transaction has ended: others may use the connection.
    pub(super) fn end(mut self) {
        drop(self.0.take());
    }
}

impl Drop for InTransaction {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Reads a URL. What is wrong with it is not told: it may hold a password.
fn parse(url: &str) -> Result<Config> {
    // The server's certificate and name are always verified where TLS is required.
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    let url = url.replace("sslmode=verify-ca", "sslmode=require");
    let config: Config = url.parse().map_err(|_| {
        StorageError::invalid_input(
            "the URL of PostgreSQL is not understood: write \
             postgres://user:password@host:port/database, with special characters as %XX",
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(StorageError::invalid_input(
            "the URL of PostgreSQL names no host: write postgres://user:password@host:port/database",
        ));
    }
    Ok(config)
}

/// Where a URL leads, without user and password.
pub(super) fn address_of_url(url: &str) -> String {
    parse(url).map_or_else(|_| "(not understood)".to_owned(), |config| address(&config))
}

fn address(config: &Config) -> String {
    let port = |at: usize| {
        let ports = config.get_ports();
        ports.get(at).or(ports.first()).copied().unwrap_or(5432)
    };
    let hosts: Vec<_> = if config.get_hosts().is_empty() {
        config.get_hostaddrs().iter().map(ToString::to_string).collect()
    } else {
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        config.get_hosts().iter().map(name).collect()
    };
    let hosts: Vec<_> =
        hosts.iter().enumerate().map(|(at, host)| format!("{host}:{}", port(at))).collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests;

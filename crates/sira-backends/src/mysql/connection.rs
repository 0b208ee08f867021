//! Connections: a pool of them, each with its prepared statements.

use std::fmt;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row, SslOpts, Value,
};
use sira_store::{Result, StorageError};

use super::MySqlOptions;
use super::error::{Effect, connect_error, is_collision, storage_error};

/// How often a statement is run again after a collision with others.
const COLLISIONS_MAX: u32 = 8;

/// Wait after the first collision; it doubles with each.
const COLLISION_WAIT: Duration = Duration::from_millis(2);

/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 64;

/// A pool of connections.
pub(super) struct Connections {
    pool: Pool,
    address: String,
    connect_timeout: Duration,
    operation_timeout: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a statement did, and the rows that it answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) changed: u64,
    pub(super) last_insert_id: u64,
}

impl Connections {
    /// A pool that connects when it has to.
    pub(super) fn new(options: &MySqlOptions) -> Result<Self> {
        let opts = parse(&options.url)?;
        let size = options.pool_size.max(1);
        let constraints = PoolConstraints::new(0, size).unwrap_or_default();
        // A reset would cost a round trip and all prepared statements.
        let pool_opts =
            PoolOpts::default().with_constraints(constraints).with_reset_connection(false);
        let address = address(&opts);
        let ssl = opts.ssl_opts().cloned();
        let ssl = match &options.ca_file {
            Some(path) => Some(
                ssl.unwrap_or_else(SslOpts::default)
                    .with_root_certs(vec![path.clone().into()])
                    .with_disable_built_in_roots(true),
            ),
            None => ssl,
        };
        if ssl.is_some() {
            // Fails when there is one already, which is then the process' choice.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let opts = OptsBuilder::from_opts(opts)
            .pool_opts(pool_opts)
            .stmt_cache_size(STATEMENTS_MAX)
            .prefer_socket(false)
            .client_found_rows(false)
            .ssl_opts(ssl)
            .setup(session(options.operation_timeout));
        Ok(Self {
            pool: Pool::new(opts),
            address,
            connect_timeout: options.connect_timeout,
            operation_timeout: options.operation_timeout,
        })
    }

    /// A connection for one caller.
    pub(super) async fn conn(&self) -> Result<Conn> {
        match tokio::time::timeout(self.connect_timeout, self.pool.get_conn()).await {
            Ok(result) => result.map_err(|error| connect_error(error, &self.address)),
            Err(_) => Err(StorageError::unavailable(format!(
                "no connection to MySQL at {} within {:?}: check that it runs, retry later, or \
                 raise pool_size",
                self.address, self.connect_timeout
            ))),
        }
    }

    /// Runs a statement, again after a collision.
    pub(super) async fn run(
        &self,
        text: &str,
        values: Vec<Value>,
        effect: Effect,
    ) -> Result<Answer> {
        let mut collisions = 0;
        let mut values = Some(values);
        loop {
            let mut conn = self.conn().await?;
            // Kept for another try only where there may be one.
            let sent = match effect {
                Effect::Write => values.clone(),
                Effect::Read => values.take(),
            };
            let task = run(&mut conn, text, sent.unwrap_or_default());
            // A connection that is dropped while it waits for an answer is closed.
            let result = tokio::time::timeout(self.operation_timeout, task).await;
            drop(conn);
            match result {
                Err(_) => return Err(self.late(effect)),
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if effect == Effect::Write && is_collision(&error) => {
                    if !wait_for_others(&mut collisions).await {
                        return Err(storage_error(error, effect));
                    }
                }
                Ok(Err(error)) => return Err(storage_error(error, effect)),
            }
        }
    }

    /// The error of a statement that was not answered.
    pub(super) fn late(&self, effect: Effect) -> StorageError {
        let time = self.operation_timeout;
        StorageError::timeout(format!("MySQL did not answer within {time:?}"))
            .with_retry(effect.unanswered())
    }

    /// How long a statement may take.
    pub(super) fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }
}

/// Runs a statement.
pub(super) async fn run(
    conn: &mut impl Queryable,
    text: &str,
    values: Vec<Value>,
) -> Result<Answer, Error> {
    let mut result = conn.exec_iter(text, values).await?;
    let rows = result.collect().await?;
    let (changed, last_insert_id) =
        (result.affected_rows(), result.last_insert_id().unwrap_or_default());
    result.drop_result().await?;
    Ok(Answer { rows, changed, last_insert_id })
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

/// What every connection begins with, whatever the server's defaults are.
fn session(operation_timeout: Duration) -> Vec<String> {
    // The server gives up before its client does, and then nothing was changed.
    let seconds = operation_timeout.as_secs().saturating_sub(1).clamp(1, 3600);
    vec![
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        format!(
            "SET SESSION innodb_lock_wait_timeout = {seconds}, \
             sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' \
             /*!80000 , information_schema_stats_expiry = 0 */"
        ),
    ]
}

/// Reads a URL. What is wrong with it is not told: it may hold a password.
fn parse(url: &str) -> Result<Opts> {
    let opts = Opts::from_url(url).map_err(|_| {
        StorageError::invalid_input(
            "the URL of MySQL is not understood: write mysql://user:password@host:port/database, \
             with special characters as %XX",
        )
    })?;
    if opts.db_name().is_none_or(str::is_empty) {
        return Err(StorageError::invalid_input(
            "the URL of MySQL names no database: write mysql://user:password@host:port/database",
        ));
    }
    Ok(opts)
}

/// Where a URL leads, without user and password.
pub(super) fn address_of_url(url: &str) -> String {
    parse(url).map_or_else(|_| "(not understood)".to_owned(), |opts| address(&opts))
}

fn address(opts: &Opts) -> String {
    let database = opts.db_name().unwrap_or_default();
    format!("{}:{}/{database}", opts.ip_or_hostname(), opts.tcp_port())
}

#[cfg(test)]
mod tests;

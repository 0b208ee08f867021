//! MySQL and MariaDB: one table, one statement an operation.

mod batch;
mod connection;
mod error;
mod row;
mod schema;
mod statements;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Value;
use mysql_async::prelude::Queryable;
use sira_store::backend::{HealthStatus, StorageStats};
use sira_store::driver::{
    Change, CommitError, Driver, DriverBackend, DriverProfile, Expiry, Guard, Held, Listed, Part,
    Place, Record, Scan,
};
use sira_store::env::{Env, SystemEnv};
use sira_store::limits::{BATCH_OPERATIONS_MAX, STREAM_VALUE_BYTES_MAX};
use sira_store::{Result, StorageError, Version};

use crate::sql::table::{TRIES_MAX, check_table_name, overtaken};
use crate::sql::{area_column, check_version, key_text, scan_bounds};
use connection::{Answer, Connections};
use error::{Effect, storage_error};
use row::column;
use statements::{EXPIRED, SIZES, Statements};

/// Largest body of a row, in bytes: a transaction's blobs must fit into a tenth of the redo log of
/// servers that are set up as they come.
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Where a MySQL or MariaDB server is, and how it is used.
#[derive(Clone)]
pub struct MySqlOptions {
    /// `mysql://user:password@host:port/database?option=value`. `require_ssl=true` encrypts and
    /// verifies the server's certificate and name; `verify_ca=false` and `verify_identity=false`
    /// leave that out.
    pub url: String,
    /// The table; made if it is not there.
    pub table_name: String,
    /// Most connections; 16.
    pub pool_size: usize,
    /// Longest time to get a connection, be it a new one or one that others use; 5 s.
    pub connect_timeout: Duration,
    /// Longest time of one operation or batch; 30 s.
    pub operation_timeout: Duration,
    /// Encrypts, and verifies the server's certificate against these authorities (PEM) rather than
    /// the public ones.
    pub ca_file: Option<PathBuf>,
    /// Source of randomness.
    pub env: Arc<dyn Env>,
}

impl MySqlOptions {
    /// The defaults for this server and table.
    #[must_use]
    pub fn new(url: impl Into<String>, table_name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            table_name: table_name.into(),
            pool_size: 16,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            ca_file: None,
            env: Arc::new(SystemEnv),
        }
    }
}

impl fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlOptions")
            .field("url", &connection::address_of_url(&self.url))
            .field("table_name", &self.table_name)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .field("env", &self.env)
            .finish()
    }
}

sira_store::named_backend! {
    /// Objects in a table of a MySQL (8.0 or later) or MariaDB (10.5 or later) database.
    pub struct MySqlBackend;
}

impl MySqlBackend {
    /// Connects, and makes the table where it is not there; see [`MySqlOptions::url`].
    ///
    /// # Errors
    /// As [`MySqlDriver::connect`].
    pub async fn new(url: impl Into<String>, table_name: impl Into<String>) -> Result<Self> {
        Self::connect(MySqlOptions::new(url, table_name)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`MySqlDriver::connect`].
    pub async fn connect(options: MySqlOptions) -> Result<Self> {
        Ok(DriverBackend::new(MySqlDriver::connect(options).await?).into())
    }
}

/// Records in a table of a MySQL or MariaDB database.
#[derive(Debug)]
pub struct MySqlDriver {
    connections: Connections,
    statements: Statements,
    /// Largest packet that the server takes, in bytes.
    packet_bytes_max: u64,
    env: Arc<dyn Env>,
}

impl MySqlDriver {
    /// Connects, and makes the table where it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that can never be right,
    /// [`StorageError::Unavailable`] when the server does not answer,
    /// [`StorageError::PermissionDenied`] when it refuses the user,
    /// [`StorageError::Unsupported`] for a table of a newer version.
    pub async fn connect(options: MySqlOptions) -> Result<Self> {
        check_table_name(&options.table_name)?;
        let connections = Connections::new(&options)?;
        let mut conn = connections.conn().await?;
        schema::prepare(&mut conn, &options.table_name, options.operation_timeout).await?;
        let packet_bytes_max: Option<u64> = conn
            .query_first("SELECT @@max_allowed_packet")
            .await
            .map_err(|error| storage_error(error, Effect::Read))?;
        Ok(Self {
            connections,
            statements: Statements::new(&options.table_name),
            packet_bytes_max: packet_bytes_max.unwrap_or(1 << 20),
            env: options.env,
        })
    }

    async fn one(&self, text: &str, values: Vec<Value>, body: bool) -> Result<Option<Record>> {
        let mut answer = self.connections.run(text, values, Effect::Read).await?;
        answer.rows.first_mut().map(|row| row::record(row, body)).transpose()
    }

    async fn held(&self, target: &Target<'_>) -> Result<Option<Held>> {
        let statement = &self.statements.held;
        let values = statement.values(target, None);
        let mut answer = self.connections.run(&statement.text, values, Effect::Read).await?;
        answer.rows.first_mut().map(row::held).transpose()
    }
}

/// What a statement is about, and what must hold.
struct Target<'a> {
    namespace: &'a [u8],
    area: u8,
    key: &'a [u8],
    guard: Guard,
}

impl<'a> Target<'a> {
    fn new(place: &'a Place, key: &'a str, guard: Guard) -> Self {
        let area = u8::try_from(area_column(place.area)).unwrap_or_default();
        Self { namespace: place.namespace.as_bytes(), area, key: key.as_bytes(), guard }
    }

    /// Namespace, area and keys.
    fn among(place: &Place, keys: impl Iterator<Item = &'a [u8]>) -> Vec<Value> {
        let mut values = vec![
            Value::Bytes(place.namespace.as_bytes().to_vec()),
            Value::Int(area_column(place.area).into()),
        ];
        values.extend(keys.map(|key| Value::Bytes(key.to_vec())));
        values
    }
}

/// What a put did.
enum Outcome {
    /// It was made with this version.
    Done(Version),
    /// Nothing; what was held.
    Left(Option<Held>),
}

/// What a put did, by the numbers of its answer.
fn outcome(answer: &Answer, version: Version, is_update: bool) -> Outcome {
    match (answer.changed, answer.last_insert_id) {
        (0, 0) => Outcome::Left(None),
        (0, held) => Outcome::Left(Some(Held {
            version: Version::from_u64(held & !EXPIRED),
            expires_at_ms: (held & EXPIRED != 0).then_some(0),
        })),
        // Row by row an insertion counts as one, a replacement as two.
        (1, _) if !is_update => Outcome::Done(version),
        (_, version) => Outcome::Done(Version::from_u64(version)),
    }
}

fn is_update(guard: Guard) -> bool {
    use sira_store::Condition::{IfMatch, IfPresent};
    matches!(guard.condition, IfPresent | IfMatch(_))
}

/// Cuts a slice into parts of the sizes that there are statements for.
fn parts<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= all.len())?;
        let (part, rest) = all.split_at(size);
        all = rest;
        Some(part)
    })
}

#[async_trait]
impl Driver for MySqlDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "mysql",
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: true,
            atomic_batch: true,
            commit_changes_max: BATCH_OPERATIONS_MAX,
            // Key and envelope go along.
            body_bytes_max: (self.packet_bytes_max / 4 * 3).min(BODY_BYTES_MAX),
            value_bytes_max: STREAM_VALUE_BYTES_MAX,
        }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        check_version(record.version)?;
        let target = Target::new(place, key, guard);
        let statement = self.statements.put(guard.condition, guard.exact)?;
        for _ in 0..TRIES_MAX {
            let values = statement.values(&target, Some((&record, self.env.random_u64())));
            let answer = self.connections.run(&statement.text, values, Effect::Write).await?;
            match outcome(&answer, record.version, is_update(guard)) {
                Outcome::Done(version) => return Ok(version),
                Outcome::Left(held) => guard.admit(held, record.version)?,
            };
        }
        Err(overtaken())
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let target = Target::new(place, key, Guard::always(0));
        let (statement, body) = match part {
            Part::Head => (&self.statements.head, false),
            Part::Whole => (&self.statements.whole, true),
            Part::Range(range) => {
                // The first byte is byte 1.
                let mut values = vec![
                    Value::UInt(range.start.min(BODY_BYTES_MAX) + 1),
                    Value::UInt(range.end.saturating_sub(range.start).min(BODY_BYTES_MAX)),
                ];
                values.extend(Target::among(place, [key.as_bytes()].into_iter()));
                return self.one(&self.statements.range(), values, true).await;
            }
        };
        self.one(&statement.text, statement.values(&target, None), body).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let target = Target::new(place, key, guard);
        let statement = self.statements.remove(guard.condition)?;
        for _ in 0..TRIES_MAX {
            let values = statement.values(&target, None);
            let answer = self.connections.run(&statement.text, values, Effect::Write).await?;
            if answer.changed > 0 {
                return Ok(true);
            }
            // Where the condition let it through, there was nothing that had not expired.
            if guard.is_blind() || !guard.admit_removal(self.held(&target).await?)? {
                return Ok(false);
            }
        }
        Err(overtaken())
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let (begin, end) = scan_bounds(&scan);
        let mut values = Target::among(place, [&begin[..], &end].into_iter());
        values.push(Value::UInt(scan.limit as u64));
        let answer = self.connections.run(&self.statements.scan(), values, Effect::Read).await?;
        let mut listed = Vec::with_capacity(answer.rows.len());
        for mut row in answer.rows {
            listed.push(Listed {
                key: key_text(column(&mut row, 0)?)?,
                size: column(&mut row, 1)?,
                version: Some(Version::from_u64(column(&mut row, 2)?)),
                expiry: Expiry::from(column::<Option<u64>>(&mut row, 3)?),
            });
        }
        Ok(listed)
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let mut found = HashMap::with_capacity(keys.len());
        // Small leftovers repeat a key rather than take a statement of their own.
        for keys in keys.chunks(SIZES[0]) {
            let size = SIZES.into_iter().rev().find(|size| *size >= keys.len()).unwrap_or(SIZES[0]);
            let last = keys.last().into_iter().cycle();
            let keys = keys.iter().chain(last).take(size).map(|key| key.as_bytes());
            let values = Target::among(place, keys);
            let text = self.statements.many(size);
            for mut row in self.connections.run(&text, values, Effect::Read).await?.rows {
                let key: Vec<u8> = column(&mut row, 5)?;
                found.insert(key, row::record(&mut row, true)?);
            }
        }
        Ok(keys.iter().map(|key| found.remove(key.as_bytes())).collect())
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        batch::apply(self, place, changes).await
    }

    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        batch::commit(self, place, &changes).await
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let values = vec![Value::UInt(now_ms), Value::UInt(limit as u64)];
        let answer =
            self.connections.run(&self.statements.collect(), values, Effect::Write).await?;
        Ok(answer.changed)
    }

    async fn stats(&self) -> Result<StorageStats> {
        let text = "SELECT TABLE_ROWS, DATA_LENGTH, INDEX_LENGTH, DATA_FREE \
                    FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let values = vec![Value::Bytes(self.statements.table.clone().into_bytes())];
        let mut answer = self.connections.run(text, values, Effect::Read).await?;
        let row = answer.rows.first_mut().ok_or_else(|| {
            StorageError::not_found(format!("table {} is not there", self.statements.table))
        })?;
        let mut figure = |at| column::<Option<u64>>(row, at).map(Option::unwrap_or_default);
        let (keys, data, index, free) = (figure(0)?, figure(1)?, figure(2)?, figure(3)?);
        Ok(StorageStats {
            keys,
            live_bytes: data,
            dead_bytes: free,
            used_bytes: data + index + free,
            ..StorageStats::default()
        })
    }

    async fn health_check(&self) -> HealthStatus {
        let text = "SELECT @@global.read_only";
        let answer = match self.connections.run(text, Vec::new(), Effect::Read).await {
            Ok(answer) => answer,
            Err(error) => return HealthStatus::Critical(error.to_string()),
        };
        let mut rows = answer.rows;
        if rows.first_mut().is_some_and(|row| column(row, 0).unwrap_or(0_u8) != 0) {
            return HealthStatus::Warning("the server takes no writes".to_owned());
        }
        HealthStatus::Healthy
    }
}

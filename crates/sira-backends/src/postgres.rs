//! PostgreSQL: one table, one statement an operation.

mod batch;
mod connection;
mod error;
mod row;
mod schema;
mod statements;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::backend::{HealthStatus, StorageStats};
use sira_store::driver::{
    Change, CommitError, Driver, DriverBackend, DriverProfile, Expiry, Guard, Held, Listed, Part,
    Place, Record, Scan,
};
use sira_store::limits::{BATCH_OPERATIONS_MAX, STREAM_VALUE_BYTES_MAX};
use sira_store::{Condition, Result, StorageError, Version};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::sql::number::{time_column, time_from, unsigned, version_column};
use crate::sql::table::{TRIES_MAX, check_table_name, overtaken};
use crate::sql::{area_column, key_text, scan_bounds};
use connection::Connections;
use error::Effect;
use row::column;
use statements::Statements;

/// Largest body of a row, in bytes; the engine's own limit is 1 GiB for a whole row.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most keys of one statement that reads several.
const KEYS_MAX: usize = 1000;

/// Where a PostgreSQL server is, and how it is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?option=value`, or the form `host=... user=...`.
    /// Several hosts are tried in turn; `target_session_attrs=read-write` picks the primary.
    /// `sslmode` is `prefer` (encrypts where the server can, trusting any certificate), `require`
    /// (the certificate and its name must be right) or `disable`.
    pub url: String,
    /// The table, `name` or `schema.name`; made if it is not there.
    pub table_name: String,
    /// Most connections; 16.
    pub pool_size: usize,
    /// Longest time to get a connection, be it a new one or one that others use; 5 s.
    pub connect_timeout: Duration,
    /// Longest time of one operation or batch; 30 s.
    pub operation_timeout: Duration,
    /// Certificates of the authorities that the server's is verified against, as PEM; the public
    /// ones where none is named. With it, `prefer` verifies as `require` does.
    pub ca_file: Option<PathBuf>,
}

impl PostgresOptions {
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
        }
    }

    /// Schema and name of the table.
    fn table(&self) -> Result<(Option<&str>, &str)> {
        let (schema, name) = match self.table_name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, self.table_name.as_str()),
        };
        if let Some(schema) = schema {
            check_table_name(schema)?;
        }
        check_table_name(name)?;
        Ok((schema, name))
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("url", &connection::address_of_url(&self.url))
            .field("table_name", &self.table_name)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

sira_store::named_backend! {
    /// Objects in a table of a PostgreSQL database (version 11 or later).
    pub struct PostgresBackend;
}

impl PostgresBackend {
    /// Connects, and makes the table where it is not there; see [`PostgresOptions::url`].
    ///
    /// # Errors
    /// As [`PostgresDriver::connect`].
    pub async fn new(url: impl Into<String>, table_name: impl Into<String>) -> Result<Self> {
        Self::connect(PostgresOptions::new(url, table_name)).await
    }

    /// Connects with options of all kinds.
    ///
    /// # Errors
    /// As [`PostgresDriver::connect`].
    pub async fn connect(options: PostgresOptions) -> Result<Self> {
        Ok(DriverBackend::new(PostgresDriver::connect(options).await?).into())
    }
}

/// Records in a table of a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresDriver {
    connections: Connections,
    statements: Statements,
}

impl PostgresDriver {
    /// Connects, and makes the table where it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that can never be right,
    /// [`StorageError::Unavailable`] when the server does not answer,
    /// [`StorageError::PermissionDenied`] when it refuses the user,
    /// [`StorageError::Unsupported`] for a table of a newer version.
    pub async fn connect(options: PostgresOptions) -> Result<Self> {
        let (schema, name) = options.table()?;
        let statements = Statements::new(schema, name);
        let name = name.to_owned();
        let connections = Connections::new(&options)?;
        let mut client = connections.client().await?;
        schema::prepare(&mut client, &statements.table, &name).await?;
        drop(client);
        Ok(Self { connections, statements })
    }

    /// The record of the only row, if there is one.
    async fn one(
        &self,
        text: &str,
        parameters: Parameters<'_>,
        body: bool,
    ) -> Result<Option<Record>> {
        let rows = self.connections.query(text, parameters, Effect::Read).await?;
        rows.into_iter().next().map(|row| row::record(row, body)).transpose()
    }
}

/// Parameters of a statement.
type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a statement is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Put,
    Remove,
    /// Hold what is there as it is until the transaction ends.
    Hold,
}

/// A write, as parameters of a statement.
struct Write<'a> {
    aim: Aim,
    namespace: &'a [u8],
    area: i16,
    key: &'a [u8],
    record: Option<Columns<'a>>,
    now: i64,
    version: i64,
    guard: Guard,
}

/// A record, as columns.
struct Columns<'a> {
    version: i64,
    expires_at: Option<i64>,
    size: i64,
    envelope: &'a [u8],
    body: &'a [u8],
}

impl<'a> Columns<'a> {
    fn new(record: &'a Record) -> Result<Self> {
        Ok(Self {
            version: version_column(record.version)?,
            expires_at: record.expires_at_ms.map(time_column),
            size: time_column(record.size),
            envelope: &record.envelope,
            body: &record.body,
        })
    }
}

impl<'a> Write<'a> {
    fn new(
        place: &'a Place,
        key: &'a str,
        record: Option<&'a Record>,
        guard: Guard,
    ) -> Result<Self> {
        let version = match guard.condition {
            Condition::IfMatch(version) | Condition::IfNoneMatch(version) => {
                // One that cannot be stored equals none.
                i64::try_from(version.as_u64()).unwrap_or(-1)
            }
            _ => 0,
        };
        Ok(Self {
            aim: if record.is_some() { Aim::Put } else { Aim::Remove },
            namespace: place.namespace.as_bytes(),
            area: area_column(place.area),
            key: key.as_bytes(),
            record: record.map(Columns::new).transpose()?,
            now: time_column(guard.now_ms),
            version,
            guard,
        })
    }

    fn text<'s>(&self, statements: &'s Statements) -> &'s str {
        match self.aim {
            Aim::Put => statements.put(self.guard.condition, self.guard.exact),
            Aim::Remove => statements.remove(self.guard.condition),
            Aim::Hold => &statements.hold,
        }
    }

    fn hold(place: &'a Place, key: &'a str, guard: Guard) -> Result<Self> {
        Ok(Self { aim: Aim::Hold, ..Self::new(place, key, None, guard)? })
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.namespace, &self.area, &self.key];
        if let Some(record) = &self.record {
            all.push(&record.version);
            all.push(&record.expires_at);
            all.push(&record.size);
            all.push(&record.envelope);
            all.push(&record.body);
        }
        match self.guard.condition {
            _ if self.aim == Aim::Hold => {}
            Condition::Always => {}
            Condition::IfAbsent | Condition::IfPresent => all.push(&self.now),
            Condition::IfMatch(_) | Condition::IfNoneMatch(_) => {
                all.push(&self.now);
                all.push(&self.version);
            }
        }
        all
    }

    /// What the statement answered.
    fn outcome(&self, rows: &[Row]) -> Result<Outcome> {
        let Some(row) = rows.first() else { return Ok(Outcome::Left(None)) };
        if self.record.is_some() && self.guard.is_blind() {
            let version = row::version(row, 0)?;
            return Ok(Outcome::Done(Held { version, expires_at_ms: None }));
        }
        let held = row::held(row, 1)?;
        Ok(if column(row, 0)? { Outcome::Done(held) } else { Outcome::Left(Some(held)) })
    }
}

/// What a write did.
enum Outcome {
    /// The row that was put or removed.
    Done(Held),
    /// Nothing; the row as it was when the statement began.
    Left(Option<Held>),
}

#[async_trait]
impl Driver for PostgresDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "postgres",
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: true,
            atomic_batch: true,
            commit_changes_max: BATCH_OPERATIONS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            value_bytes_max: STREAM_VALUE_BYTES_MAX,
        }
    }

    fn writes_in_one_step(&self) -> bool {
        true
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let write = Write::new(place, key, Some(&record), guard)?;
        for _ in 0..TRIES_MAX {
            let text = write.text(&self.statements);
            let rows = self.connections.query(text, &write.parameters(), Effect::Write).await?;
            match write.outcome(&rows)? {
                Outcome::Done(held) => return Ok(held.version),
                // What was held when the statement began lets the write through: it has changed.
                Outcome::Left(held) => guard.admit(held, record.version)?,
            };
        }
        Err(overtaken())
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let (namespace, area) = (place.namespace.as_bytes(), area_column(place.area));
        let key = key.as_bytes();
        match part {
            Part::Head => self.one(&self.statements.head, &[&namespace, &area, &key], false).await,
            Part::Whole => self.one(&self.statements.whole, &[&namespace, &area, &key], true).await,
            Part::Range(range) => {
                // Places in a body are far smaller; the first byte is byte 1.
                let place = |at: u64| i32::try_from(at).unwrap_or(i32::MAX - 1);
                let begin = place(range.start);
                let length = place(range.end).saturating_sub(begin).max(0);
                let begin = begin + 1;
                let parameters: Parameters<'_> = &[&namespace, &area, &key, &begin, &length];
                self.one(&self.statements.range, parameters, true).await
            }
        }
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let write = Write::new(place, key, None, guard)?;
        for _ in 0..TRIES_MAX {
            let text = write.text(&self.statements);
            let rows = self.connections.query(text, &write.parameters(), Effect::Write).await?;
            match write.outcome(&rows)? {
                Outcome::Done(held) => return Ok(held.lives(guard.now_ms)),
                Outcome::Left(held) => {
                    if !guard.admit_removal(held)? {
                        return Ok(false);
                    }
                }
            }
        }
        Err(overtaken())
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let (begin, end) = scan_bounds(&scan);
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
        let (namespace, area) = (place.namespace.as_bytes(), area_column(place.area));
        let parameters: Parameters<'_> = &[&namespace, &area, &begin, &end, &limit];
        let rows = self.connections.query(&self.statements.scan, parameters, Effect::Read).await?;
        let listed = |row: &Row| {
            let expires_at: Option<i64> = column(row, 3)?;
            Ok(Listed {
                key: key_text(column(row, 0)?)?,
                size: unsigned(column(row, 1)?)?,
                version: Some(row::version(row, 2)?),
                expiry: Expiry::from(expires_at.map(time_from).transpose()?),
            })
        };
        rows.iter().map(listed).collect()
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let (namespace, area) = (place.namespace.as_bytes(), area_column(place.area));
        let mut records = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let wanted: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            let parameters: Parameters<'_> = &[&namespace, &area, &wanted];
            let rows =
                self.connections.query(&self.statements.many, parameters, Effect::Read).await?;
            let mut found = std::collections::HashMap::with_capacity(rows.len());
            for row in rows {
                let key: Bytes = Bytes::copy_from_slice(column(&row, 5)?);
                found.insert(key, row::record(row, true)?);
            }
            records.extend(keys.iter().map(|key| found.remove(key.as_bytes())));
        }
        Ok(records)
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
        let (now, limit) = (time_column(now_ms), i64::try_from(limit).unwrap_or(i64::MAX));
        let text = &self.statements.collect;
        let rows = self.connections.query(text, &[&now, &limit], Effect::Write).await?;
        rows.first().map_or(Ok(0), |row| unsigned(column(row, 0)?))
    }

    async fn stats(&self) -> Result<StorageStats> {
        let text = &self.statements.stats;
        let rows = self.connections.query(text, &[&self.statements.table], Effect::Read).await?;
        let row = rows.first().ok_or_else(|| {
            StorageError::not_found(format!("table {} is not there", self.statements.table))
        })?;
        let figure = |at| column::<Option<i64>>(row, at).map(|figure| figure.unwrap_or(0).max(0));
        let (used, keys, dead) =
            (unsigned(figure(0)?)?, unsigned(figure(1)?)?, unsigned(figure(2)?)?);
        // Rows are taken as equally large.
        let dead_bytes = match keys + dead {
            0 => 0,
            rows => {
                u64::try_from(u128::from(used) * u128::from(dead) / u128::from(rows)).unwrap_or(0)
            }
        };
        Ok(StorageStats {
            keys,
            live_bytes: used - dead_bytes,
            dead_bytes,
            used_bytes: used,
            ..StorageStats::default()
        })
    }

    async fn health_check(&self) -> HealthStatus {
        let text = "SELECT pg_is_in_recovery()";
        let replica = match self.connections.query(text, &[], Effect::Read).await {
            Ok(rows) => rows.first().is_some_and(|row| column(row, 0).unwrap_or(false)),
            Err(error) => return HealthStatus::Critical(error.to_string()),
        };
        if replica {
            return HealthStatus::Warning("the server is a replica and takes no writes".to_owned());
        }
        HealthStatus::Healthy
    }
}

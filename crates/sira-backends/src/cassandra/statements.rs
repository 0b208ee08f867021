//! Prepared statements.

use ::scylla::client::session::Session;
use ::scylla::errors::PrepareError;
use ::scylla::statement::Consistency;
use ::scylla::statement::prepared::PreparedStatement;

use super::connect::Table;

/// Every statement that an operation uses.
#[derive(Debug)]
pub(super) struct Statements {
    /// All columns but the body.
    pub(super) head: PreparedStatement,
    /// All columns.
    pub(super) whole: PreparedStatement,
    /// Version and expiry.
    pub(super) held: PreparedStatement,
    /// As `held`, after every transaction that was begun.
    pub(super) held_serial: PreparedStatement,
    /// A page of keys of one bucket.
    pub(super) page: PreparedStatement,
    /// Writes where no row is.
    pub(super) create: PreparedStatement,
    /// Writes over a row whose version and expiry are within bounds, both ends included.
    pub(super) replace: PreparedStatement,
    /// Writes whatever is there, as no transaction.
    pub(super) insert: PreparedStatement,
    /// Removes a row whose version and expiry are within bounds, both ends included.
    pub(super) remove: PreparedStatement,
    /// Sizes, as the node that answers guesses them.
    pub(super) estimates: PreparedStatement,
    /// Whether a node answers.
    pub(super) ping: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session, table: &Table) -> Result<Self, PrepareError> {
        let Table { keyspace, name, serial, .. } = table;
        let row = "namespace = ? AND area = ? AND bucket = ? AND key = ?";
        let columns = "version = ?, expires_at = ?, size = ?, envelope = ?, body = ?";
        let bounds = "version >= ? AND version <= ? AND expires_at >= ? AND expires_at <= ?";
        let read = async |text: String, consistency: Option<Consistency>| {
            let mut statement = session.prepare(text).await?;
            statement.set_is_idempotent(true);
            if let Some(consistency) = consistency {
                statement.set_consistency(consistency);
            }
            Ok::<_, PrepareError>(statement)
        };
        let select = |columns: &str| format!("SELECT {columns} FROM {keyspace}.{name} WHERE {row}");
        let update = |condition: &str| {
            format!("UPDATE {keyspace}.{name} USING TTL ? SET {columns} WHERE {row} IF {condition}")
        };
        let insert = format!(
            "INSERT INTO {keyspace}.{name} (version, expires_at, size, envelope, body, \
             namespace, area, bucket, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"
        );
        let page = format!(
            "SELECT key, version, expires_at, size FROM {keyspace}.{name} \
             WHERE namespace = ? AND area = ? AND bucket = ? AND key >= ? AND key < ? LIMIT ?"
        );
        let remove = format!("DELETE FROM {keyspace}.{name} WHERE {row} IF {bounds}");
        let estimates = format!(
            "SELECT mean_partition_size, partitions_count FROM system.size_estimates \
             WHERE keyspace_name = '{keyspace}' AND table_name = '{name}'"
        );
        Ok(Self {
            head: read(select("version, expires_at, size, envelope"), None).await?,
            whole: read(select("version, expires_at, size, envelope, body"), None).await?,
            held: read(select("version, expires_at"), None).await?,
            held_serial: read(select("version, expires_at"), Some(*serial)).await?,
            page: read(page, None).await?,
            create: session.prepare(update("version = null AND expires_at = null")).await?,
            replace: session.prepare(update(bounds)).await?,
            insert: read(insert, None).await?,
            remove: session.prepare(remove).await?,
            estimates: read(estimates, Some(Consistency::One)).await?,
            ping: read("SELECT key FROM system.local".to_owned(), Some(Consistency::One)).await?,
        })
    }
}

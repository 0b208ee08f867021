//! The table, made and brought up to date.

use deadpool_postgres::{Client, GenericClient};
use sira_store::{Result, StorageError};
use tokio_postgres::Error;

use super::error::{Effect, storage_error};
use super::row::column;

/// What brings the table from each layout to the next; the first makes it.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE {table} (
        version    bigint   NOT NULL,
        expires_at bigint,
        size       bigint   NOT NULL,
        area       smallint NOT NULL,
        namespace  bytea    NOT NULL,
        key        bytea    NOT NULL,
        envelope   bytea    NOT NULL,
        body       bytea    NOT NULL,
        PRIMARY KEY (namespace, area, key)
    );
    -- Neither compressed nor read whole for a part of it.
    ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE INDEX \"{name}_expiry\" ON {table} (expires_at) WHERE expires_at IS NOT NULL;
"];

/// How the comment of the table begins; the number of its layout follows.
const COMMENT: &str = "Objects of Sira, layout ";

/// Makes the table, or brings it up to date. Processes that do so at once wait for each other; a
/// table that is up to date takes no more than the right to read it.
pub(super) async fn prepare(client: &mut Client, table: &str, name: &str) -> Result<()> {
    if layout(&*client, table).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let failed = |error: Error| storage_error(&error, Effect::Write).with_source(error);
    let transaction = client.transaction().await.map_err(failed)?;
    let lock = "SELECT pg_advisory_xact_lock(hashtext($1))";
    transaction.execute(lock, &[&format!("sira {table}")]).await.map_err(failed)?;
    let held = layout(&transaction, table).await?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(held) {
        let migration = migration.replace("{table}", table).replace("{name}", name);
        let comment = format!("COMMENT ON TABLE {table} IS '{COMMENT}{}'", number + 1);
        transaction.batch_execute(&migration).await.map_err(failed)?;
        transaction.batch_execute(&comment).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// A statement over `pg_class` itself, so that a server process that has just seen that there is no
/// table looks again.
const COMMENT_OF: &str =
    "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass($1)";

/// Number of the layout that the table has; 0 when there is none.
async fn layout(client: &impl GenericClient, table: &str) -> Result<usize> {
    let failed = |error: Error| storage_error(&error, Effect::Read).with_source(error);
    let Some(row) = client.query_opt(COMMENT_OF, &[&table]).await.map_err(failed)? else {
        return Ok(0);
    };
    let comment: Option<&str> = column(&row, 0)?;
    let number = comment
        .and_then(|comment| comment.strip_prefix(COMMENT))
        .and_then(|number| number.parse().ok());
    match number {
        Some(number @ 1..) if number <= MIGRATIONS.len() => Ok(number),
        Some(number) => Err(StorageError::unsupported(format!(
            "table {table} has layout {number}, and this version knows up to {}: use the version \
             that wrote it, or a newer one",
            MIGRATIONS.len()
        ))),
        None => Err(StorageError::invalid_input(format!(
            "table {table} is there and none of Sira's: name another one"
        ))),
    }
}

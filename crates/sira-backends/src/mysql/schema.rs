//! The table, made and brought up to date.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use sira_store::{Result, StorageError};

use super::error::{Effect, storage_error};

/// What brings the table from each layout to the next, and says so in its comment; the first makes
/// it.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE IF NOT EXISTS `{table}` (
        namespace  VARBINARY(128)   NOT NULL,
        area       TINYINT UNSIGNED NOT NULL,
        `key`      VARBINARY(1024)  NOT NULL,
        stamp      BIGINT UNSIGNED  NOT NULL,
        version    BIGINT UNSIGNED  NOT NULL,
        expires_at BIGINT UNSIGNED,
        size       BIGINT UNSIGNED  NOT NULL,
        envelope   MEDIUMBLOB       NOT NULL,
        body       LONGBLOB         NOT NULL,
        PRIMARY KEY (namespace, area, `key`),
        KEY expiry (expires_at)
    ) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, COMMENT = '{comment}'
"];

/// How the comment of the table begins; the number of its layout follows.
const COMMENT: &str = "Objects of Sira, layout ";

/// Makes the table, or brings it up to date. Processes that do so at once wait for each other; a
/// table that is up to date takes no more than the right to read it.
pub(super) async fn prepare(conn: &mut Conn, table: &str, patience: Duration) -> Result<()> {
    if layout(conn, table).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let failed = |error: Error| storage_error(error, Effect::Write);
    let lock = format!("sira {table}");
    let seconds = patience.as_secs().max(1);
    let got: Option<Option<u8>> =
        conn.exec_first("SELECT GET_LOCK(?, ?)", (&lock, seconds)).await.map_err(failed)?;
    if got.flatten() != Some(1) {
        return Err(StorageError::unavailable(format!(
            "another process has been making table {table} for {seconds} s; retry later"
        )));
    }
    let result = migrate(conn, table).await;
    // A lock that is not released goes with its connection.
    conn.exec_drop("SELECT RELEASE_LOCK(?)", (&lock,)).await.map_err(failed)?;
    result
}

async fn migrate(conn: &mut Conn, table: &str) -> Result<()> {
    let held = layout(conn, table).await?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(held) {
        let comment = format!("{COMMENT}{}", number + 1);
        let migration = migration.replace("{table}", table).replace("{comment}", &comment);
        conn.query_drop(migration).await.map_err(|error| storage_error(error, Effect::Write))?;
    }
    Ok(())
}

/// Number of the layout that the table has; 0 when there is none.
async fn layout(conn: &mut Conn, table: &str) -> Result<usize> {
    let question = "SELECT TABLE_COMMENT FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
    let comment: Option<String> = conn
        .exec_first(question, (table,))
        .await
        .map_err(|error| storage_error(error, Effect::Read))?;
    let Some(comment) = comment else { return Ok(0) };
    match comment.strip_prefix(COMMENT).and_then(|number| number.parse().ok()) {
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

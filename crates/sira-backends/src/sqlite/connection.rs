//! Opening a database, and its schema.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use sira_store::{Result, StorageError};

use super::error::storage_error;
use super::{SqliteOptions, Synchronous};

/// "Sira" in ASCII: what says in the file's head that the database is one of ours.
const APPLICATION_ID: i32 = 0x5369_7261;

/// Bytes of a page: objects are larger than the rows that SQLite's own choice is made for.
const PAGE_BYTES: usize = 8192;

/// Most bytes of the write-ahead log that stay on disk after a checkpoint.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// Wait before a lock is tried again.
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// What brings the schema from each layout to the next. The number of the layout stands in
/// `user_version`.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE objects (
        namespace  BLOB    NOT NULL,
        area       INTEGER NOT NULL,
        key        BLOB    NOT NULL,
        version    INTEGER NOT NULL,
        expires_at INTEGER,
        size       INTEGER NOT NULL,
        envelope   BLOB    NOT NULL,
        body       BLOB    NOT NULL,
        PRIMARY KEY (namespace, area, key)
    ) STRICT;
    CREATE INDEX expiry ON objects (expires_at) WHERE expires_at IS NOT NULL;
"];

/// Opens the database for writing, makes it where it is not there, and brings it up to date.
pub(super) fn open_writer(options: &SqliteOptions) -> Result<Connection> {
    check_path(&options.path)?;
    if let Some(folder) = options.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = open(options, flags)?;
    prepare(&mut connection, options)?;
    Ok(connection)
}

/// Opens a database that is there, for reading.
pub(super) fn open_reader(options: &SqliteOptions) -> Result<Connection> {
    open(options, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Paths that SQLite takes for something else than files are refused.
fn check_path(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.is_empty() || text.starts_with(":memory:") || text.starts_with("file:") {
        return Err(StorageError::invalid_input(format!(
            "{text:?} is no path of a database file; to keep objects in memory, use the memory \
             backend"
        )));
    }
    Ok(())
}

fn open(options: &SqliteOptions, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&options.path, flags)?;
        connection.busy_timeout(options.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(32);
        let kib = i64::try_from(options.cache_bytes / 1024).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -kib)?;
        Ok(connection)
    };
    opened().map_err(|error| {
        let path = options.path.display().to_string();
        match storage_error(error) {
            StorageError::NotFound(detail) => {
                StorageError::not_found(format!("{path}: {}", detail.message))
            }
            error => error,
        }
    })
}

/// Sets the connection up and makes or migrates the schema. Processes that do so at once wait for
/// each other.
fn prepare(connection: &mut Connection, options: &SqliteOptions) -> Result<()> {
    // A database that is not ours is not touched. Looked at in one transaction, so that another
    // process that makes it is not seen half done.
    let held = layout(&connection.transaction().map_err(storage_error)?)?;
    let settings = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        let synchronous = match options.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
            Synchronous::Off => "OFF",
        };
        connection.pragma_update(None, "synchronous", synchronous)
    };
    settings().map_err(storage_error)?;
    write_ahead(connection, options)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))
        .map_err(storage_error)?;
    if held == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(storage_error)?;
    let held = layout(&transaction)?;
    let migrate = || -> rusqlite::Result<()> {
        for migration in MIGRATIONS.iter().skip(held) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())
    };
    migrate().map_err(storage_error)?;
    transaction.commit().map_err(storage_error)
}

/// Has changes written to a log ahead of the database file, so that readers and the writer do not
/// wait for each other. The database stays so.
fn write_ahead(connection: &Connection, options: &SqliteOptions) -> Result<()> {
    let begin = options.env.monotonic();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode.map_err(storage_error) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(StorageError::unsupported(format!(
                    "{}: the file system lets processes share no memory (journal mode {mode}); \
                     put the database on a local one",
                    options.path.display()
                )));
            }
            // SQLite does not wait for this lock by itself.
            Err(StorageError::Unavailable(_))
                if options.env.monotonic().saturating_sub(begin) < options.busy_timeout =>
            {
                options.env.sleep(LOCK_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Number of the layout that the database has; 0 when it is empty.
fn layout(transaction: &Transaction) -> Result<usize> {
    let number = |name| {
        transaction
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(storage_error)
    };
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(storage_error)?;
    let (application, layout) = (number("application_id")?, number("user_version")?);
    if application == 0 && layout == 0 && tables == 0 {
        return Ok(0);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(StorageError::invalid_input(
            "the database file is there and none of Sira's: name another one",
        ));
    }
    match usize::try_from(layout) {
        Ok(layout) if layout <= MIGRATIONS.len() => Ok(layout),
        _ => Err(StorageError::unsupported(format!(
            "the database has layout {layout}, and this version knows up to {}: use the version \
             that wrote it, or a newer one",
            MIGRATIONS.len()
        ))),
    }
}

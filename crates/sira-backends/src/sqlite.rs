//! SQLite: one database file, one writer, several readers.

mod connection;
mod error;
mod queue;
mod reader;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use sira_store::backend::{HealthStatus, StorageStats};
use sira_store::driver::{
    Change, CommitError, Driver, DriverBackend, DriverProfile, Guard, Listed, Part, Place, Record,
    Scan,
};
use sira_store::env::{Env, SystemEnv};
use sira_store::limits::{BATCH_OPERATIONS_MAX, STREAM_VALUE_BYTES_MAX};
use sira_store::{Result, Version};
use tokio::sync::oneshot;

use crate::sql::{area_column, same};
use error::ended;
use queue::Queue;
use reader::Columns;
use writer::{Done, Results, Task};

/// Largest body of a row, in bytes.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// When a write is on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Before it is answered.
    #[default]
    Full,
    /// At the next checkpoint. A crash of the machine can lose the last writes; the database stays
    /// whole.
    Normal,
    /// When the operating system likes. A crash of the machine can damage the database.
    Off,
}

/// Where a database is, and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file, made with its folder if it is not there. Not on a network's file system.
    pub path: PathBuf,
    /// When a write is on the medium; before it is answered.
    pub synchronous: Synchronous,
    /// Threads that read; 4.
    pub readers: usize,
    /// Longest wait for another process that writes; 5 s.
    pub busy_timeout: Duration,
    /// Memory for pages, for each thread, in bytes; 16 MiB.
    pub cache_bytes: u64,
    /// Source of threads.
    pub env: Arc<dyn Env>,
}

impl SqliteOptions {
    /// The defaults for this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            synchronous: Synchronous::default(),
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            cache_bytes: 16 * 1024 * 1024,
            env: Arc::new(SystemEnv),
        }
    }
}

/// Something to do with a connection for reading.
type Read = Box<dyn FnOnce(&Connection) + Send>;

sira_store::named_backend! {
    /// Objects in an SQLite database file.
    pub struct SqliteBackend;
}

impl SqliteBackend {
    /// Opens a database, and makes it where it is not there.
    ///
    /// # Errors
    /// As [`SqliteDriver::open`].
    pub async fn new(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open(SqliteOptions::new(path)).await
    }

    /// Opens a database with options of all kinds.
    ///
    /// # Errors
    /// As [`SqliteDriver::open`].
    pub async fn open(options: SqliteOptions) -> Result<Self> {
        Ok(DriverBackend::new(SqliteDriver::open(options).await?).into())
    }
}

/// Records in an SQLite database file. Writes that wait at the same time are made as one
/// transaction. Dropping it waits until what was begun is done and the file is closed.
pub struct SqliteDriver {
    path: PathBuf,
    reads: Arc<Queue<Read>>,
    writes: Arc<Queue<Task>>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl fmt::Debug for SqliteDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDriver").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteDriver {
    /// Opens a database, and makes it where it is not there.
    ///
    /// # Errors
    /// [`sira_store::StorageError::InvalidInput`] for a path or a database that can never be right,
    /// [`sira_store::StorageError::Unsupported`] for a database of a newer version,
    /// [`sira_store::StorageError::Corrupt`] for a file that is no database, and the operating system's.
    pub async fn open(options: SqliteOptions) -> Result<Self> {
        let mut driver = Self {
            path: options.path.clone(),
            reads: Arc::new(Queue::new()),
            writes: Arc::new(Queue::new()),
            readers: Vec::new(),
            writer: None,
        };
        let env = Arc::clone(&options.env);
        let (opened, connections) = oneshot::channel::<Result<Vec<Connection>>>();
        let writes = Arc::clone(&driver.writes);
        let write = move || {
            let open = || -> Result<_> {
                let writer = connection::open_writer(&options)?;
                let readers =
                    (0..options.readers.max(1)).map(|_| connection::open_reader(&options));
                Ok((writer, readers.collect::<Result<Vec<_>>>()?))
            };
            match open() {
                Ok((connection, readers)) => {
                    if opened.send(Ok(readers)).is_ok() {
                        writer::work(&connection, &writes);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        driver.writer = Some(env.spawn("sqlite-write", Box::new(write))?);
        for connection in connections.await.map_err(|_| ended())?? {
            let reads = Arc::clone(&driver.reads);
            let read = move || {
                while let Some(read) = reads.pop() {
                    read(&connection);
                }
            };
            driver.readers.push(env.spawn("sqlite-read", Box::new(read))?);
        }
        Ok(driver)
    }

    /// What a reader answers.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.reads.push(Box::new(move |connection| {
            if !reply.is_closed() {
                drop(reply.send(read(connection)));
            }
        }));
        answer.await.map_err(|_| ended())?
    }

    /// What the writer answers.
    async fn write(&self, place: &Place, changes: Vec<Change>, atomic: bool) -> Results {
        let (reply, answer) = oneshot::channel();
        self.writes.push(Task::Changes { place: columns(place), changes, atomic, reply });
        answer.await.map_err(|_| ended())?
    }

    async fn write_one(&self, place: &Place, change: Change) -> Result<Done> {
        let results =
            self.write(place, vec![change], false).await.map_err(|failed| failed.error)?;
        results.into_iter().next().unwrap_or_else(|| Err(ended()))
    }
}

impl Drop for SqliteDriver {
    fn drop(&mut self) {
        self.reads.close();
        self.writes.close();
        // The writer closes the file last, and empties the write-ahead log into it.
        for thread in self.readers.drain(..).chain(self.writer.take()) {
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of a database panicked");
            }
        }
    }
}

fn columns(place: &Place) -> Columns {
    Columns { namespace: place.namespace.as_bytes().to_vec(), area: area_column(place.area) }
}

fn version(done: Done) -> Option<Version> {
    match done {
        Done::Put(version) => Some(version),
        Done::Removed(_) => None,
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "sqlite",
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
        let change = Change::Put { key: key.to_owned(), record, guard };
        version(self.write_one(place, change).await?).ok_or_else(ended)
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let (place, key) = (columns(place), key.to_owned());
        self.read(move |connection| reader::get(connection, &place, &key, part)).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let change = Change::Remove { key: key.to_owned(), guard };
        Ok(self.write_one(place, change).await? == Done::Removed(true))
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let place = columns(place);
        self.read(move |connection| reader::scan(connection, &place, &scan)).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let (place, keys) = (columns(place), keys.to_vec());
        self.read(move |connection| reader::get_many(connection, &place, &keys)).await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        let count = changes.len();
        match self.write(place, changes, false).await {
            Ok(results) => results.into_iter().map(|result| result.map(version)).collect(),
            Err(failed) => (0..count).map(|_| Err(same(&failed.error))).collect(),
        }
    }

    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        let results = self.write(place, changes, true).await?;
        let each = |result: Result<Done>| result.map(version).map_err(CommitError::from);
        results.into_iter().map(each).collect()
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        self.writes.push(Task::Collect { now_ms, limit, reply });
        answer.await.map_err(|_| ended())?
    }

    async fn stats(&self) -> Result<StorageStats> {
        let path = self.path.clone();
        self.read(move |connection| {
            let stats = reader::stats(connection)?;
            let free = rustix::fs::statvfs(&path).map_err(std::io::Error::from)?;
            let available_bytes = Some(free.f_bavail.saturating_mul(free.f_frsize));
            Ok(StorageStats { available_bytes, ..stats })
        })
        .await
    }

    async fn health_check(&self) -> HealthStatus {
        match self.read(reader::ping).await {
            Ok(()) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(error.to_string()),
        }
    }
}

//! RocksDB, within this process: for folders that exist, and where its compaction and compression
//! suit better than the embedded engine.
//!
//! Heads with small bodies, large bodies and expiries are three column families; large bodies lie in
//! blob files, which compaction does not rewrite. Writes are optimistic transactions. One process at
//! a time has a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType, Direction,
    Error, ErrorKind, IteratorMode, OptimisticTransactionDB, OptimisticTransactionOptions, Options,
    ReadOptions, SnapshotWithThreadMode, WriteOptions,
};
use sira_store::driver::{DriverBackend, DriverProfile};
use sira_store::{HealthStatus, Result, Retry, StorageError, StorageStats, limits};

use crate::local::{
    Fault, LocalDriver, Map, Store, Transaction, Verdict, Visitor, available_bytes,
};

type Db = OptimisticTransactionDB;

const HEADS: &str = "heads";
const BODIES: &str = "bodies";
const EXPIRIES: &str = "expiries";

/// Key, in the default column family, of the version of the layout.
const FORMAT_KEY: &[u8] = b"sira-format";

/// Version of the layout.
const FORMAT: &[u8] = b"1";

/// Largest body of one record; larger values are cut, so that none has to be in memory whole.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Largest body that lies with its head.
const BODY_WITH_HEAD_MAX: usize = 4 * 1024;

/// Most changes of one transaction.
const COMMIT_CHANGES_MAX: usize = 10_000;

/// Times that a transaction is run again because another was in the way.
const RETRIES: usize = 1_000;

sira_store::named_backend! {
    /// Objects in RocksDB.
    pub struct RocksDbBackend;
}

impl RocksDbBackend {
    /// Opens the database in a folder, or makes it, with the options' defaults.
    ///
    /// # Errors
    /// As [`RocksDbBackend::open`].
    pub async fn new(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open(RocksDbOptions::new(path)).await
    }

    /// Opens the database in a folder, or makes it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when it is open already, here or in another process,
    /// [`StorageError::Unsupported`] when a newer version wrote it, [`StorageError::InvalidInput`]
    /// when it is another program's, [`StorageError::Corrupt`] and what the file system says.
    pub async fn open(options: RocksDbOptions) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || RocksDb::open(&options)).await;
        let store = opened
            .map_err(|error| StorageError::io("RocksDB could not be opened").with_source(error))?;
        Ok(DriverBackend::new(LocalDriver::new(store?)).into())
    }
}

/// How blocks and blobs are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RocksDbCompression {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

impl From<RocksDbCompression> for DBCompressionType {
    fn from(compression: RocksDbCompression) -> Self {
        match compression {
            RocksDbCompression::None => Self::None,
            RocksDbCompression::Snappy => Self::Snappy,
            RocksDbCompression::Lz4 => Self::Lz4,
            RocksDbCompression::Zstd => Self::Zstd,
        }
    }
}

/// Options of [`RocksDbBackend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// The folder, which is made if it is not there.
    pub path: PathBuf,
    /// Compression of what is written from now on. The default is LZ4.
    pub compression: RocksDbCompression,
    /// Memory for blocks that were read, in bytes. The default is 128 MiB.
    pub block_cache_bytes: usize,
    /// Memory for writes before they go to a file of their own, in bytes, for each of three column
    /// families. The default is 64 MiB.
    pub write_buffer_bytes: usize,
    /// Writes are answered after an fsync that covers them. Without, a crash of the machine can lose
    /// the last ones; a crash of the process loses none. The default is true.
    pub sync: bool,
    /// Threads that flush and compact. The default is 2.
    pub background_jobs: i32,
    /// Most files that are kept open. The default is 1,000.
    pub open_files_max: i32,
}

impl RocksDbOptions {
    /// The defaults, for a folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            compression: RocksDbCompression::default(),
            block_cache_bytes: 128 * 1024 * 1024,
            write_buffer_bytes: 64 * 1024 * 1024,
            sync: true,
            background_jobs: 2,
            open_files_max: 1_000,
        }
    }

    fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(self.background_jobs);
        options.set_max_open_files(self.open_files_max);
        options.set_keep_log_file_num(4);
        options.set_bytes_per_sync(1024 * 1024);
        options
    }

    fn families(&self) -> [ColumnFamilyDescriptor; 3] {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        [HEADS, BODIES, EXPIRIES].map(|name| {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_block_cache(&cache);
            blocks.set_bloom_filter(10.0, false);
            blocks.set_cache_index_and_filter_blocks(true);
            let mut options = Options::default();
            options.set_block_based_table_factory(&blocks);
            options.set_compression_type(self.compression.into());
            options.set_write_buffer_size(self.write_buffer_bytes);
            options.set_level_compaction_dynamic_level_bytes(true);
            if name == BODIES {
                options.set_enable_blob_files(true);
                options.set_min_blob_size(0);
                options.set_blob_compression_type(self.compression.into());
                options.set_enable_blob_gc(true);
            }
            ColumnFamilyDescriptor::new(name, options)
        })
    }
}

struct RocksDb {
    db: Db,
    path: PathBuf,
    sync: bool,
}

impl RocksDb {
    fn open(options: &RocksDbOptions) -> Result<Self> {
        let located = |error: StorageError| {
            error.with_backend(format!("rocksdb in {}", options.path.display()))
        };
        let db = Db::open_cf_descriptors(&options.database(), &options.path, options.families())
            .map_err(|error| located(refused_open(error, &options.path)))?;
        let store = Self { db, path: options.path.clone(), sync: options.sync };
        store.check_format().map_err(located)?;
        Ok(store)
    }

    fn check_format(&self) -> Result<()> {
        match self.db.get(FORMAT_KEY).map_err(storage_error)? {
            Some(format) if format == FORMAT => Ok(()),
            Some(_) => Err(StorageError::unsupported(
                "a newer version wrote this RocksDB folder: use that one, or a newer one",
            )),
            None if self.db.iterator(IteratorMode::Start).next().is_some() => {
                Err(StorageError::invalid_input(format!(
                    "the RocksDB folder {} is another program's; name an empty one",
                    self.path.display()
                )))
            }
            None => self.db.put(FORMAT_KEY, FORMAT).map_err(storage_error),
        }
    }

    fn family(&self, map: Map) -> Result<&ColumnFamily> {
        let name = match map {
            Map::Heads => HEADS,
            Map::Bodies => BODIES,
            Map::Expiries => EXPIRIES,
        };
        let missing = || StorageError::corrupt(format!("RocksDB has no column family {name:?}"));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    fn number(&self, map: Map, property: &str) -> Result<u64> {
        let value = self.db.property_int_value_cf(self.family(map)?, property);
        Ok(value.map_err(storage_error)?.unwrap_or(0))
    }
}

/// A transaction that writes.
struct Writing<'a> {
    store: &'a RocksDb,
    txn: rocksdb::Transaction<'a, Db>,
}

impl Transaction for Writing<'_> {
    fn read(&self, map: Map, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let value = self.txn.get_for_update_cf(self.store.family(map)?, key, true);
        Ok(value.map_err(fault)?.map(Bytes::from))
    }

    fn write(&self, map: Map, key: &[u8], value: Bytes) -> Result<(), Fault> {
        self.txn.put_cf(self.store.family(map)?, key, value).map_err(fault)
    }

    fn remove(&self, map: Map, key: &[u8]) -> Result<(), Fault> {
        self.txn.delete_cf(self.store.family(map)?, key).map_err(fault)
    }
}

/// Reads of one moment.
struct Reading<'a> {
    store: &'a RocksDb,
    snapshot: SnapshotWithThreadMode<'a, Db>,
}

impl Transaction for Reading<'_> {
    fn read(&self, map: Map, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let value = self.snapshot.get_cf(self.store.family(map)?, key);
        Ok(value.map_err(fault)?.map(Bytes::from))
    }

    fn write(&self, _: Map, _: &[u8], _: Bytes) -> Result<(), Fault> {
        Err(read_only().into())
    }

    fn remove(&self, _: Map, _: &[u8]) -> Result<(), Fault> {
        Err(read_only().into())
    }
}

fn read_only() -> StorageError {
    StorageError::read_only("a snapshot takes no writes")
}

impl Store for RocksDb {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "rocksdb",
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: false,
            atomic_batch: true,
            commit_changes_max: COMMIT_CHANGES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            value_bytes_max: limits::STREAM_VALUE_BYTES_MAX,
        }
    }

    fn head_at_hand(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let family = self.family(Map::Heads).ok()?;
        match self.db.key_may_exist_cf_opt_value(family, key, &ReadOptions::default()) {
            (false, _) => Some(None),
            (true, Some(value)) => Some(Some(Bytes::copy_from_slice(value.as_ref()))),
            (true, None) => None,
        }
    }

    fn body_with_head_max(&self) -> usize {
        BODY_WITH_HEAD_MAX
    }

    fn transact<R>(
        &self,
        work: impl Fn(&dyn Transaction) -> Result<Verdict<R>, Fault>,
    ) -> Result<R> {
        let mut options = WriteOptions::default();
        options.set_sync(self.sync);
        for _ in 0..RETRIES {
            let txn = self.db.transaction_opt(&options, &OptimisticTransactionOptions::default());
            let writing = Writing { store: self, txn };
            let ended = match work(&writing) {
                Ok(Verdict::Commit(result)) => writing.txn.commit().map(|()| result).map_err(fault),
                Ok(Verdict::Abort(result)) => {
                    writing.txn.rollback().map(|()| result).map_err(fault)
                }
                Err(fault) => Err(fault),
            };
            match ended {
                Ok(result) => return Ok(result),
                Err(Fault::Again) => {}
                Err(Fault::Failed(error)) => return Err(error),
            }
        }
        Err(contended())
    }

    fn view<R>(&self, work: impl Fn(&dyn Transaction) -> Result<R, Fault>) -> Result<R> {
        let reading = Reading { store: self, snapshot: self.db.snapshot() };
        work(&reading).map_err(|fault| match fault {
            Fault::Again => contended(),
            Fault::Failed(error) => error,
        })
    }

    fn visit(&self, map: Map, from: &[u8], visitor: &mut Visitor<'_>) -> Result<()> {
        let mode = IteratorMode::From(from, Direction::Forward);
        for pair in self.db.iterator_cf(self.family(map)?, mode) {
            let (key, value) = pair.map_err(storage_error)?;
            if !visitor(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn stats(&self) -> Result<StorageStats> {
        let mut stats = StorageStats {
            keys: self.number(Map::Heads, "rocksdb.estimate-num-keys")?,
            available_bytes: available_bytes(&self.path),
            ..StorageStats::default()
        };
        for map in [Map::Heads, Map::Bodies, Map::Expiries] {
            stats.live_bytes += self.number(map, "rocksdb.estimate-live-data-size")?;
            stats.used_bytes += self.number(map, "rocksdb.total-sst-files-size")?;
            stats.index_bytes += self.number(map, "rocksdb.estimate-table-readers-mem")?;
        }
        let blobs = self.number(Map::Bodies, "rocksdb.total-blob-file-size")?;
        let live_blobs = self.number(Map::Bodies, "rocksdb.live-blob-file-size")?;
        stats.used_bytes += blobs;
        stats.live_bytes += live_blobs;
        stats.dead_bytes = stats.used_bytes.saturating_sub(stats.live_bytes);
        Ok(stats)
    }

    fn health(&self) -> HealthStatus {
        let stopped = self.number(Map::Heads, "rocksdb.is-write-stopped");
        let errors = self.number(Map::Heads, "rocksdb.background-errors");
        match (stopped, errors) {
            (Err(error), _) | (_, Err(error)) => HealthStatus::Critical(error.to_string()),
            (_, Ok(1..)) => HealthStatus::Critical(
                "RocksDB met errors while it flushed or compacted; see its LOG file".into(),
            ),
            (Ok(1..), _) => HealthStatus::Warning(
                "RocksDB holds writes back until compaction has caught up".into(),
            ),
            _ => HealthStatus::Healthy,
        }
    }
}

impl fmt::Debug for RocksDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDb").field("path", &self.path).field("sync", &self.sync).finish()
    }
}

fn fault(error: Error) -> Fault {
    match error.kind() {
        ErrorKind::Busy | ErrorKind::TryAgain => Fault::Again,
        _ => Fault::Failed(storage_error(error)),
    }
}

fn contended() -> StorageError {
    StorageError::conflict("other writers were faster each time; nothing was written, try again")
}

fn refused_open(error: Error, path: &Path) -> StorageError {
    let said = error.to_string();
    if said.contains("LOCK") || said.contains("lock ") {
        return StorageError::locked(format!(
            "the RocksDB folder {} is open already, here or in another process",
            path.display()
        ))
        .with_source(error);
    }
    if said.contains("column families not opened") || said.contains("Column families not opened") {
        return StorageError::invalid_input(format!(
            "the RocksDB folder {} is another program's; name an empty one",
            path.display()
        ))
        .with_source(error);
    }
    storage_error(error)
}

fn storage_error(error: Error) -> StorageError {
    let said = error.to_string();
    let kind = match error.kind() {
        ErrorKind::Corruption => StorageError::corrupt(format!("RocksDB found damage: {said}")),
        ErrorKind::IOError if said.contains("No space left") => {
            StorageError::out_of_space("no room is left on the medium of the RocksDB folder")
        }
        ErrorKind::IOError if said.contains("Permission denied") => {
            StorageError::permission_denied(format!("RocksDB may not use its folder: {said}"))
        }
        ErrorKind::ShutdownInProgress => StorageError::unavailable("RocksDB is closing"),
        ErrorKind::TimedOut => StorageError::timeout("RocksDB took too long"),
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            StorageError::io(format!("RocksDB refused the request: {said}"))
                .with_retry(Retry::Permanent)
        }
        _ => StorageError::io(format!("RocksDB failed: {said}")),
    };
    kind.with_source(error)
}

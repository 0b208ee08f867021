//! sled, within this process: for stores that exist. Its project has made no release since 2021, so
//! opening one warns; the embedded engine takes its place.
//!
//! Records lie whole in one tree, expiries in another, and change in transactions over both. One
//! process at a time has a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sira_store::driver::{DriverBackend, DriverProfile};
use sira_store::{HealthStatus, Result, Retry, StorageError, StorageStats, limits};
use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional, TransactionalTree,
    UnabortableTransactionError,
};
use sled::{Db, Error, Tree};

use crate::local::{
    Fault, LocalDriver, Map, Store, Transaction, Verdict, Visitor, available_bytes,
};

/// Key, in the default tree, of the version of the layout.
const FORMAT_KEY: &[u8] = b"sira-format";

/// Version of the layout.
const FORMAT: &[u8] = b"1";

/// Largest body of one record: sled holds values whole in memory while it writes them.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Most changes of one transaction, which holds all others up.
const COMMIT_CHANGES_MAX: usize = 1_000;

sira_store::named_backend! {
    /// Objects in sled.
    pub struct SledBackend;
}

impl SledBackend {
    /// Opens the database in a folder, or makes it, with the options' defaults.
    ///
    /// # Errors
    /// As [`SledBackend::open`].
    pub async fn new(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open(SledOptions::new(path)).await
    }

    /// Opens the database in a folder, or makes it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when it is open already, here or in another process,
    /// [`StorageError::Unsupported`] when a newer version wrote it, [`StorageError::Corrupt`] and
    /// what the file system says.
    pub async fn open(options: SledOptions) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Sled::open(&options)).await;
        let store = opened
            .map_err(|error| StorageError::io("sled could not be opened").with_source(error))?;
        Ok(DriverBackend::new(LocalDriver::new(store?)).into())
    }
}

/// Options of [`SledBackend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SledOptions {
    /// The folder, which is made if it is not there.
    pub path: PathBuf,
    /// Memory for what was read, in bytes. The default is 64 MiB.
    pub cache_bytes: u64,
    /// Writes are answered after an fsync that covers them. Without, they are synced every half
    /// second, and a crash can lose those of that time. The default is true.
    pub sync: bool,
}

impl SledOptions {
    /// The defaults, for a folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), cache_bytes: 64 * 1024 * 1024, sync: true }
    }
}

struct Sled {
    db: Db,
    heads: Tree,
    expiries: Tree,
    path: PathBuf,
    sync: bool,
}

impl Sled {
    fn open(options: &SledOptions) -> Result<Self> {
        let located =
            |error: StorageError| error.with_backend(format!("sled in {}", options.path.display()));
        tracing::warn!(
            backend = "sled",
            path = %options.path.display(),
            "sled is no longer maintained; move this store to the embedded engine"
        );
        let config = sled::Config::new()
            .path(&options.path)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(if options.sync { None } else { Some(500) });
        let db = config.open().map_err(|error| located(refused_open(error, &options.path)))?;
        let tree = |name: &str| db.open_tree(name).map_err(|error| located(storage_error(error)));
        let store = Self {
            heads: tree("heads")?,
            expiries: tree("expiries")?,
            path: options.path.clone(),
            sync: options.sync,
            db,
        };
        store.check_format().map_err(located)?;
        Ok(store)
    }

    fn check_format(&self) -> Result<()> {
        match self.db.get(FORMAT_KEY).map_err(storage_error)? {
            Some(format) if format == FORMAT => Ok(()),
            Some(_) => Err(StorageError::unsupported(
                "a newer version wrote this sled folder: use that one, or a newer one",
            )),
            None if !self.db.is_empty() => Err(StorageError::invalid_input(format!(
                "the sled folder {} is another program's; name an empty one",
                self.path.display()
            ))),
            None => {
                self.db.insert(FORMAT_KEY, FORMAT).map_err(storage_error)?;
                self.db.flush().map_err(storage_error)?;
                Ok(())
            }
        }
    }
}

/// A transaction over both trees.
struct Overlay<'a> {
    heads: &'a TransactionalTree,
    expiries: &'a TransactionalTree,
}

impl Overlay<'_> {
    /// `None` for bodies, which lie with their heads.
    fn tree(&self, map: Map) -> Option<&TransactionalTree> {
        match map {
            Map::Heads => Some(self.heads),
            Map::Expiries => Some(self.expiries),
            Map::Bodies => None,
        }
    }
}

impl Transaction for Overlay<'_> {
    fn read(&self, map: Map, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let Some(tree) = self.tree(map) else { return Ok(None) };
        Ok(tree.get(key).map_err(fault)?.map(Bytes::from_owner))
    }

    fn write(&self, map: Map, key: &[u8], value: Bytes) -> Result<(), Fault> {
        let Some(tree) = self.tree(map) else {
            let message = "sled keeps bodies with their heads";
            return Err(StorageError::unsupported(message).into());
        };
        tree.insert(key, &value[..]).map_err(fault)?;
        Ok(())
    }

    fn remove(&self, map: Map, key: &[u8]) -> Result<(), Fault> {
        if let Some(tree) = self.tree(map) {
            tree.remove(key).map_err(fault)?;
        }
        Ok(())
    }
}

/// Why a transaction was undone.
enum Undone<R> {
    Aborted(R),
    Failed(StorageError),
}

impl Store for Sled {
    fn profile(&self) -> DriverProfile {
        DriverProfile {
            name: "sled",
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

    fn head_at_hand(&self, _: &[u8]) -> Option<Option<Bytes>> {
        None
    }

    fn body_with_head_max(&self) -> usize {
        usize::MAX
    }

    fn transact<R>(
        &self,
        work: impl Fn(&dyn Transaction) -> Result<Verdict<R>, Fault>,
    ) -> Result<R> {
        let ended = (&self.heads, &self.expiries).transaction(|(heads, expiries)| {
            if self.sync {
                heads.flush();
            }
            match work(&Overlay { heads, expiries }) {
                Ok(Verdict::Commit(result)) => Ok(result),
                Ok(Verdict::Abort(result)) => {
                    Err(ConflictableTransactionError::Abort(Undone::Aborted(result)))
                }
                Err(Fault::Again) => Err(ConflictableTransactionError::Conflict),
                Err(Fault::Failed(error)) => {
                    Err(ConflictableTransactionError::Abort(Undone::Failed(error)))
                }
            }
        });
        match ended {
            Ok(result) | Err(TransactionError::Abort(Undone::Aborted(result))) => Ok(result),
            Err(TransactionError::Abort(Undone::Failed(error))) => Err(error),
            Err(TransactionError::Storage(error)) => Err(storage_error(error)),
        }
    }

    fn view<R>(&self, work: impl Fn(&dyn Transaction) -> Result<R, Fault>) -> Result<R> {
        let ended = (&self.heads, &self.expiries).transaction(|(heads, expiries)| {
            work(&Overlay { heads, expiries }).map_err(|fault| match fault {
                Fault::Again => ConflictableTransactionError::Conflict,
                Fault::Failed(error) => ConflictableTransactionError::Abort(error),
            })
        });
        ended.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => storage_error(error),
        })
    }

    fn visit(&self, map: Map, from: &[u8], visitor: &mut Visitor<'_>) -> Result<()> {
        let tree = match map {
            Map::Heads => &self.heads,
            Map::Expiries => &self.expiries,
            Map::Bodies => return Ok(()),
        };
        for pair in tree.range(from..) {
            let (key, value) = pair.map_err(storage_error)?;
            if !visitor(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn stats(&self) -> Result<StorageStats> {
        Ok(StorageStats {
            used_bytes: self.db.size_on_disk().map_err(storage_error)?,
            available_bytes: available_bytes(&self.path),
            ..StorageStats::default()
        })
    }

    fn health(&self) -> HealthStatus {
        match self.db.get(FORMAT_KEY) {
            Ok(_) => HealthStatus::Healthy,
            Err(error) => HealthStatus::Critical(storage_error(error).to_string()),
        }
    }
}

impl fmt::Debug for Sled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sled").field("path", &self.path).field("sync", &self.sync).finish()
    }
}

fn fault(error: UnabortableTransactionError) -> Fault {
    match error {
        UnabortableTransactionError::Conflict => Fault::Again,
        UnabortableTransactionError::Storage(error) => Fault::Failed(storage_error(error)),
    }
}

fn refused_open(error: Error, path: &Path) -> StorageError {
    match &error {
        Error::Io(io) if io.to_string().contains("lock") => StorageError::locked(format!(
            "the sled folder {} is open already, here or in another process",
            path.display()
        ))
        .with_source(error),
        _ => storage_error(error),
    }
}

fn storage_error(error: Error) -> StorageError {
    match error {
        Error::Io(error) => StorageError::from(error),
        Error::Corruption { .. } => {
            StorageError::corrupt(format!("sled found damage: {error}")).with_source(error)
        }
        _ => StorageError::io(format!("sled failed: {error}"))
            .with_retry(Retry::Permanent)
            .with_source(error),
    }
}

//! The repository: names, documents and files on any backend, sealed as its options say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use super::codec::{close, open};
use super::lease::{Lease, LeaseHolder};
use super::pack::PackId;
use super::snapshot::{Snapshot, SnapshotId};
use crate::backend::{ListOptions, ReadOptions, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::options::{CompressionType, Condition, Durability, EncryptionType, StorageOptions};
use crate::seal::{Keyring, SealOptions};
use crate::sealing::SealingBackend;

/// What encrypted parts of a repository are bound to, as a namespace.
const BOUND_TO: &str = "sira.backup";

/// Key of the document that says what the repository is.
const CONFIG: &str = "config";

/// What the names of packs, index files, snapshots and parts of the archive begin with.
pub(super) const PACKS: &str = "packs/";
pub(super) const INDEX: &str = "index/";
pub(super) const SNAPSHOTS: &str = "snapshots/";
pub(super) const ARCHIVE: &str = "archive/";

/// How a repository is written.
#[derive(Debug, Clone)]
pub struct RepositoryOptions {
    /// How hard Zstandard tries, -7 to 22.
    pub compression_level: i32,
    /// How everything is encrypted; an empty id is the keyring's current key. Whether it is is
    /// settled when the repository is made.
    pub encryption: EncryptionType,
    /// Names who writes. A lease of the same owner is taken over at once: give it only where a
    /// process that has died is the one reason for a lease to be there, as with a data folder that
    /// one process at a time can open. Empty for nobody in particular.
    pub owner: String,
    /// How long a writer that has died keeps others out.
    pub lease: Duration,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        Self {
            compression_level: 3,
            encryption: EncryptionType::None,
            owner: String::new(),
            lease: Duration::from_secs(60),
        }
    }
}

/// What a repository is, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Config {
    format: u32,
    id: String,
    created_ms: u64,
    encrypted: bool,
}

/// The format that this program writes.
const FORMAT: u32 = 1;

/// A repository of backups on a backend. Clones are the same repository.
#[derive(Clone)]
pub struct Repository(Arc<Shared>);

struct Shared {
    target: Arc<dyn StorageBackend>,
    store: SealingBackend,
    config: Config,
    options: RepositoryOptions,
    env: Arc<dyn Env>,
    holder: LeaseHolder,
    /// One run, prune or drill at a time.
    work: AsyncMutex<()>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("id", &self.0.config.id).finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens the repository on a backend, which is made if there is none.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for a backend that cannot hold one, or a repository of a later
    /// format; [`StorageError::PermissionDenied`] when the key is not in the keyring;
    /// [`StorageError::InvalidInput`] for one that is encrypted where the options say that it is
    /// not, or the other way around; and those of the backend.
    pub async fn open(
        target: Arc<dyn StorageBackend>,
        keyring: Arc<Keyring>,
        options: RepositoryOptions,
    ) -> Result<Self> {
        Self::open_with(target, keyring, options, Arc::new(SystemEnv), true).await
    }

    /// As [`Repository::open`], for a repository that must be there.
    ///
    /// # Errors
    /// As [`Repository::open`]; [`StorageError::NotFound`] when there is none. Whether it is
    /// encrypted does not have to be known.
    pub async fn open_existing(
        target: Arc<dyn StorageBackend>,
        keyring: Arc<Keyring>,
        options: RepositoryOptions,
    ) -> Result<Self> {
        Self::open_with(target, keyring, options, Arc::new(SystemEnv), false).await
    }

    /// As [`Repository::open`], in any environment; without `make`, the repository must be there.
    ///
    /// # Errors
    /// As [`Repository::open`] and [`Repository::open_existing`].
    pub async fn open_with(
        target: Arc<dyn StorageBackend>,
        keyring: Arc<Keyring>,
        options: RepositoryOptions,
        env: Arc<dyn Env>,
        make: bool,
    ) -> Result<Self> {
        let capabilities = target.capabilities();
        let encrypted = options.encryption != EncryptionType::None;
        if !(capabilities.list && capabilities.conditional && capabilities.metadata)
            || (encrypted && !capabilities.exact_versions)
        {
            return Err(StorageError::unsupported(format!(
                "{} cannot hold backups: it must list keys, check conditions and keep metadata, \
                 and take versions where backups are encrypted",
                capabilities.name
            )));
        }
        let seal = SealOptions {
            compression: CompressionType::Zstd,
            compression_level: Some(options.compression_level),
            encryption: options.encryption.clone(),
        };
        seal.check(&keyring)?;
        let store = SealingBackend::new(Arc::clone(&target), BOUND_TO, keyring, seal)
            .with_env(Arc::clone(&env));
        let config = match read_document::<Config>(&store, CONFIG).await? {
            Some(config) => config,
            None if !make => {
                return Err(StorageError::not_found(
                    "there are no backups here: name the target that they were written to",
                ));
            }
            None => {
                let config = Config {
                    format: FORMAT,
                    id: format!("{:016x}{:016x}", env.random_u64(), env.random_u64()),
                    created_ms: env.now_ms(),
                    encrypted,
                };
                match write_document(&store, CONFIG, &config, Condition::IfAbsent).await {
                    Ok(()) => config,
                    // Another writer made it meanwhile.
                    Err(StorageError::PreconditionFailed(_)) => {
                        read_document(&store, CONFIG).await?.unwrap_or(config)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if config.format != FORMAT {
            return Err(StorageError::unsupported(format!(
                "the backups are of format {}, and this program knows {FORMAT}: use a later one",
                config.format
            )));
        }
        if make && config.encrypted != encrypted {
            let (is, asked) = match encrypted {
                true => ("not encrypted", "are to be"),
                false => ("encrypted", "are not to be"),
            };
            return Err(StorageError::invalid_input(format!(
                "the backups here are {is}, and new ones {asked}: choose another target, or ask for \
                 what is there"
            )));
        }
        let holder = LeaseHolder::new(
            Arc::clone(&target),
            Arc::clone(&env),
            options.owner.clone(),
            options.lease,
        );
        let work = AsyncMutex::new(());
        Ok(Self(Arc::new(Shared { target, store, config, options, env, holder, work })))
    }

    /// Its random name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.config.id
    }

    /// Whether everything in it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.config.encrypted
    }

    /// The snapshots, the oldest first. Those that cannot be read are left out, and told in the log.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for key in self.keys(SNAPSHOTS).await? {
            match self.read::<Snapshot>(&key).await {
                Ok(Some(snapshot)) => snapshots.push(snapshot),
                // It was removed meanwhile.
                Ok(None) => {}
                Err(error @ (StorageError::Corrupt(_) | StorageError::PermissionDenied(_))) => {
                    tracing::warn!(%key, %error, "a snapshot cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|snapshot| snapshot.id);
        Ok(snapshots)
    }

    /// The snapshot of this name.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none, [`StorageError::Corrupt`] for one that cannot
    /// be read.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        self.read(&snapshot_key(id)).await?.ok_or_else(|| {
            StorageError::not_found(format!(
                "there is no snapshot {id}; `sira backup ls` shows those that there are"
            ))
        })
    }

    /// The newest snapshot, if there is one.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn newest(&self) -> Result<Option<Snapshot>> {
        Ok(self.snapshots().await?.pop())
    }

    /// Waits until other writers are no longer kept out by work that has ended: what a process does
    /// last.
    pub async fn settle(&self) {
        self.0.holder.settle().await;
    }

    pub(super) fn env(&self) -> &Arc<dyn Env> {
        &self.0.env
    }

    /// Keeps other writers out until it is dropped; shared by all work in this process.
    pub(super) async fn lease(&self) -> Result<Arc<Lease>> {
        self.0.holder.take().await
    }

    /// Keeps out other runs and prunes of this process.
    pub(super) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.work.lock().await
    }

    /// A new random name.
    pub(super) fn draw(&self) -> PackId {
        let env = &self.0.env;
        PackId(u128::from(env.random_u64()) << 64 | u128::from(env.random_u64()))
    }

    /// Stores a file under a new name, durably.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        put(&self.0.store, key, bytes, Condition::IfAbsent).await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.0.store.get(key).await.map_err(named)
    }

    pub(super) async fn get_range(&self, key: &str, from: u64, len: u64) -> Result<Option<Bytes>> {
        let options = ReadOptions { range: Some(from..from + len), ..ReadOptions::default() };
        let object = self.0.store.read(key, options).await.map_err(named)?;
        Ok(object.map(|object| object.value))
    }

    /// Size of a file before it was sealed.
    pub(super) async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.0.store.head(key).await.map_err(named)?.map(|head| head.size))
    }

    pub(super) async fn remove(&self, key: &str) -> Result<()> {
        self.0.target.delete(key).await.map(drop)
    }

    pub(super) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        read_document(&self.0.store, key).await
    }

    pub(super) async fn write<T: Serialize>(&self, key: &str, document: &T) -> Result<()> {
        write_document(&self.0.store, key, document, Condition::IfAbsent).await
    }

    /// Makes everything durable that was put.
    pub(super) async fn flush(&self) -> Result<()> {
        self.0.target.flush().await
    }

    /// Keys that begin so, in byte order.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.files(prefix).await?.into_iter().map(|(key, _)| key).collect())
    }

    /// Keys that begin so, in byte order, with what they take on the target in bytes.
    pub(super) async fn files(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        let mut start_after = None;
        loop {
            let options = ListOptions {
                prefix: prefix.to_owned(),
                start_after: start_after.take(),
                delimiter: None,
                limit: crate::limits::LIST_LIMIT_MAX,
            };
            let page = self.0.target.list(options).await?;
            files.extend(page.entries.into_iter().map(|entry| (entry.key, entry.size)));
            match page.next {
                Some(next) => start_after = Some(next),
                None => return Ok(files),
            }
        }
    }

    /// Options that it was opened with.
    #[must_use]
    pub fn options(&self) -> &RepositoryOptions {
        &self.0.options
    }
}

/// Key of a snapshot.
pub(super) fn snapshot_key(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}{id}")
}

/// Key of a pack.
pub(super) fn pack_key(id: PackId) -> String {
    format!("{PACKS}{id}")
}

/// Key of an index file.
pub(super) fn index_key(id: PackId) -> String {
    format!("{INDEX}{id}")
}

/// Reads a document: JSON and its SHA-256.
pub(super) async fn read_document<T: DeserializeOwned>(
    store: &dyn StorageBackend,
    key: &str,
) -> Result<Option<T>> {
    let Some(bytes) = store.get(key).await.map_err(named)? else { return Ok(None) };
    let body = open(&bytes).map_err(|error| error.with_key(key))?;
    serde_json::from_slice(body).map(Some).map_err(|error| {
        StorageError::corrupt("a document of the backup cannot be read")
            .with_key(key)
            .with_source(error)
    })
}

/// Writes a document, durably.
pub(super) async fn write_document<T: Serialize>(
    store: &dyn StorageBackend,
    key: &str,
    document: &T,
    condition: Condition,
) -> Result<()> {
    let json = serde_json::to_vec(document).map_err(|error| {
        StorageError::invalid_input("a document of the backup cannot be written")
            .with_key(key)
            .with_source(error)
    })?;
    put(store, key, close(json).into(), condition).await
}

async fn put(
    store: &dyn StorageBackend,
    key: &str,
    bytes: Bytes,
    condition: Condition,
) -> Result<()> {
    let durability = Some(Durability::Sync);
    let options = StorageOptions { condition, durability, ..StorageOptions::default() };
    store.put(key, bytes, options).await.map(drop).map_err(named)
}

/// The seal's name for a repository is no namespace of a user's.
fn named(error: StorageError) -> StorageError {
    error.with_namespace("the backup")
}

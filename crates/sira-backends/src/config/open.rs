//! The engine that settings describe.

#[cfg(any(feature = "rocksdb", feature = "sled", feature = "sqlite"))]
mod local;
#[cfg(feature = "object-store")]
mod object_store;
mod remote;

use std::sync::Arc;

use sira_store::{
    FilesystemBackend, FilesystemOptions, MemoryBackend, Result, StorageBackend, StorageError,
};

use super::{BackendConfig, BackendKind, FilesystemConfig, MemoryConfig};

/// Room of a memory backend that names none, in bytes.
const MEMORY_BYTES: u64 = 256 << 20;

/// Opens the engine of a backend: connects, makes what is missing there, and reads the secrets that
/// the settings name. `name` is what the backend is called, for errors.
///
/// # Errors
/// [`StorageError::InvalidInput`] for settings and secrets that cannot be right, and for the
/// server's own engine, which the server opens; [`StorageError::Unsupported`], with the cargo
/// feature's name, for an engine that is not compiled in; and the engine's own.
pub async fn open(name: &str, config: &BackendConfig) -> Result<Arc<dyn StorageBackend>> {
    let opened = match config.check() {
        Ok(()) => engine(config).await,
        Err(wrong) => Err(StorageError::invalid_input(wrong)),
    };
    opened.map_err(|error| match error.detail().backend {
        Some(_) => error,
        None => error.with_backend(name),
    })
}

/// The backend, or the error of one that is not compiled in.
macro_rules! engine {
    ($kind:expr, $feature:literal, $open:expr) => {{
        #[cfg(feature = $feature)]
        {
            Box::pin($open).await
        }
        #[cfg(not(feature = $feature))]
        {
            Err(absent($kind))
        }
    }};
}

#[allow(unused_variables, reason = "settings of engines that are not compiled in")]
async fn engine(config: &BackendConfig) -> Result<Arc<dyn StorageBackend>> {
    let kind = config.kind();
    match config {
        BackendConfig::Embedded => Err(StorageError::invalid_input(
            "the embedded engine is the server's own, which it opens in its data folder",
        )),
        BackendConfig::Memory(config) => Ok(memory(config)),
        BackendConfig::Filesystem(config) => filesystem(config).await,
        BackendConfig::Redis(config) => {
            engine!(kind, "redis", remote::redis(config, config.nodes.len() > 1))
        }
        BackendConfig::RedisCluster(config) => engine!(kind, "redis", remote::redis(config, true)),
        BackendConfig::Postgres(config) => engine!(kind, "postgres", remote::postgres(config)),
        BackendConfig::MySql(config) => engine!(kind, "mysql", remote::mysql(config)),
        BackendConfig::Sqlite(config) => engine!(kind, "sqlite", local::sqlite(config)),
        BackendConfig::RocksDb(config) => engine!(kind, "rocksdb", local::rocksdb(config)),
        BackendConfig::Sled(config) => engine!(kind, "sled", local::sled(config)),
        BackendConfig::MongoDb(config) => engine!(kind, "mongodb", remote::mongodb(config)),
        BackendConfig::Cassandra(config) => engine!(kind, "cassandra", remote::cassandra(config)),
        BackendConfig::OpenSearch(config) => {
            engine!(kind, "opensearch", remote::opensearch(config))
        }
        BackendConfig::S3(config) => engine!(kind, "object-store", object_store::s3(config)),
        BackendConfig::Minio(config) => engine!(kind, "object-store", object_store::minio(config)),
        BackendConfig::AzureBlob(config) => {
            engine!(kind, "object-store", object_store::azure_blob(config))
        }
        BackendConfig::Gcs(config) => engine!(kind, "object-store", object_store::gcs(config)),
        BackendConfig::Etcd(config) => engine!(kind, "etcd", remote::etcd(config)),
    }
}

fn memory(config: &MemoryConfig) -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(config.max_size.unwrap_or(MEMORY_BYTES)))
}

async fn filesystem(config: &FilesystemConfig) -> Result<Arc<dyn StorageBackend>> {
    let mut options = FilesystemOptions::new(&config.path);
    set(&mut options.value_bytes_max, config.max_file_size.as_ref());
    set(&mut options.sync, config.sync.as_ref());
    options.allowed_extensions.clone_from(&config.allowed_extensions);
    let opened = tokio::task::spawn_blocking(move || FilesystemBackend::open(options)).await;
    let backend = opened
        .map_err(|error| StorageError::io("the folder could not be opened").with_source(error))?;
    Ok(Arc::new(backend?))
}

/// The error of an engine that is not compiled in.
#[allow(dead_code, reason = "where every engine is compiled in")]
fn absent(kind: BackendKind) -> StorageError {
    let feature = kind.feature().unwrap_or_default();
    StorageError::unsupported(format!(
        "backends of the type {kind} are not compiled into this program: build it with the cargo \
         feature sira-backends/{feature}"
    ))
}

/// Replaces a default by what the settings say.
fn set<T: Clone>(to: &mut T, from: Option<&T>) {
    if let Some(from) = from {
        to.clone_from(from);
    }
}

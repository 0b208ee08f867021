//! Engines within the process.

use std::sync::Arc;

use sira_store::{Result, StorageBackend};

use super::set;

type Opened = Result<Arc<dyn StorageBackend>>;

#[cfg(feature = "sqlite")]
pub(super) async fn sqlite(config: &super::super::SqliteConfig) -> Opened {
    use super::super::SyncLevel;
    use crate::sqlite::{SqliteBackend, SqliteOptions, Synchronous};

    let mut options = SqliteOptions::new(&config.path);
    if let Some(level) = config.synchronous {
        options.synchronous = match level {
            SyncLevel::Full => Synchronous::Full,
            SyncLevel::Normal => Synchronous::Normal,
            SyncLevel::Off => Synchronous::Off,
        };
    }
    set(&mut options.readers, config.readers.as_ref());
    set(&mut options.busy_timeout, config.busy_timeout.as_ref());
    set(&mut options.cache_bytes, config.cache_size.as_ref());
    Ok(Arc::new(SqliteBackend::open(options).await?))
}

#[cfg(feature = "rocksdb")]
pub(super) async fn rocksdb(config: &super::super::RocksDbConfig) -> Opened {
    use super::super::BlockCompression;
    use crate::rocksdb::{RocksDbBackend, RocksDbCompression, RocksDbOptions};

    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let mut options = RocksDbOptions::new(&config.path);
    if let Some(compression) = config.compression {
        options.compression = match compression {
            BlockCompression::None => RocksDbCompression::None,
            BlockCompression::Snappy => RocksDbCompression::Snappy,
            BlockCompression::Lz4 => RocksDbCompression::Lz4,
            BlockCompression::Zstd => RocksDbCompression::Zstd,
        };
    }
    set(&mut options.block_cache_bytes, config.cache_size.map(bytes).as_ref());
    set(&mut options.write_buffer_bytes, config.write_buffer_size.map(bytes).as_ref());
    set(&mut options.sync, config.sync.as_ref());
    set(&mut options.background_jobs, config.background_jobs.map(i32::from).as_ref());
    let files = |files: u32| i32::try_from(files).unwrap_or(i32::MAX);
    set(&mut options.open_files_max, config.max_open_files.map(files).as_ref());
    Ok(Arc::new(RocksDbBackend::open(options).await?))
}

#[cfg(feature = "sled")]
pub(super) async fn sled(config: &super::super::SledConfig) -> Opened {
    use crate::sled::{SledBackend, SledOptions};

    let mut options = SledOptions::new(&config.path);
    set(&mut options.cache_bytes, config.cache_size.as_ref());
    set(&mut options.sync, config.sync.as_ref());
    Ok(Arc::new(SledBackend::open(options).await?))
}

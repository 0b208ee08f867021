//! Settings of the engines within the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// The server's own engine has no settings here.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbeddedConfig {}

/// Settings of objects in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Most bytes of keys, values and metadata; 256 MiB.
    #[serde(deserialize_with = "units::size")]
    pub max_size: Option<u64>,
}

/// Settings of files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemConfig {
    /// The folder, made if it is not there.
    #[serde(alias = "root")]
    pub path: PathBuf,
    /// Largest value.
    #[serde(deserialize_with = "units::size")]
    pub max_file_size: Option<u64>,
    /// Extensions that keys may have, without the dot; all where there are none here.
    pub allowed_extensions: Option<Vec<String>>,
    /// Whether a write is answered only when it would survive the loss of power.
    pub sync: Option<bool>,
}

/// When a write to SQLite is on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLevel {
    /// Before it is answered.
    Full,
    /// At the next checkpoint.
    Normal,
    /// When the operating system likes.
    Off,
}

/// Settings of SQLite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteConfig {
    /// The database file, made with its folder if it is not there.
    pub path: PathBuf,
    /// When a write is on the medium; before it is answered.
    pub synchronous: Option<SyncLevel>,
    /// Threads that read.
    pub readers: Option<usize>,
    /// Longest wait for another process that writes.
    #[serde(deserialize_with = "units::duration")]
    pub busy_timeout: Option<Duration>,
    /// Memory for pages, for each thread.
    #[serde(deserialize_with = "units::size")]
    pub cache_size: Option<u64>,
}

/// How RocksDB compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockCompression {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Settings of RocksDB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocksDbConfig {
    /// The folder, made if it is not there.
    pub path: PathBuf,
    /// Compression of what is written from now on.
    pub compression: Option<BlockCompression>,
    /// Memory for blocks that were read.
    #[serde(deserialize_with = "units::size")]
    pub cache_size: Option<u64>,
    /// Memory for writes before they go to a file, for each of three column families.
    #[serde(deserialize_with = "units::size")]
    pub write_buffer_size: Option<u64>,
    /// Whether a write is answered after an fsync that covers it.
    pub sync: Option<bool>,
    /// Threads that flush and compact.
    pub background_jobs: Option<u16>,
    /// Most files that are kept open.
    pub max_open_files: Option<u32>,
}

/// Settings of sled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SledConfig {
    /// The folder, made if it is not there.
    pub path: PathBuf,
    /// Memory for what was read.
    #[serde(deserialize_with = "units::size")]
    pub cache_size: Option<u64>,
    /// Whether a write is answered after an fsync that covers it.
    pub sync: Option<bool>,
}

pub(super) fn need_path(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("path is missing: write path = \"/var/lib/sira/NAME\"".to_owned());
    }
    Ok(())
}

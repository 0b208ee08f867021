//! The heart of Sira: one storage trait, the client over it, and the engines that live in process.

pub mod backend;
pub mod backup;
mod batch;
pub mod blocking;
pub mod cache;
pub mod capacity;
pub mod changes;
pub mod client;
pub mod conformance;
pub mod driver;
pub mod embedded;
pub mod error;
pub mod ext;
pub mod filesystem;
pub mod health;
pub mod key;
pub mod layers;
pub mod lifecycle;
pub mod limits;
mod listing;
pub mod lock;
pub mod memory;
pub mod metadata;
pub mod migration;
pub mod options;
pub mod pattern;
pub mod placement;
pub mod plain;
pub mod repository;
pub mod router;
pub mod seal;
pub mod sealing;
pub mod transaction;
pub mod version;
pub mod version_history;

pub use backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListEntry, ListOptions,
    ListPage, Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
pub use blocking::Blocking;
pub use bytes::Bytes;
pub use cache::CacheBackend;
pub use client::StorageClient;
pub use embedded::EmbeddedBackend;
pub use error::{ErrorDetail, Result, Retry, StorageError};
pub use ext::StorageBackendExt;
pub use filesystem::{FilesystemBackend, FilesystemOptions};
pub use memory::MemoryBackend;
pub use metadata::Metadata;
pub use options::{
    CompressionType, Condition, ConsistencyLevel, Durability, EncryptionType, StorageOptions,
};
pub use repository::Repository;
pub use sealing::SealingBackend;
pub use sira_log::env;
pub use transaction::Transaction;
pub use version::{HybridClock, Version};

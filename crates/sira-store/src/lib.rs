//! The heart of Sira: one storage trait, the client over it, and the engines that live in process.

pub mod backend;
mod batch;
pub mod blocking;
pub mod client;
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod ext;
pub mod key;
pub mod limits;
mod listing;
pub mod memory;
pub mod metadata;
pub mod options;
pub mod version;

pub use backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListEntry, ListOptions,
    ListPage, Object, ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
pub use blocking::Blocking;
pub use client::StorageClient;
pub use embedded::EmbeddedBackend;
pub use error::{ErrorDetail, Result, Retry, StorageError};
pub use ext::StorageBackendExt;
pub use memory::MemoryBackend;
pub use metadata::Metadata;
pub use options::{
    CompressionType, Condition, ConsistencyLevel, Durability, EncryptionType, StorageOptions,
};
pub use sira_log::env;
pub use version::{HybridClock, Version};

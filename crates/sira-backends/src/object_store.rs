//! Object stores: Amazon S3 and what speaks its protocol, MinIO, Azure Blob Storage, Google Cloud
//! Storage.
//!
//! A record is one object: a head of 48 bytes, the envelope and the body, as
//! [`sira_store::driver::Record::encode`] lays them out. Its name is `PREFIX/NAMESPACE/AREA/KEY` with
//! namespace and key escaped by [`sira_store::driver::names`], so that listings come in the order of
//! keys. Keys whose names would be longer than stores allow are named by a part and a hash, and carry
//! the key in the object.
//!
//! Plain namespaces are objects `PREFIX/NAMESPACE/KEY`.
//!
//! # Conditions
//! A conditional write reads the head, judges it, and writes with the object's ETag (generation on
//! Google Cloud Storage) as the store's own condition, again if another writer came first. A write
//! without a condition is one request. What a store can do is [probed](Conditions) when it is opened:
//!
//! | store | conditional write | conditional delete |
//! |---|---|---|
//! | Amazon S3, Azure Blob Storage, Google Cloud Storage | yes | yes |
//! | versitygw | yes | yes, but says of an object that is gone that it deleted it |
//! | MinIO | yes | ignored |
//! | fake-gcs-server | yes | ignored |
//!
//! Where a delete does not tell which of several removers deleted the object, a removal replaces the
//! object by a tombstone of 49 bytes with a conditional write, which only one of them can, and deletes
//! the tombstone if it is still there. Where deletes ignore their condition altogether, that could
//! delete a write that came a moment earlier, so tombstones stay: they are absent to every reader and
//! are replaced by the next write of the key. [`ObjectStoreOptions::tombstone_age`] has them deleted
//! all the same once they are old. Removals without a condition in a batch need no winner and delete
//! at once.

mod adapter;
mod azure;
mod backends;
mod driver;
mod error;
mod gcs;
mod layout;
mod options;
mod plain;
mod probe;
mod s3;
mod scan;

pub use azure::AzureBlobOptions;
pub use backends::{AzureBlobBackend, GcsBackend, MinioBackend, S3Backend};
pub use driver::ObjectStoreDriver;
pub use gcs::{GcsCredential, GcsOptions};
pub use options::{Conditions, ObjectStoreOptions};
pub use s3::S3Options;

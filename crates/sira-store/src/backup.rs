//! Backups: snapshots of namespaces on any backend, and everything that is done with them.
//!
//! A [`Repository`] lies on a backend: a folder, an object store, whatever keeps objects. It holds
//! chunks of values in packs, each chunk once, compressed and encrypted as the repository says; index
//! files that say which pack holds each chunk; and a document for each snapshot, which names for
//! every namespace the pages of its objects. Nothing is overwritten, and a snapshot appears last, so
//! a run that dies leaves the repository as it was. The formats are in `docs/formats/backup.md`.
//!
//! [`Backup`] makes a snapshot: objects whose versions the newest snapshot has are taken over without
//! being read. [`Restore`] brings objects back, [`Verification`] reads them and compares, and
//! [`Prune`] removes what no snapshot needs.
//!
//! ```
//! use std::sync::Arc;
//! use sira_store::backup::{Backup, BackupSource, Repository, RepositoryOptions, RunOptions};
//! use sira_store::seal::Keyring;
//! use sira_store::{MemoryBackend, StorageClient, StorageOptions};
//!
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # runtime.block_on(async {
//! let client = StorageClient::new();
//! client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
//! client.store("model/v1", "weights", StorageOptions::default()).await?;
//!
//! let target = Arc::new(MemoryBackend::new(64 << 20));
//! let keyring = Arc::new(Keyring::default());
//! let repository = Repository::open(target, keyring, RepositoryOptions::default()).await?;
//! let source = BackupSource::new(client);
//! let report = Backup::new(repository, source, RunOptions::default()).run().await?;
//! assert_eq!(report.objects, 1);
//! # Ok::<_, sira_store::StorageError>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod codec;
mod digest;
mod drill;
mod entry;
mod index;
mod lease;
mod ordered;
mod origin;
mod pack;
mod prune;
mod reader;
mod repository;
mod restore;
mod retention;
mod run;
mod snapshot;
mod source;
mod tree;
mod verify;
mod writer;

pub use archive::{ArchivePass, Archiver};
pub use digest::Digest;
pub use drill::{DRILL_NAMESPACE, Drill, DrillReport};
pub use entry::SnapshotEntry;
pub use prune::{Prune, PruneOptions, PruneReport};
pub use repository::{Repository, RepositoryOptions};
pub use restore::{Moment, Restore, RestoreOptions, RestoreReport};
pub use retention::Retention;
pub use run::{Backup, RunOptions, RunReport};
pub use snapshot::{FailedObject, LogMark, Snapshot, SnapshotId, SnapshotNamespace};
pub use source::{BackupSource, NamespaceChoice};
pub use verify::{Verification, VerifyOptions, VerifyReport};

use crate::error::{Result, StorageError};

/// Does work that takes a while on a thread of its own.
async fn aside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        StorageError::unavailable("the runtime shut down before the work was done")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests;

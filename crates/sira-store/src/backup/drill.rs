//! A drill: the newest snapshot, restored where nobody looks, compared, and dropped again.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::digest::Digest;
use super::origin::Origin;
use super::reader::{ChunkReader, Entries};
use super::repository::Repository;
use super::restore::{Moment, Restore, RestoreOptions};
use super::snapshot::{FailedObject, SnapshotId};
use super::source::{BackupSource, NamespaceChoice, open_stored};
use crate::embedded::NamespaceId;
use crate::error::{Result, StorageError};

/// Namespace that drills restore into. Nothing else is kept in it.
pub const DRILL_NAMESPACE: &str = "sira-drill";

/// What a drill found, or has found so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DrillReport {
    /// The snapshot that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Namespaces that were restored and compared.
    pub namespaces: u64,
    /// Objects that were as the snapshot says.
    pub objects: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Objects that have expired since.
    pub expired: u64,
    /// Objects that were not, or were not restored.
    pub wrong: Vec<FailedObject>,
    /// Time that it took, in seconds.
    pub elapsed_s: f64,
}

impl DrillReport {
    /// Whether everything was as the snapshot says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Restores a snapshot into a namespace of its own, and compares.
pub struct Drill {
    repository: Repository,
    source: BackupSource,
    report: Arc<Mutex<DrillReport>>,
}

impl Drill {
    /// A drill in the namespace [`DRILL_NAMESPACE`] of `source`.
    #[must_use]
    pub fn new(repository: Repository, source: BackupSource) -> Self {
        Self { repository, source, report: Arc::default() }
    }

    /// What was found so far.
    #[must_use]
    pub fn report(&self) -> DrillReport {
        self.report.lock().clone()
    }

    /// Restores each namespace of the newest snapshot, reads every object back, compares it with its
    /// SHA-256, and drops what was restored.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is no snapshot, and those of the backends. Objects that
    /// are not as they should be are no error: they are told in the report.
    pub async fn run(&self) -> Result<DrillReport> {
        let _alone = self.repository.alone().await;
        let env = self.repository.env();
        let begun = env.monotonic();
        *self.report.lock() = DrillReport::default();
        let snapshot = self.repository.newest().await?.ok_or_else(|| {
            StorageError::not_found("there is no snapshot yet; `sira backup run` makes one")
        })?;
        self.report.lock().snapshot = Some(snapshot.id);
        let reader = ChunkReader::open(&self.repository).await?;
        for (name, namespace) in &snapshot.namespaces {
            self.drop_scratch().await?;
            let options = RestoreOptions {
                moment: Moment::Snapshot(snapshot.id),
                namespaces: NamespaceChoice::exactly(name),
                to: Some(DRILL_NAMESPACE.to_owned()),
                ..RestoreOptions::default()
            };
            let restore = Restore::new(self.repository.clone(), self.source.clone(), options);
            let restored = restore.run().await;
            let compared = match restored {
                Ok(restored) => {
                    let parts = restored.parts.into_iter().map(|error| FailedObject {
                        namespace: name.clone(),
                        key: String::new(),
                        error,
                    });
                    self.report.lock().wrong.extend(parts);
                    self.compare(name, Entries::new(&reader, &namespace.pages).lenient()).await
                }
                Err(error) => Err(error),
            };
            self.drop_scratch().await?;
            compared?;
            self.report.lock().namespaces += 1;
        }
        let mut report = self.report.lock();
        report.elapsed_s = env.monotonic().saturating_sub(begun).as_secs_f64();
        Ok(report.clone())
    }

    async fn compare(&self, name: &str, mut entries: Entries<'_>) -> Result<()> {
        let opened = self.source.open(DRILL_NAMESPACE).await?;
        let engine = self.source.engine_of(&opened);
        let id: Option<NamespaceId> =
            engine.and_then(|engine| engine.engine.find_namespace(DRILL_NAMESPACE));
        let origin = match (engine, id) {
            (Some(engine), Some(id)) => Origin::Engine { engine: Arc::clone(&engine.engine), id },
            _ => Origin::Backend(Arc::clone(&opened.stored)),
        };
        while let Some(entry) = entries.next().await? {
            let now_ms = self.repository.env().now_ms();
            if entry.expires_at_ms.is_some_and(|at| at <= now_ms) {
                self.report.lock().expired += 1;
                continue;
            }
            let read = match origin.read(&entry.key).await {
                Ok(Some(object)) => {
                    let (keyring, key) = (Arc::clone(&opened.keyring), entry.key.clone());
                    let digest = entry.digest;
                    let (expires_at_ms, metadata) = (entry.expires_at_ms, entry.metadata.clone());
                    super::aside(move || {
                        let opened = open_stored(DRILL_NAMESPACE, &key, &keyring, object)?;
                        Ok(Digest::of(&opened.value) == digest
                            && opened.expires_at_ms == expires_at_ms
                            && opened.metadata == metadata)
                    })
                    .await?
                }
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            let mut report = self.report.lock();
            match read {
                Ok(true) => {
                    report.objects += 1;
                    report.bytes += entry.size;
                }
                wrong => report.wrong.push(FailedObject {
                    namespace: name.to_owned(),
                    key: String::from_utf8_lossy(&entry.key).into_owned(),
                    error: match wrong {
                        Err(error) => error.to_string(),
                        Ok(_) => "it was not restored as the snapshot has it".to_owned(),
                    },
                }),
            }
        }
        for (digest, error) in entries.damaged() {
            self.report.lock().wrong.push(FailedObject {
                namespace: name.to_owned(),
                key: String::new(),
                error: format!("page {digest}: {error}"),
            });
        }
        Ok(())
    }

    /// Drops what an earlier drill may have left behind.
    async fn drop_scratch(&self) -> Result<()> {
        let client = self.source.client.namespace(DRILL_NAMESPACE);
        let opened = self.source.open(DRILL_NAMESPACE).await?;
        match self.source.engine_of(&opened) {
            Some(engine) => {
                engine.engine.drop_namespace(DRILL_NAMESPACE)?;
            }
            None => {
                client.clear().await?;
            }
        }
        client.forget();
        Ok(())
    }
}

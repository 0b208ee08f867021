//! Backups by the configuration: the target opened, and what is done where nothing says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sira_backends::config::open;
use sira_server::backups::BackupDefaults;
use sira_store::backup::{BackupSource, Repository, RepositoryOptions};
use sira_store::seal::Keyring;
use sira_store::{FilesystemBackend, Result, StorageBackend, StorageError};

use crate::config::StorageConfig;
use crate::config::storage::BackupConfig;

/// Namespace of backups on their target.
const NAMESPACE: &str = "sira-backups";

/// Opens the target: a backend of the configuration, one that is open already, or a folder; without
/// `make`, the folder must be there.
async fn target(
    config: &StorageConfig,
    opened: &BTreeMap<String, Arc<dyn StorageBackend>>,
    name: &str,
    make: bool,
) -> Result<Arc<dyn StorageBackend>> {
    let backend = match (opened.get(name), config.backends.get(name)) {
        (Some(backend), _) => Arc::clone(backend),
        (None, Some(settings)) => open(name, settings).await?,
        (None, None) => {
            let path = Path::new(name).to_owned();
            if !make && !path.is_dir() {
                return Err(StorageError::not_found(format!(
                    "there is no folder {name}, and no backend of the configuration has this name"
                )));
            }
            let opened = tokio::task::spawn_blocking(move || FilesystemBackend::new(path)).await;
            let opened = opened.map_err(|error| {
                StorageError::unavailable("the folder could not be opened").with_source(error)
            })?;
            Arc::new(opened?)
        }
    };
    backend.namespace(NAMESPACE).await.map_err(|error| error.with_backend(name))
}

/// Opens the repository, and says what is done where nothing else is said. Without `make`, the
/// repository must be there.
///
/// # Errors
/// Those of the target, and as [`Repository::open`].
pub async fn open_defaults(
    storage: &StorageConfig,
    backup: &BackupConfig,
    opened: &BTreeMap<String, Arc<dyn StorageBackend>>,
    keyring: Arc<Keyring>,
    source: BackupSource,
    make: bool,
) -> Result<BackupDefaults> {
    let target = target(storage, opened, &backup.target, make).await?;
    let options = RepositoryOptions {
        compression_level: backup.compression_level,
        encryption: backup.encryption.clone(),
        owner: source.stream().unwrap_or_default().to_owned(),
        ..RepositoryOptions::default()
    };
    let repository = match make {
        true => Repository::open(target, keyring, options).await?,
        false => Repository::open_existing(target, keyring, options).await?,
    };
    Ok(BackupDefaults {
        repository,
        source,
        namespaces: backup.namespaces.clone(),
        retention: backup.retention.clone(),
        verify_percent: backup.verify_percent,
        bytes_per_second_max: backup.bytes_per_second_max,
    })
}

//! The driver: what blocks, on threads that may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::statvfs;
use tokio::task::JoinHandle;

use super::FilesystemOptions;
use super::files::{Files, io_error};
use super::walk::Cleaned;
use crate::backend::{HealthStatus, StorageStats};
use crate::driver::{Change, Driver, DriverProfile, Guard, Listed, Part, Place, Record, Scan};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::version::Version;

/// Threads that one batch uses at once.
const BATCH_THREADS: usize = 8;

/// A folder as an outside engine. Clones share it.
#[derive(Debug, Clone)]
pub struct FilesystemDriver {
    files: Arc<Files>,
}

impl FilesystemDriver {
    /// Opens a folder, which is made if it is not there, and removes unfinished files that crashed
    /// processes left in it. Several processes may use it at once.
    ///
    /// # Errors
    /// [`StorageError::PermissionDenied`] and [`StorageError::Io`] for a folder that cannot be made
    /// or written, [`StorageError::Unsupported`] for one of a newer version,
    /// [`StorageError::InvalidInput`] for one of something else.
    pub fn open(options: FilesystemOptions) -> Result<Self> {
        Self::with_env(options, Arc::new(SystemEnv))
    }

    /// As [`FilesystemDriver::open`], with the clock and the random numbers of `env`.
    ///
    /// # Errors
    /// As [`FilesystemDriver::open`].
    pub fn with_env(options: FilesystemOptions, env: Arc<dyn Env>) -> Result<Self> {
        Ok(Self { files: Arc::new(Files::open(options, env)?) })
    }

    /// Removes the objects of a namespace, or of all of them, that were written longer ago than
    /// this, and the folders that are empty then.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::PermissionDenied`]; what was removed before stays so.
    pub async fn clean(&self, namespace: Option<&str>, older_than: Duration) -> Result<Cleaned> {
        let namespace = namespace.map(str::to_owned);
        self.run(move |files| files.clean(namespace.as_deref(), older_than)).await
    }

    /// Runs what blocks; it goes on when the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.spawn(work).await.unwrap_or_else(|error| {
            Err(StorageError::io("the work on a file did not end as it should").with_source(error))
        })
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || work(&files))
    }
}

#[async_trait]
impl Driver for FilesystemDriver {
    fn profile(&self) -> DriverProfile {
        let value_bytes_max = self.files.options.value_bytes_max;
        DriverProfile {
            name: "filesystem",
            persistent: true,
            conditional: true,
            list: true,
            list_sizes: true,
            range: true,
            atomic_batch: false,
            commit_changes_max: 0,
            body_bytes_max: value_bytes_max,
            value_bytes_max,
        }
    }

    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version> {
        let (place, key) = (place.clone(), key.to_owned());
        self.run(move |files| {
            let (version, folder) = files.put(&place, &key, record, guard)?;
            files.sync_folders(BTreeSet::from([folder]))?;
            Ok(version)
        })
        .await
    }

    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>> {
        let (place, key) = (place.clone(), key.to_owned());
        self.run(move |files| files.get(&place, &key, &part)).await
    }

    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool> {
        let (place, key) = (place.clone(), key.to_owned());
        self.run(move |files| {
            let (lived, folder) = files.remove(&place, &key, guard)?;
            files.sync_folders(folder.into_iter().collect())?;
            Ok(lived)
        })
        .await
    }

    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let place = place.clone();
        self.run(move |files| files.scan(&place, &scan)).await
    }

    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let (place, keys) = (place.clone(), keys.to_vec());
        self.run(move |files| keys.iter().map(|key| files.get(&place, key, &Part::Whole)).collect())
            .await
    }

    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        let share = changes.len().div_ceil(BATCH_THREADS).max(1);
        let mut changes = changes.into_iter().peekable();
        let mut shares = Vec::new();
        while changes.peek().is_some() {
            let share: Vec<_> = changes.by_ref().take(share).collect();
            let (place, count) = (place.clone(), share.len());
            shares.push((count, self.spawn(move |files| apply(files, &place, share))));
        }
        let mut results = Vec::new();
        for (count, share) in shares {
            match share.await {
                Ok(share) => results.extend(share),
                Err(error) => {
                    let failed =
                        || Err(StorageError::io(format!("part of a batch ended: {error}")));
                    results.extend(std::iter::repeat_with(failed).take(count));
                }
            }
        }
        results
    }

    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        self.run(move |files| files.collect_expired(now_ms, limit)).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.run(|files| {
            let space = statvfs(files.data())
                .map_err(|error| io_error("cannot measure", files.data(), error.into()))?;
            Ok(StorageStats {
                used_bytes: space.f_blocks.saturating_sub(space.f_bfree) * space.f_frsize,
                available_bytes: Some(space.f_bavail * space.f_frsize),
                ..StorageStats::default()
            })
        })
        .await
    }

    async fn health_check(&self) -> HealthStatus {
        let stats = match self.stats().await {
            Ok(stats) => stats,
            Err(error) => return HealthStatus::Critical(error.to_string()),
        };
        match stats.available_bytes {
            Some(0) => HealthStatus::Critical("the file system has no room left".to_owned()),
            _ => HealthStatus::Healthy,
        }
    }
}

/// Makes changes one by one, and syncs each folder once.
fn apply(files: &Files, place: &Place, changes: Vec<Change>) -> Vec<Result<Option<Version>>> {
    let mut folders = BTreeSet::new();
    let mut results: Vec<_> = changes
        .into_iter()
        .map(|change| match change {
            Change::Put { key, record, guard } => {
                let (version, folder) = files.put(place, &key, record, guard)?;
                folders.insert(folder);
                Ok(Some(version))
            }
            Change::Remove { key, guard } => {
                let (_, folder) = files.remove(place, &key, guard)?;
                folders.extend(folder);
                Ok(None)
            }
            Change::Check { key, guard } => {
                let held = files.get(place, &key, &Part::Head)?;
                guard.admit_removal(held.as_ref().map(Record::held)).map(|_| None)
            }
        })
        .collect();
    if let Err(error) = files.sync_folders(folders) {
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = Err(error.same_kind(error.to_string()));
        }
    }
    results
}

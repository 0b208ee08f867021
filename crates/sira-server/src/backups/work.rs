//! What can be asked of backups, and what came of it: the same on a server and on a folder.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sira_store::backup::{
    Backup, BackupSource, Drill, Moment, NamespaceChoice, Prune, PruneOptions, Repository, Restore,
    RestoreOptions, Retention, RunOptions, SnapshotId, Verification, VerifyOptions,
};
use sira_store::pattern::KeyPattern;
use sira_store::{Result, StorageError};
use utoipa::ToSchema;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "work", rename_all = "snake_case", deny_unknown_fields)]
pub enum BackupWork {
    /// Makes a snapshot.
    Run {
        /// Reads every object, also those that have not changed.
        #[serde(default)]
        full: bool,
    },
    /// Reads what a snapshot has, and compares it with its SHA-256.
    Verify {
        /// Name of the snapshot; the newest if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<String>,
        /// How many of its objects, in percent; 5 if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<f64>,
        /// Reads everything there is.
        #[serde(default)]
        full: bool,
    },
    /// Brings objects back.
    Restore {
        /// Name of the snapshot; the newest if neither it nor a time is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<String>,
        /// The moment, in milliseconds since the Unix epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<u64>,
        /// Names of the namespaces, such as `tenant-*`; all if left out.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        namespaces: Vec<String>,
        /// Namespace to restore one into; else each goes into its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Replaces objects that are there in another version.
        #[serde(default)]
        overwrite: bool,
        /// Says what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Removes snapshots that are not to be kept, and what nothing needs.
    Prune {
        /// Names of snapshots that go whatever is kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<String>,
        /// Says what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Restores the newest snapshot where nobody looks, compares it, and drops it.
    Drill {},
}

impl BackupWork {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Verify { .. } => "verify",
            Self::Restore { .. } => "restore",
            Self::Prune { .. } => "prune",
            Self::Drill {} => "drill",
        }
    }
}

/// What backups are made of and how, where the work does not say.
#[derive(Debug, Clone)]
pub struct BackupDefaults {
    /// Where backups lie.
    pub repository: Repository,
    /// What is saved and restored to.
    pub source: BackupSource,
    /// Which namespaces are saved.
    pub namespaces: NamespaceChoice,
    /// Which snapshots are kept.
    pub retention: Option<Retention>,
    /// How many objects a verification reads, in percent.
    pub verify_percent: f64,
    /// Most bytes of values a second that runs and verifications read.
    pub bytes_per_second_max: Option<u64>,
}

/// Work that can be run.
pub enum BackupTask {
    /// Makes a snapshot.
    Run(Backup),
    /// Reads and compares.
    Verify(Verification),
    /// Brings objects back.
    Restore(Restore),
    /// Removes what is not needed.
    Prune(Prune),
    /// Restores and compares.
    Drill(Drill),
}

/// What came of work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupOutcome {
    /// What was done.
    pub report: Value,
    /// Whether all of it went well: nothing is damaged, and no object was left out.
    pub sound: bool,
}

impl BackupTask {
    /// Makes work ready.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for names, patterns and numbers that cannot be right.
    pub fn new(work: &BackupWork, defaults: &BackupDefaults) -> Result<Self> {
        let repository = defaults.repository.clone();
        let source = defaults.source.clone();
        let bytes_per_second_max = defaults.bytes_per_second_max;
        Ok(match work {
            BackupWork::Run { full } => {
                let namespaces = defaults.namespaces.clone();
                let options = RunOptions {
                    namespaces,
                    full: *full,
                    bytes_per_second_max,
                    ..RunOptions::default()
                };
                Self::Run(Backup::new(repository, source, options))
            }
            BackupWork::Verify { snapshot, percent, full } => {
                let options = VerifyOptions {
                    snapshot: snapshot.as_deref().map(str::parse).transpose()?,
                    percent: percent.unwrap_or(defaults.verify_percent),
                    full: *full,
                    bytes_per_second_max,
                };
                Self::Verify(Verification::new(repository, options)?)
            }
            BackupWork::Restore { snapshot, at_ms, namespaces, to, overwrite, dry_run } => {
                let moment = match (snapshot, at_ms) {
                    (Some(_), Some(_)) => {
                        return Err(StorageError::invalid_input(
                            "a snapshot and a time are given: name one of them",
                        ));
                    }
                    (Some(snapshot), None) => Moment::Snapshot(snapshot.parse()?),
                    (None, Some(at_ms)) => Moment::At(*at_ms),
                    (None, None) => Moment::Newest,
                };
                let include = namespaces.iter().map(|name| KeyPattern::from_str(name));
                let include = include.collect::<Result<Vec<_>>>()?;
                let options = RestoreOptions {
                    moment,
                    namespaces: NamespaceChoice { include, ..NamespaceChoice::default() },
                    to: to.clone(),
                    overwrite: *overwrite,
                    dry_run: *dry_run,
                    ..RestoreOptions::default()
                };
                Self::Restore(Restore::new(repository, source, options))
            }
            BackupWork::Prune { remove, dry_run } => {
                let remove = remove.iter().map(|id| id.parse::<SnapshotId>());
                let options = PruneOptions {
                    retention: defaults.retention.clone(),
                    remove: remove.collect::<Result<_>>()?,
                    dry_run: *dry_run,
                };
                Self::Prune(Prune::new(repository, options))
            }
            BackupWork::Drill {} => Self::Drill(Drill::new(repository, source)),
        })
    }

    /// What was done so far; nothing is told of a prune before its end.
    #[must_use]
    pub fn report(&self) -> Value {
        match self {
            Self::Run(backup) => value(&backup.report()),
            Self::Verify(verification) => value(&verification.report()),
            Self::Restore(restore) => value(&restore.report()),
            Self::Prune(_) => Value::Object(serde_json::Map::new()),
            Self::Drill(drill) => value(&drill.report()),
        }
    }

    /// Does the work.
    ///
    /// # Errors
    /// As [`Backup::run`], [`Verification::run`], [`Restore::run`], [`Prune::run`] and
    /// [`Drill::run`].
    pub async fn run(&self) -> Result<BackupOutcome> {
        Ok(match self {
            Self::Run(backup) => {
                let report = backup.run().await?;
                BackupOutcome { sound: report.failed.is_empty(), report: value(&report) }
            }
            Self::Verify(verification) => {
                let report = verification.run().await?;
                BackupOutcome { sound: report.is_sound(), report: value(&report) }
            }
            Self::Restore(restore) => {
                let report = restore.run().await?;
                BackupOutcome { sound: report.is_complete(), report: value(&report) }
            }
            Self::Prune(prune) => BackupOutcome { sound: true, report: value(&prune.run().await?) },
            Self::Drill(drill) => {
                let report = drill.run().await?;
                BackupOutcome { sound: report.is_sound(), report: value(&report) }
            }
        })
    }
}

/// Reports are plain structs, which JSON has room for.
fn value(report: &impl Serialize) -> Value {
    serde_json::to_value(report).unwrap_or(Value::Null)
}

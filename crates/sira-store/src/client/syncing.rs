//! Keeping two places of the client level.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{NAMESPACE_DEFAULT, StorageClient};
use crate::backend::StorageBackend;
use crate::changes::ChangeLog;
use crate::error::{Result, StorageError};
use crate::migration::{
    ConflictRule, Ledger, Migration, MigrationOptions, MigrationProgress, Replication,
    ReplicationMark, ReplicationOptions, ReplicationProgress, SyncOptions, SyncProgress,
    TwoWaySync, Verify,
};
use crate::pattern::KeyPattern;

/// A namespace as it lies on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncPlace {
    /// Name of the backend. Left out for a namespace whose objects lie where the catalog says; else
    /// that is the namespace's own backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Name of the namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

fn default_namespace() -> String {
    NAMESPACE_DEFAULT.to_owned()
}

/// How two places are kept level.
#[derive(Debug, Clone)]
pub struct SyncPlan {
    /// One place.
    pub from: SyncPlace,
    /// The other one.
    pub to: SyncPlace,
    /// What either place has changed goes to the other one; else `to` becomes as `from` is.
    pub two_way: bool,
    /// Goes on until it is stopped.
    pub follow: bool,
    /// Which keys.
    pub pattern: KeyPattern,
    /// What to do with an object that both places have changed. Where one place follows the other
    /// one, the newest wins.
    pub conflict: ConflictRule,
    /// What is read back, where nothing is followed.
    pub verify: Verify,
    /// Reports what would be done, and does nothing.
    pub dry_run: bool,
    /// See [`SyncOptions::may_empty`].
    pub may_empty: bool,
    /// Most bytes of values a second.
    pub bytes_per_second_max: Option<u64>,
    /// Time between two passes, where it goes on and no change log is followed.
    pub pass_interval: Duration,
}

impl SyncPlan {
    /// Makes `to` as `from` is, once.
    #[must_use]
    pub fn new(from: SyncPlace, to: SyncPlace) -> Self {
        Self {
            from,
            to,
            two_way: false,
            follow: false,
            pattern: KeyPattern::any(),
            conflict: ConflictRule::default(),
            verify: Verify::default(),
            dry_run: false,
            may_empty: false,
            bytes_per_second_max: None,
            pass_interval: Duration::from_secs(10),
        }
    }

    fn migration(&self) -> MigrationOptions {
        MigrationOptions {
            pattern: self.pattern.clone(),
            conflict: self.conflict.clone(),
            remove_extraneous: true,
            verify: self.verify,
            dry_run: self.dry_run,
            bytes_per_second_max: self.bytes_per_second_max,
            ..MigrationOptions::default()
        }
    }

    fn two_way(&self) -> SyncOptions {
        SyncOptions {
            pattern: self.pattern.clone(),
            conflict: self.conflict.clone(),
            verify: self.verify,
            dry_run: self.dry_run,
            may_empty: self.may_empty,
            bytes_per_second_max: self.bytes_per_second_max,
            ..SyncOptions::default()
        }
    }

    fn replication(&self) -> ReplicationOptions {
        ReplicationOptions {
            pattern: self.pattern.clone(),
            pass_interval: self.pass_interval,
            bytes_per_second_max: self.bytes_per_second_max,
            ..ReplicationOptions::default()
        }
    }
}

/// Two places that are kept level.
#[derive(Debug)]
pub struct DataSync {
    work: Work,
    source: (Option<String>, String),
}

#[derive(Debug)]
enum Work {
    Copy(Migration),
    Level(TwoWaySync),
    LevelAgain { sync: TwoWaySync, interval: Duration, stop: Notify },
    Follow(Replication),
}

/// What was done so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum DataSyncProgress {
    /// One place becomes as the other one is.
    OneWay(MigrationProgress),
    /// Both become the same; of the last pass, where it goes on.
    TwoWay(SyncProgress),
    /// One place follows the other one.
    Follow(ReplicationProgress),
}

impl DataSync {
    /// Runs to its end, or until [`DataSync::stop`] where it follows. Dropped before that, what was
    /// done is done, and the same sync goes on.
    ///
    /// # Errors
    /// As [`TwoWaySync::run`], [`Migration::run`] and [`Replication::run`].
    pub async fn run(&self) -> Result<()> {
        match &self.work {
            Work::Copy(migration) => migration.run().await.map(drop),
            Work::Level(sync) => sync.run().await.map(drop),
            Work::LevelAgain { sync, interval, stop } => loop {
                tokio::select! {
                    result = sync.run() => result.map(drop)?,
                    () = stop.notified() => return Ok(()),
                }
                tokio::select! {
                    () = tokio::time::sleep(*interval) => {}
                    () = stop.notified() => return Ok(()),
                }
            },
            Work::Follow(replication) => replication.run().await,
        }
    }

    /// Ends a run that follows, after what is under way.
    pub fn stop(&self) {
        match &self.work {
            Work::Copy(_) | Work::Level(_) => {}
            Work::LevelAgain { stop, .. } => stop.notify_one(),
            Work::Follow(replication) => replication.stop(),
        }
    }

    /// Whether it runs until it is stopped.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(self.work, Work::LevelAgain { .. } | Work::Follow(_))
    }

    /// What was done so far.
    #[must_use]
    pub fn progress(&self) -> DataSyncProgress {
        match &self.work {
            Work::Copy(migration) => DataSyncProgress::OneWay(migration.progress()),
            Work::Level(sync) | Work::LevelAgain { sync, .. } => {
                DataSyncProgress::TwoWay(sync.progress())
            }
            Work::Follow(replication) => DataSyncProgress::Follow(replication.progress()),
        }
    }

    /// Backend and namespace that it reads from; no backend where the catalog knows.
    #[must_use]
    pub fn source(&self) -> (Option<&str>, &str) {
        (self.source.0.as_deref(), &self.source.1)
    }

    /// Follows this change log of the source, where it follows one at all: that of an engine behind
    /// layers that do not show it.
    #[must_use]
    pub fn with_change_log(self, log: Arc<dyn ChangeLog>) -> Self {
        let work = match self.work {
            Work::Follow(replication) => Work::Follow(replication.with_change_log(log)),
            other => other,
        };
        Self { work, ..self }
    }
}

/// A place, found.
struct Found {
    backend: Arc<dyn StorageBackend>,
    name: Option<String>,
}

impl StorageClient {
    /// Keeps two places level, by stored bytes, seals included, while both are in use. What it has
    /// to remember it keeps in `state`, under a name made of both places: the same sync goes on.
    ///
    /// A namespace with a catalog is one place, wherever its objects lie; [`StorageClient::migrate`]
    /// moves them. Encrypted objects open in a namespace of the same name only.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a backend that there is not, [`StorageError::InvalidInput`]
    /// for two places that are one, and [`StorageError::Unsupported`] for a backend of a namespace
    /// with a catalog, a place to write to that lies behind a cache, a dry run of what follows, and
    /// where the engines cannot.
    pub async fn sync(&self, plan: &SyncPlan, state: Arc<dyn StorageBackend>) -> Result<DataSync> {
        let from = self.find_place(&plan.from, plan.two_way).await?;
        let to = self.find_place(&plan.to, true).await?;
        if (&from.name, &plan.from.namespace) == (&to.name, &plan.to.namespace) {
            return Err(StorageError::invalid_input("both places are the same; name two")
                .with_namespace(&plan.to.namespace));
        }
        if plan.follow && plan.dry_run {
            return Err(StorageError::unsupported(
                "what follows has no dry run; ask for one of the sync alone",
            ));
        }
        let place = |found: &Found, place: &SyncPlace| {
            format!("{:?}/{:?}", found.name.as_deref().unwrap_or_default(), place.namespace)
        };
        let pair = format!("{} {}", place(&from, &plan.from), place(&to, &plan.to));
        let source = (from.name, plan.from.namespace.clone());
        let work = if plan.two_way {
            let ledger = Ledger::new(state, format!("level {pair}"));
            let mut sync = TwoWaySync::new(from.backend, to.backend, ledger, plan.two_way())?;
            if plan.from.namespace == plan.to.namespace {
                sync = sync.with_keyring(Arc::clone(&self.plan().keyring), &plan.to.namespace);
            }
            match plan.follow {
                false => Work::Level(sync),
                true => {
                    let (interval, stop) = (plan.pass_interval, Notify::new());
                    Work::LevelAgain { sync, interval, stop }
                }
            }
        } else if plan.follow {
            let mark = ReplicationMark::new(state, format!("follow {pair} {}", plan.pattern));
            Work::Follow(Replication::new(from.backend, to.backend, mark, plan.replication())?)
        } else {
            Work::Copy(Migration::new(from.backend, to.backend, plan.migration())?)
        };
        Ok(DataSync { work, source })
    }

    async fn find_place(&self, place: &SyncPlace, written: bool) -> Result<Found> {
        let SyncPlace { backend, namespace } = place;
        let scoped = self.namespace(namespace);
        let view = scoped.view().await?;
        let plan = self.plan();
        let (home, _) = plan.home(namespace)?;
        let at_home = backend.as_deref().is_none_or(|name| name == home);
        let located = |error: StorageError| error.with_namespace(namespace);
        // What transactions have written and backends do not hold yet is part of the namespace.
        let whole = |stored: Arc<dyn StorageBackend>| match &plan.transaction_log {
            Some(log) => log.around(namespace, stored),
            None => stored,
        };
        if written && view.cache.is_some() && (at_home || view.placed.is_some()) {
            return Err(located(StorageError::unsupported(
                "the namespace has a cache, which would not hear of what a sync writes; switch it \
                 off for the time",
            )));
        }
        if let Some(placed) = &view.placed {
            if backend.is_some() {
                return Err(located(StorageError::unsupported(
                    "objects of the namespace lie where the catalog says: leave the backend out, or \
                     migrate them, or give the other place a namespace of its own that lies on one \
                     backend (direct)",
                )));
            }
            return Ok(Found { backend: whole(Arc::clone(placed) as _), name: None });
        }
        let name = backend.as_deref().unwrap_or(home);
        let inside = match namespace.as_str() {
            NAMESPACE_DEFAULT => Ok(Arc::clone(plan.find(name)?)),
            namespace => plan.find(name)?.namespace(namespace).await,
        };
        let mut backend = inside.map_err(|error| located(error.with_backend(name)))?;
        if at_home {
            backend = whole(backend);
        }
        Ok(Found { backend, name: Some(name.to_owned()) })
    }
}

//! What the doors serve from.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use sira_store::StorageClient;
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::{EmbeddedBackend, Engine};
use sira_store::layers::{Layers, MetricsCollector};
use sira_store::lock::LockManager;
use sira_store::{Result, StorageBackend, StorageError};

use crate::backups::Backups;
use crate::capacity::Capacity;
use crate::health::{BackupState, Health};
use crate::lifecycle::Lifecycle;
use crate::limits::RESP_DATABASES;
use crate::maintenance::Maintenance;
use crate::monitoring::Monitor;
use crate::notify::Notifier;
use crate::resp::{Databases, namespace_name};

/// Name of the embedded engine among the backends.
pub const EMBEDDED: &str = "embedded";

/// Namespace of the embedded engine that keeps which tokens of locks were given. Like the catalog's,
/// it is shown to nobody.
const LOCKS_NAMESPACE: &str = "sira.catalog.locks";

/// What the doors serve from: the embedded engine, which RESP works on where it can, and the client
/// over every backend, which HTTP works on.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The embedded engine.
    pub engine: Arc<Engine>,
    /// The client; the embedded engine is one of its backends, under the name [`EMBEDDED`].
    pub client: StorageClient,
    /// Figures of the backends.
    pub collector: Arc<MetricsCollector>,
    /// Watches the backends.
    pub monitor: Arc<Monitor>,
    /// Watches the health of the backends.
    pub health: Arc<Health>,
    /// Tells others of alerts.
    pub notifier: Arc<Notifier>,
    /// Has the backends give back space.
    pub maintenance: Arc<Maintenance>,
    /// Has the rules of the lifecycle looked to.
    pub lifecycle: Arc<Lifecycle>,
    /// Backups of what is held.
    pub backups: Arc<Backups>,
    /// Follows what is in use.
    pub capacity: Arc<Capacity>,
    /// Which databases of RESP have a policy of their own.
    pub(crate) databases: Arc<Databases>,
}

impl Storage {
    /// The embedded engine alone.
    ///
    /// # Errors
    /// None that can happen: the plan has one backend.
    pub fn new(engine: Arc<Engine>) -> Result<Self> {
        let notifier: Arc<Notifier> = Arc::default();
        let storage = Self {
            health: Arc::new(Health::new(Arc::clone(&engine), Arc::clone(&notifier))?),
            capacity: Arc::new(Capacity::new(Arc::clone(&engine))?),
            notifier,
            engine,
            client: StorageClient::new(),
            collector: Arc::default(),
            monitor: Arc::default(),
            maintenance: Arc::default(),
            lifecycle: Arc::default(),
            backups: Arc::default(),
            databases: Arc::default(),
        };
        let kept = EmbeddedBackend::new(Arc::clone(&storage.engine)).unmade(LOCKS_NAMESPACE)?;
        let env = Arc::clone(storage.engine.env());
        storage.monitor.notify(Arc::clone(&storage.notifier), Arc::clone(&env));
        storage.backups.notify(Arc::clone(&storage.notifier));
        storage.health.watch_backups(Arc::clone(&storage.backups) as Arc<dyn BackupState>);
        storage.client.use_locks(LockManager::durable(Arc::new(kept), env))?;
        storage.apply(StoragePlan::default())?;
        Ok(storage)
    }

    /// Serves by another plan from now on. The embedded engine is among its backends, and the
    /// default where it names none; databases of RESP lie on the engine as they are, but for those
    /// that the plan has a policy for.
    ///
    /// # Errors
    /// As [`StorageClient::apply`], and [`StorageError::InvalidInput`] for a plan that wants another
    /// backend under the engine's name.
    pub fn apply(&self, mut plan: StoragePlan) -> Result<()> {
        if plan.backends.contains_key(EMBEDDED) {
            return Err(StorageError::invalid_input(
                "this is the name of the engine in the data folder; choose another for the backend",
            )
            .with_backend(EMBEDDED));
        }
        plan.backends.insert(EMBEDDED.to_owned(), self.embedded());
        plan.default_backend.get_or_insert_with(|| EMBEDDED.to_owned());
        let mut away = 0;
        for database in 0..RESP_DATABASES {
            match plan.namespaces.entry(namespace_name(database)) {
                Entry::Occupied(_) => away |= 1 << database,
                Entry::Vacant(entry) => {
                    let direct = NamespacePolicy { direct: true, ..NamespacePolicy::on(EMBEDDED) };
                    entry.insert(direct);
                }
            }
        }
        plan.check()?;
        // A database leaves the engine before its policy counts, and comes back after.
        let before = self.databases.mask();
        self.databases.set(before | away);
        let applied = self.client.apply(plan);
        self.databases.set(if applied.is_ok() { away } else { before });
        applied
    }

    /// The embedded engine as a backend of a plan, with its operations traced and counted.
    #[must_use]
    pub fn embedded(&self) -> Arc<dyn StorageBackend> {
        let backend = Arc::new(EmbeddedBackend::new(Arc::clone(&self.engine)));
        Layers::new(backend).name(EMBEDDED).tracing().metrics(&self.collector).build()
    }
}

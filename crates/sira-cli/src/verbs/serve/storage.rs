//! The backends that the configuration names, opened, and the plan that the server serves by.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::try_join_all;
use sira_backends::config::{BackendConfig, open};
use sira_server::Storage;
use sira_server::backups::BackupSettings;
use sira_store::backup::BackupSource;
use sira_store::cache::{CacheOptions, DiskTierOptions, RemoteTierOptions};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::EmbeddedBackend;
use sira_store::env::{Env, SystemEnv};
use sira_store::layers::Layers;
use sira_store::placement::Catalog;
use sira_store::router::StatsRecorder;
use sira_store::seal::SealOptions;
use sira_store::transaction::TransactionLog;
use sira_store::{Result, Retry, StorageBackend, StorageError};

use super::absent::AbsentBackend;
use super::opened::{Files, Opened};
use crate::backups::open_defaults;
use crate::config::storage::{CacheConfig, EMBEDDED, NamespaceConfig, StorageConfig, is_database};

/// Folder of the caches' disk tiers, in the data folder.
const CACHE_FOLDER: &str = "cache";

/// Opens backends and changes what the server serves by.
pub struct Plane {
    pub(super) storage: Storage,
    env: Arc<dyn Env>,
    recorder: Arc<StatsRecorder>,
    /// The backends that are open, with the settings that they were opened with.
    pub(super) opened: BTreeMap<String, Opened>,
    /// Of the transactions over several backends, once there are several.
    transactions: tokio::sync::OnceCell<TransactionLog>,
    /// What is served by.
    pub(super) config: StorageConfig,
    /// Whether anything is served by it yet.
    pub(super) serves: bool,
    /// The target of backups does not answer.
    backups_late: bool,
}

impl Plane {
    /// Nothing but the embedded engine is open.
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            env: Arc::new(SystemEnv),
            recorder: Arc::default(),
            opened: BTreeMap::new(),
            transactions: tokio::sync::OnceCell::new(),
            config: StorageConfig::default(),
            serves: false,
            backups_late: false,
        }
    }

    /// Opens what is new, and serves by this configuration from now on. Backends whose settings
    /// and secrets did not change stay open; those that do not answer are [tried again](Plane::reconnect), and
    /// what lies on them is unavailable until then. Backends that namespaces have [left](super::leaving)
    /// are forgotten.
    ///
    /// # Errors
    /// Those of the backends that cannot be opened, but for those that a later try may not meet;
    /// [`StorageError::InvalidInput`] for a configuration without a backend that holds objects, and
    /// for a `direct` namespace that has objects elsewhere. Then everything stays as it was.
    pub async fn apply(&mut self, config: &StorageConfig) -> Result<()> {
        let opened = self.open_all(&config.backends).await?;
        let catalog = self.catalog(config, &opened)?;
        let known = self.known(config, &catalog).await?;
        let leaving = self.leaving(config, &catalog, &known, &opened).await?;
        if !leaving.is_empty() {
            self.see_off(config, &opened, &leaving).await?;
        }
        let plan = self.plan(config, &opened).await?;
        let backups = self.backups(config, &opened, &plan).await?;
        self.storage.apply(plan)?;
        if let Err(error) = self.storage.client.settle_transactions().await {
            tracing::warn!(%error, "a committed transaction waits for a backend");
        }
        if let Err(error) = self.storage.client.follow_replicas().await {
            tracing::warn!(%error, "a replicated namespace cannot be opened yet");
        }
        self.backups_late = config.backup.is_some() && backups.is_none();
        self.storage.backups.apply(backups);
        self.storage.maintenance.apply(config.maintenance_interval);
        self.storage.lifecycle.apply(config.lifecycle.clone());
        self.storage.monitor.apply(config.monitoring.clone(), &self.storage.collector);
        self.storage.health.apply(config.health.clone());
        self.storage.notifier.apply(config.notify.clone());
        self.storage.capacity.apply(config.capacity.clone(), config.cost.clone());
        for name in self.opened.keys().filter(|name| !opened.contains_key(*name)) {
            self.storage.collector.remove(name);
        }
        self.opened = opened;
        self.config = config.clone();
        self.serves = true;
        Ok(())
    }

    /// How backups are made; `None` also where their target does not answer, which a later try may
    /// not meet.
    async fn backups(
        &self,
        config: &StorageConfig,
        opened: &BTreeMap<String, Opened>,
        plan: &StoragePlan,
    ) -> Result<Option<BackupSettings>> {
        let Some(backup) = &config.backup else { return Ok(None) };
        let source = BackupSource::new(self.storage.client.clone());
        let source = source.with_engine(EMBEDDED, Arc::clone(&self.storage.engine)).await?;
        if opened.get(&backup.target).is_some_and(|target| target.absent) {
            return Ok(None);
        }
        let backends = opened.iter();
        let backends = backends.map(|(name, opened)| (name.clone(), Arc::clone(&opened.backend)));
        let (backends, keyring) = (backends.collect(), Arc::clone(&plan.keyring));
        let defaults = match open_defaults(config, backup, &backends, keyring, source, true).await {
            Ok(defaults) => defaults,
            Err(error) if error.retry() == Retry::Permanent => return Err(error),
            Err(error) => {
                tracing::error!(alert = "backup", %error, "alert: the target of backups cannot be opened; it is tried again");
                return Ok(None);
            }
        };
        Ok(Some(BackupSettings {
            defaults,
            schedule: backup.schedule.clone(),
            drill: backup.drill.clone(),
            archive_interval: backup.archive_interval,
        }))
    }

    /// What is to be served by.
    pub(super) async fn plan(
        &self,
        config: &StorageConfig,
        opened: &BTreeMap<String, Opened>,
    ) -> Result<StoragePlan> {
        let catalog = self.catalog(config, opened)?;
        let known = self.known(config, &catalog).await?;
        // With the engine alone there is nothing to choose, and nothing to look up.
        let places = !opened.is_empty() || !known.is_empty();
        let keyring = match &config.keyring {
            Some(source) => Arc::new(source.open()?),
            None => Arc::default(),
        };
        let recorder = Arc::clone(&self.recorder);
        let router = config.routing.router(&config.default_backend, &self.env, recorder)?;
        for name in opened.keys().map(String::as_str).chain([EMBEDDED]) {
            let profile = config.routing.profiles.get(name).cloned().unwrap_or_default();
            router.register_backend(name, profile);
        }
        let mut namespaces = BTreeMap::new();
        for (name, namespace) in &config.namespaces {
            let policy = self.policy(name, namespace, opened)?;
            if policy.plain {
                // Told now rather than to each client.
                let backend = policy.backends.first().unwrap_or(&config.default_backend);
                let plain = self.backend(opened, backend)?.plain(name).await;
                plain.map_err(|error| error.with_backend(backend).with_namespace(name))?;
            }
            namespaces.insert(name.clone(), policy);
        }
        for name in known.iter().filter(|name| is_database(name)) {
            // It was away once, and its objects may still be.
            let on_engine = || NamespacePolicy::on(EMBEDDED);
            namespaces.entry(name.clone()).or_insert_with(on_engine);
        }
        if places {
            self.adopt(&catalog, &known, &namespaces, &config.default_backend).await?;
        }
        Ok(StoragePlan {
            backends: opened
                .iter()
                .map(|(name, opened)| (name.clone(), Arc::clone(&opened.backend)))
                .collect(),
            default_backend: Some(config.default_backend.clone()),
            leaving: BTreeSet::new(),
            router: places.then(|| Arc::new(router)),
            catalog: places.then_some(catalog),
            transaction_log: if places { Some(self.transactions().await?) } else { None },
            keyring,
            seal: SealOptions {
                compression: config.compression,
                compression_level: config.compression_level,
                encryption: config.encryption.clone(),
            },
            namespaces,
        })
    }

    fn catalog(
        &self,
        config: &StorageConfig,
        opened: &BTreeMap<String, Opened>,
    ) -> Result<Catalog> {
        match config.catalog.as_str() {
            EMBEDDED => {
                Catalog::new(Arc::new(EmbeddedBackend::new(Arc::clone(&self.storage.engine))))
            }
            name => Catalog::new(self.backend(opened, name)?),
        }
    }

    /// The log of transactions over several backends, which is opened once.
    async fn transactions(&self) -> Result<TransactionLog> {
        let (engine, env) = (self.storage.embedded(), Arc::clone(&self.env));
        let open = || TransactionLog::open(engine, env);
        self.transactions.get_or_try_init(open).await.cloned()
    }

    /// Whether something stands in for a backend that could not be opened.
    pub fn has_absent(&self) -> bool {
        self.backups_late || self.opened.values().any(|opened| opened.absent)
    }

    /// Tries to open what could not be opened, and serves from what can be now.
    ///
    /// # Errors
    /// As [`Plane::apply`].
    pub async fn reconnect(&mut self) -> Result<()> {
        let config = self.config.clone();
        let before = self.opened.values().filter(|opened| opened.absent).count();
        let opened = self.open_all(&config.backends).await?;
        let fewer = opened.values().filter(|opened| opened.absent).count() < before;
        if fewer || self.backups_late {
            self.opened = opened;
            self.apply(&config).await?;
        }
        Ok(())
    }

    async fn open_all(
        &self,
        configs: &BTreeMap<String, BackendConfig>,
    ) -> Result<BTreeMap<String, Opened>> {
        let opening = configs.iter().map(|(name, config)| async move {
            let files = Files::of(config);
            let known = self.opened.get(name).filter(|known| known.is_of(config, &files));
            if let Some(known) = known.filter(|known| !known.absent) {
                return Ok((name.clone(), known.clone()));
            }
            let (backend, absent) = match open(name, config).await {
                Ok(backend) => (backend, false),
                Err(error) if error.retry() == Retry::Permanent => return Err(error),
                Err(error) => {
                    if known.is_none() {
                        tracing::warn!(backend = %name, %error, "the backend cannot be opened; it is tried again");
                    }
                    let kind = config.kind().name();
                    (Arc::new(AbsentBackend::new(kind, error)) as Arc<dyn StorageBackend>, true)
                }
            };
            if known.is_some() && !absent {
                tracing::info!(backend = %name, "the backend is open");
            }
            let backend = Layers::standard(backend, name, &self.storage.collector).build();
            Ok((name.clone(), Opened::new(config, files, backend, absent)))
        });
        let opened = try_join_all(opening).await?.into_iter().collect();
        Ok(opened)
    }

    pub(super) fn backend(
        &self,
        opened: &BTreeMap<String, Opened>,
        name: &str,
    ) -> Result<Arc<dyn StorageBackend>> {
        if name == EMBEDDED {
            return Ok(self.storage.embedded());
        }
        let found = opened.get(name).map(|opened| Arc::clone(&opened.backend));
        found.ok_or_else(|| {
            StorageError::not_found("there is no backend of this name").with_backend(name)
        })
    }

    /// Namespaces that the catalog knows. Asking an engine that has none yet makes none.
    async fn known(&self, config: &StorageConfig, catalog: &Catalog) -> Result<Vec<String>> {
        let engine = &self.storage.engine;
        if config.catalog == EMBEDDED && engine.find_namespace(Catalog::RECORDS).is_none() {
            return Ok(Vec::new());
        }
        catalog.namespaces().await
    }

    /// Takes namespaces into the catalog that it does not know: those that the engine alone has held
    /// so far, and those that lie on a backend directly, so that they are found there later.
    async fn adopt(
        &self,
        catalog: &Catalog,
        known: &[String],
        policies: &BTreeMap<String, NamespacePolicy>,
        default_backend: &str,
    ) -> Result<()> {
        let engine = &self.storage.engine;
        let is_known = |name: &String| known.binary_search(name).is_ok();
        for (name, id) in engine.namespaces() {
            let policy = policies.get(&name);
            let placed = policy.map_or(!is_database(&name), |policy| !policy.direct);
            if placed && !is_known(&name) && !Catalog::owns(&name) && engine.count(id) > 0 {
                catalog.adopt(&name, EMBEDDED).await?;
            }
        }
        // Plain bytes are no objects that others could hold.
        let direct = |policy: &NamespacePolicy| policy.direct && !policy.plain;
        for (name, policy) in policies.iter().filter(|(_, policy)| direct(policy)) {
            if !is_known(name) {
                let at = policy.backends.first().map_or(default_backend, String::as_str);
                catalog.adopt(name, at).await?;
            }
        }
        Ok(())
    }

    fn policy(
        &self,
        name: &str,
        config: &NamespaceConfig,
        opened: &BTreeMap<String, Opened>,
    ) -> Result<NamespacePolicy> {
        let cache = match &config.cache {
            Some(cache) => Some(self.cache(name, cache, opened)?),
            None => None,
        };
        Ok(NamespacePolicy {
            backends: config.backends.clone(),
            replication: config.replication.clone(),
            direct: config.direct,
            plain: config.plain,
            compression: config.compression,
            compression_level: config.compression_level,
            encryption: config.encryption.clone(),
            ttl: config.ttl,
            durability: config.durability,
            cache,
            keep_versions: config.keep_versions,
        })
    }

    fn cache(
        &self,
        namespace: &str,
        config: &CacheConfig,
        opened: &BTreeMap<String, Opened>,
    ) -> Result<CacheOptions> {
        let defaults = CacheOptions::default();
        let disk = config.disk.map(|bytes| DiskTierOptions::new(self.folder(namespace), bytes));
        let remote = match &config.remote {
            Some(name) => Some(RemoteTierOptions::new(self.backend(opened, name)?)),
            None => None,
        };
        Ok(CacheOptions {
            memory_bytes: config.policy.memory_bytes.unwrap_or(defaults.memory_bytes),
            policy: config.policy.clone(),
            disk,
            remote,
            ..defaults
        })
    }

    /// Folder of a namespace's disk tier.
    fn folder(&self, namespace: &str) -> PathBuf {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        };
        let name: String = namespace.bytes().map(encode).collect();
        self.storage.engine.root().join(CACHE_FOLDER).join(name)
    }
}

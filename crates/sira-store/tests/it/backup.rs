//! Backups, from the outside.

mod crashes;
mod damage;
mod history;
mod mortal;
mod round_trip;

use std::collections::BTreeMap;
use std::sync::Arc;

use sira_store::backup::{
    Backup, BackupSource, Moment, Repository, RepositoryOptions, Restore, RestoreOptions,
    RestoreReport, RunOptions, RunReport, Verification, VerifyOptions, VerifyReport,
};
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::env::SeededRandom;
use sira_store::seal::Keyring;
use sira_store::{
    Bytes, Durability, EmbeddedBackend, ListOptions, MemoryBackend, Result, StorageBackend,
    StorageClient,
};

/// A client over an embedded engine, and backups of it.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) client: StorageClient,
    pub(crate) source: BackupSource,
    pub(crate) target: Arc<dyn StorageBackend>,
    pub(crate) keyring: Arc<Keyring>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = EngineOptions { durability: Durability::None, ..EngineOptions::default() };
        let engine = Engine::open(folder.path(), options).unwrap();
        let client = StorageClient::new();
        let backend = Arc::new(EmbeddedBackend::new(Arc::clone(&engine)));
        client.register_backend("embedded", backend).unwrap();
        let source = BackupSource::new(client.clone());
        let source = source.with_engine("embedded", Arc::clone(&engine)).await.unwrap();
        let target = Arc::new(MemoryBackend::new(1 << 30));
        let keyring = Arc::new(Keyring::default());
        Self { engine, client, source, target, keyring, _folder: folder }
    }

    pub(crate) fn options() -> RepositoryOptions {
        RepositoryOptions { owner: "test".to_owned(), ..RepositoryOptions::default() }
    }

    pub(crate) async fn repository(&self) -> Repository {
        self.repository_on(Arc::clone(&self.target)).await.unwrap()
    }

    pub(crate) async fn repository_on(
        &self,
        target: Arc<dyn StorageBackend>,
    ) -> Result<Repository> {
        Repository::open(target, Arc::clone(&self.keyring), Self::options()).await
    }

    pub(crate) async fn run(&self) -> RunReport {
        let options = RunOptions::default();
        Backup::new(self.repository().await, self.source.clone(), options).run().await.unwrap()
    }

    pub(crate) async fn verify(&self) -> VerifyReport {
        let options = VerifyOptions { full: true, ..VerifyOptions::default() };
        Verification::new(self.repository().await, options).unwrap().run().await.unwrap()
    }

    /// Restores everything into another world, and says what is there then.
    pub(crate) async fn restored(&self, moment: Moment) -> (RestoreReport, State) {
        let other = Self::new().await;
        let options = RestoreOptions { moment, ..RestoreOptions::default() };
        let restore = Restore::new(self.repository().await, other.source.clone(), options);
        let report = restore.run().await.unwrap();
        (report, state(&other).await)
    }
}

/// Values by namespace and key.
pub(crate) type State = BTreeMap<(String, String), Bytes>;

/// Everything that a world holds.
pub(crate) async fn state(world: &World) -> State {
    let mut state = State::new();
    for (name, _) in world.engine.namespaces() {
        if name.starts_with("sira.") {
            continue;
        }
        let namespace = world.client.namespace(&name);
        for key in namespace.list_keys("", usize::MAX).await.unwrap() {
            let value = namespace.retrieve(&key).await.unwrap().unwrap();
            state.insert((name.clone(), key), value);
        }
    }
    state
}

pub(crate) fn random_bytes(seed: u64, len: usize) -> Bytes {
    let mut random = SeededRandom::new(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).take(len).collect()
}

/// Keys of a backend.
pub(crate) async fn keys(target: &dyn StorageBackend, prefix: &str) -> Vec<String> {
    let options = ListOptions { prefix: prefix.to_owned(), limit: 10_000, ..Default::default() };
    let page = target.list(options).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

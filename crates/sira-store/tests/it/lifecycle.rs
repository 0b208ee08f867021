//! Rules of the lifecycle on namespaces of the client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sira_store::cache::CacheOptions;
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::env::{Env, SystemEnv};
use sira_store::lifecycle::{LifecycleAction, LifecycleOptions, LifecycleReport, LifecycleRule};
use sira_store::placement::Catalog;
use sira_store::seal::Keyring;
use sira_store::version_history::KeepVersions;
use sira_store::{
    CompressionType, EncryptionType, MemoryBackend, Metadata, StorageBackend, StorageClient,
    StorageOptions,
};

struct World {
    client: StorageClient,
    hot: Arc<dyn StorageBackend>,
    cold: Arc<dyn StorageBackend>,
}

/// Objects on `hot`, with a catalog, so that they may go to `cold`.
fn world(policies: &[(&str, NamespacePolicy)]) -> World {
    let memory = || Arc::new(MemoryBackend::new(64 << 20)) as Arc<dyn StorageBackend>;
    let (hot, cold) = (memory(), memory());
    let client = StorageClient::new();
    let backends = [("hot", &hot), ("cold", &cold)];
    let backends = backends.map(|(name, backend)| (name.to_owned(), Arc::clone(backend)));
    let policies = policies.iter().map(|(name, policy)| ((*name).to_owned(), policy.clone()));
    let plan = StoragePlan {
        backends: BTreeMap::from(backends),
        default_backend: Some("hot".to_owned()),
        catalog: Some(Catalog::new(memory()).unwrap()),
        keyring: Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap()),
        namespaces: policies.collect(),
        ..StoragePlan::default()
    };
    client.apply(plan).unwrap();
    World { client, hot, cold }
}

fn rule(name: &str, keys: &str, action: LifecycleAction) -> LifecycleRule {
    LifecycleRule { keys: Some(keys.parse().unwrap()), ..LifecycleRule::new(name, action) }
}

impl World {
    async fn put(&self, namespace: &str, key: &str, value: &str) {
        let space = self.client.namespace(namespace);
        space.store(key, value.to_owned(), StorageOptions::default()).await.unwrap();
    }

    /// Runs to the end, in parts, as if it were so much later.
    async fn run(
        &self,
        rules: &[LifecycleRule],
        later: Duration,
        dry_run: bool,
    ) -> LifecycleReport {
        let now_ms = SystemEnv.now_ms() + u64::try_from(later.as_millis()).unwrap();
        let mut namespaces = self.client.known_namespaces().await.unwrap();
        namespaces.extend(["sira.catalog.names".to_owned(), "sira.versions.v".to_owned()]);
        let mut report = LifecycleReport::default();
        loop {
            let from = report.next.clone();
            let options =
                LifecycleOptions { namespaces: namespaces.clone(), from, limit: 3, dry_run };
            report.add(self.client.run_lifecycle(rules, &options, now_ms).await.unwrap());
            if report.next.is_none() {
                return report;
            }
        }
    }

    async fn keys(&self, namespace: &str) -> BTreeSet<String> {
        let keys = self.client.namespace(namespace).list_keys("", 1000).await.unwrap();
        keys.into_iter().collect()
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn objects_expire_by_age_key_and_metadata_and_exceptions_stay() {
    let world = world(&[]);
    for number in 0..10 {
        world.put("logs", &format!("raw/{number}"), "x").await;
        world.put("other", &format!("raw/{number}"), "x").await;
    }
    let metadata = Metadata {
        user: BTreeMap::from([("hold".to_owned(), "yes".to_owned())]),
        ..Metadata::default()
    };
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    world.client.namespace("logs").store("raw/held", "x", options).await.unwrap();
    let held = LifecycleRule {
        metadata: BTreeMap::from([("hold".to_owned(), "yes".to_owned())]),
        ..LifecycleRule::new("held", LifecycleAction::Keep)
    };
    let expire = LifecycleRule {
        namespaces: vec!["logs".parse().unwrap()],
        older_than: Some(DAY),
        ..rule("old", "raw/*", LifecycleAction::Expire)
    };
    let rules = [held, expire];
    let report = world.run(&rules, DAY / 2, false).await;
    assert_eq!(report.rules.get("old"), None, "nothing is old enough");
    let report = world.run(&rules, DAY * 2, true).await;
    assert_eq!((report.objects, report.rules["old"].objects), (21, 10));
    assert_eq!(report.rules["held"].objects, 1);
    assert_eq!(world.keys("logs").await.len(), 11, "a dry run changes nothing");
    let report = world.run(&rules, DAY * 2, false).await;
    assert_eq!(report.rules["old"].objects, 10);
    assert_eq!((report.rules["old"].bytes, report.failed()), (10, 0));
    assert_eq!(world.keys("logs").await, BTreeSet::from(["raw/held".to_owned()]));
    assert_eq!(world.keys("other").await.len(), 10);
}

#[tokio::test]
async fn objects_move_to_another_backend_and_keep_their_versions() {
    let world = world(&[]);
    world.put("data", "big", &"x".repeat(1000)).await;
    world.put("data", "small", "x").await;
    let before = world.client.namespace("data").versions_of(&["big", "small"]).await;
    let cold = LifecycleRule {
        larger_than: Some(100),
        ..rule("cold", "*", LifecycleAction::Move { to: "cold".to_owned() })
    };
    let report = world.run(std::slice::from_ref(&cold), DAY, false).await;
    assert_eq!((report.rules["cold"].objects, report.rules["cold"].bytes), (1, 1000));
    let space = world.client.namespace("data");
    assert_eq!(space.versions_of(&["big", "small"]).await, before);
    assert_eq!(space.retrieve("big").await.unwrap().unwrap().len(), 1000);
    let on = |backend: &Arc<dyn StorageBackend>| {
        let backend = Arc::clone(backend);
        async move { backend.namespace("data").await.unwrap().list_keys("", 10).await.unwrap() }
    };
    assert_eq!(on(&world.cold).await, ["big"]);
    assert_eq!(on(&world.hot).await, ["small"]);
    let report = world.run(std::slice::from_ref(&cold), DAY, false).await;
    assert_eq!(report.rules.get("cold"), None, "it is there");

    let nowhere = rule("nowhere", "*", LifecycleAction::Move { to: "none".to_owned() });
    let report = world.run(&[nowhere], DAY, false).await;
    assert_eq!((report.failed(), report.failures.len()), (2, 2), "{report:?}");
    assert!(report.failures.contains_key("data/big"), "{report:?}");
}

/// Versions of objects.
trait Versions {
    async fn versions_of(&self, keys: &[&str]) -> Vec<u64>;
}

impl Versions for StorageClient {
    async fn versions_of(&self, keys: &[&str]) -> Vec<u64> {
        let backend = self.open().await.unwrap().backend;
        let mut versions = Vec::new();
        for key in keys {
            versions.push(backend.head(key).await.unwrap().unwrap().version.as_u64());
        }
        versions
    }
}

#[tokio::test]
async fn objects_are_compressed_once_and_stay_as_old_as_they_were() {
    let secret = NamespacePolicy {
        encryption: Some(EncryptionType::Aes256Gcm { key_id: String::new() }),
        cache: Some(CacheOptions::default()),
        ttl: Some(DAY),
        ..NamespacePolicy::default()
    };
    let quick =
        NamespacePolicy { compression: Some(CompressionType::Lz4), ..NamespacePolicy::default() };
    let world =
        world(&[("secret", secret), ("quick", quick), ("plain", NamespacePolicy::default())]);
    let text: String = (0..4000).map(|number| format!("line {}\n", number * 7919)).collect();
    let mut noise = vec![0_u8; 8000];
    for piece in noise.chunks_mut(8) {
        piece.copy_from_slice(&SystemEnv.random_u64().to_le_bytes());
    }
    for name in ["secret", "quick", "plain"] {
        let space = world.client.namespace(name);
        space.store("text", text.clone(), StorageOptions::default()).await.unwrap();
        space.store("noise", noise.clone(), StorageOptions::default()).await.unwrap();
        space.retrieve("text").await.unwrap();
    }
    let compress = [rule("press", "*", LifecycleAction::Compress { level: 19 })];
    for name in ["secret", "quick", "plain"] {
        let space = world.client.namespace(name);
        let backend = space.open().await.unwrap().backend;
        let before = backend.head("text").await.unwrap().unwrap();
        let stored = space.stored().await.unwrap().stored;
        let stored_before = stored.head("text").await.unwrap().unwrap();
        let only =
            [LifecycleRule { namespaces: vec![name.parse().unwrap()], ..compress[0].clone() }];
        let report = world.run(&only, DAY, false).await;
        assert_eq!((report.rules["press"].objects, report.failed()), (1, 0), "{name} {report:?}");
        let after = backend.head("text").await.unwrap().unwrap();
        assert_eq!(after.version.time_ms(), before.version.time_ms());
        assert!(after.version > before.version);
        assert_eq!(after.expires_at_ms, before.expires_at_ms);
        let stored_after = stored.head("text").await.unwrap().unwrap();
        assert!(stored_after.size < stored_before.size, "{name}");
        let saved = stored_before.size - stored_after.size;
        assert_eq!(report.rules["press"].bytes, saved, "{name}");
        let object = backend.read("text", Default::default()).await.unwrap().unwrap();
        assert!(object.value == text && object.head.version == after.version, "{name}");
        let sealed = stored_after.metadata.seal.is_some();
        assert!(sealed);
        let again = world.run(&only, DAY, false).await;
        assert_eq!(again.rules.get("press"), None, "{name} {again:?}");
        assert!(space.retrieve("noise").await.unwrap().unwrap() == noise);
    }
    let raw = world.hot.namespace("secret").await.unwrap();
    let raw = raw.get("text").await.unwrap().unwrap();
    assert!(!raw.windows(5).any(|part| part == b"line "), "it stays encrypted");
}

#[tokio::test]
async fn earlier_versions_are_kept_of_what_expires_and_their_bytes_stay() {
    let keep_versions = Some(KeepVersions { count: Some(5), age: None });
    let policy = NamespacePolicy { keep_versions, ..NamespacePolicy::default() };
    let world = world(&[("v", policy)]);
    world.put("v", "k", &"text ".repeat(100)).await;
    let press = rule("press", "*", LifecycleAction::Compress { level: 3 });
    let report = world.run(std::slice::from_ref(&press), DAY, false).await;
    assert_eq!((report.objects, report.rules.get("press")), (1, None), "it cannot be done here");
    let named = LifecycleRule { namespaces: vec!["v".parse().unwrap()], ..press };
    let report = world.run(&[named], DAY, false).await;
    assert_eq!(report.failed(), 1, "{report:?}");
    let expire = rule("old", "*", LifecycleAction::Expire);
    let report = world.run(&[expire], DAY, false).await;
    assert_eq!((report.objects, report.rules["old"].objects), (1, 1));
    let space = world.client.namespace("v");
    let versions = space.versions("k", None, 0).await.unwrap().versions;
    assert_eq!(versions.len(), 1);
    space.restore_version("k", versions[0].version).await.unwrap();
    assert_eq!(space.retrieve("k").await.unwrap().unwrap().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_writer_changes_meanwhile_is_left_alone() {
    let world = world(&[]);
    let small =
        LifecycleRule { smaller_than: Some(5), ..rule("small", "*", LifecycleAction::Expire) };
    let client = world.client.clone();
    let writer = tokio::spawn(async move {
        let space = client.namespace("data");
        for round in 0..3_000 {
            space.store("k", "x", StorageOptions::default()).await.unwrap();
            tokio::task::yield_now().await;
            space.store("k", "larger than that", StorageOptions::default()).await.unwrap();
            tokio::task::yield_now().await;
            let held = space.retrieve("k").await.unwrap();
            assert_eq!(held.as_deref(), Some(&b"larger than that"[..]), "round {round}");
        }
    });
    let mut removed = 0;
    while !writer.is_finished() {
        let report = world.run(std::slice::from_ref(&small), DAY, false).await;
        assert_eq!(report.failed(), 0, "{report:?}");
        removed += report.rules.get("small").map_or(0, |figures| figures.objects);
    }
    writer.await.unwrap();
    assert!(removed > 0, "they never met");
}

#[tokio::test]
async fn what_one_write_asked_to_encrypt_stays_so() {
    let world = world(&[]);
    let space = world.client.namespace("data");
    let encryption = EncryptionType::Aes256Gcm { key_id: String::new() };
    let options = StorageOptions { encryption, ..StorageOptions::default() };
    space.store("k", "line ".repeat(1000), options).await.unwrap();
    let press = rule("press", "*", LifecycleAction::Compress { level: 3 });
    let report = world.run(&[press], DAY, false).await;
    assert_eq!(report.rules["press"].objects, 1, "{report:?}");
    let stored = world.hot.namespace("data").await.unwrap().read("k", Default::default()).await;
    let stored = stored.unwrap().unwrap();
    let seal = sira_store::seal::Seal::decode(&stored.head.metadata.seal.unwrap()).unwrap();
    assert!(seal.encryption().is_some() && stored.value.len() < 1000);
    assert_eq!(space.retrieve("k").await.unwrap().unwrap(), "line ".repeat(1000));
}

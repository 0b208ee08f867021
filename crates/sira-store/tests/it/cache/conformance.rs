//! The cache conforms, whatever is in front of whatever.

use std::sync::Arc;

use sira_store::StorageBackend;
use sira_store::cache::{
    CacheOptions, CachePolicy, DiskTierOptions, EvictionPolicy, RemoteTierOptions, WriteMode,
};
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::{Durability, MemoryBackend};
use tempfile::TempDir;

use super::{exclusive, memory, over, with_policy};

const POLICIES: [EvictionPolicy; 6] = [
    EvictionPolicy::S3Fifo,
    EvictionPolicy::WTinyLfu,
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Ttl,
    EvictionPolicy::Adaptive,
];

fn embedded() -> (TempDir, Arc<EmbeddedBackend>) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { durability: Durability::None, ..EngineOptions::default() };
    let engine = Engine::open(folder.path(), options).unwrap();
    (folder, Arc::new(EmbeddedBackend::new(engine)))
}

/// Small enough that the suite fills it.
fn small(policy: CachePolicy) -> CacheOptions {
    CacheOptions { memory_bytes: 2 << 20, ..with_policy(policy) }
}

async fn conforms(
    what: &str,
    primary: Arc<dyn StorageBackend>,
    options: CacheOptions,
    peers: Vec<Arc<dyn StorageBackend>>,
) {
    let cache = over(primary, options);
    let suite = ConformanceOptions { peers, ..ConformanceOptions::default() };
    let report = conformance::run(Arc::new(cache.clone()), suite).await;
    let report = report.into_result().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.skipped, [], "{what}");
    assert!(cache.cache_stats().loads > 0, "{what}");
}

async fn all_ways(eviction: EvictionPolicy) {
    let policies = [
        (CachePolicy { eviction, ..exclusive() }, false),
        (CachePolicy { eviction, ..CachePolicy::default() }, true),
    ];
    let mut runs = tokio::task::JoinSet::new();
    for (policy, with_peers) in policies {
        for with_remote in [false, true] {
            let options = || {
                let remote = with_remote.then(|| RemoteTierOptions::new(memory()));
                CacheOptions { remote, ..small(policy.clone()) }
            };
            let what = format!("{eviction:?}, peers {with_peers}, remote {with_remote}");
            let primary = memory();
            let peers: Vec<Arc<dyn StorageBackend>> = match with_peers {
                true => vec![primary.clone(), primary.clone()],
                false => Vec::new(),
            };
            let (memory_options, embedded_options) = (options(), options());
            let memory_what = format!("memory, {what}");
            runs.spawn(async move {
                conforms(&memory_what, primary, memory_options, peers).await;
            });
            let (folder, primary) = embedded();
            let peers: Vec<Arc<dyn StorageBackend>> = match with_peers {
                true => vec![primary.clone()],
                false => Vec::new(),
            };
            runs.spawn(async move {
                conforms(&format!("embedded, {what}"), primary, embedded_options, peers).await;
                drop(folder);
            });
        }
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_policy_over_every_primary() {
    for eviction in POLICIES {
        all_ways(eviction).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_tier_on_disk() {
    for policy in [exclusive(), CachePolicy::default()] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Some(DiskTierOptions::new(folder.path(), 8 << 20));
        let remote = Some(RemoteTierOptions::new(memory()));
        let options = CacheOptions { disk, remote, ..small(policy) };
        conforms("three tiers", memory(), options, Vec::new()).await;
    }
}

#[tokio::test]
async fn on_one_thread_and_with_writes_around() {
    let policy = CachePolicy { write: WriteMode::Around, ..exclusive() };
    conforms("around", memory(), small(policy), Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_next_to_no_memory() {
    let options = CacheOptions { memory_bytes: 4096, ..with_policy(exclusive()) };
    let primary: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1 << 30));
    conforms("4 KiB", primary, options, Vec::new()).await;
}

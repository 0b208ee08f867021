//! Earlier versions: what is kept, for how long, and that nothing is lost to races and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::env::{Env, SimEnv, SystemEnv};
use sira_store::placement::{Catalog, Consistency, Replication};
use sira_store::version_history::{KeepVersions, VersionedBackend, kept_namespace};
use sira_store::{
    BatchOperation, BatchResult, Condition, Durability, MemoryBackend, Metadata, StorageBackend,
    StorageBackendExt, StorageClient, StorageError, StorageOptions, Version,
};

use crate::driver::memory::{Kind, MemoryDriver};

const ALL: KeepVersions = KeepVersions { count: None, age: None };

/// A namespace that keeps versions, on a backend.
async fn versioned(backend: Arc<dyn StorageBackend>, keep: KeepVersions) -> VersionedBackend {
    versioned_by(backend, keep, Arc::new(SystemEnv)).await
}

async fn versioned_by(
    backend: Arc<dyn StorageBackend>,
    keep: KeepVersions,
    env: Arc<dyn Env>,
) -> VersionedBackend {
    let kept = backend.namespace(&kept_namespace("default").unwrap()).await.unwrap();
    VersionedBackend::new("default", backend, kept, keep, env).unwrap()
}

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(256 << 20))
}

fn embedded() -> (tempfile::TempDir, Arc<dyn StorageBackend>) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { durability: Durability::None, ..EngineOptions::default() };
    let engine = Engine::open(folder.path(), options).unwrap();
    (folder, Arc::new(EmbeddedBackend::new(engine)))
}

/// An engine whose batches are not atomic and which has no transactions.
fn apart() -> Arc<dyn StorageBackend> {
    let kind = Kind { atomic: false, pauses: Some(1), ..Kind::default() };
    Arc::new(sira_store::driver::DriverBackend::new(MemoryDriver::new(kind)))
}

async fn texts(store: &VersionedBackend, key: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for one in store.versions(key, None, 0).await.unwrap().versions {
        let object = store.read_version(key, one.version, None).await.unwrap().unwrap();
        assert_eq!(object.head.version, one.version);
        assert_eq!(object.head.size, one.size);
        texts.push(String::from_utf8(object.value.to_vec()).unwrap());
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms_over_engines_with_and_without_transactions() {
    let (_folder, embedded) = embedded();
    let few = KeepVersions { count: Some(1), age: Some(Duration::from_secs(60)) };
    for (backend, keep) in [(memory(), ALL), (embedded, few), (apart(), ALL)] {
        let store = versioned(backend, keep).await;
        let report = conformance::run(Arc::new(store), ConformanceOptions::default()).await;
        // Keys have a shorter limit here.
        let failed: Vec<_> = report.failed.iter().map(|failure| failure.case).collect();
        assert_eq!(failed, ["keys/longest"], "{:?}", report.failed);
    }
}

#[tokio::test]
async fn versions_are_listed_read_and_restored() {
    for backend in [memory(), apart()] {
        let store = versioned(backend, ALL).await;
        let metadata = Metadata { content_type: Some("text/x".to_owned()), ..Metadata::default() };
        let options = StorageOptions { metadata: metadata.clone(), ..StorageOptions::default() };
        let first = store.put("k", "one".into(), options).await.unwrap();
        store.put_bytes("k", "two").await.unwrap();
        assert_eq!(texts(&store, "k").await, ["two", "one"]);
        assert!(store.delete("k").await.unwrap());
        assert!(!store.delete("k").await.unwrap());
        assert_eq!(texts(&store, "k").await, ["two", "one"]);
        let listed = store.versions("k", None, 0).await.unwrap().versions;
        assert!(listed.iter().all(|one| one.ended_at_ms >= Some(one.written_at_ms)), "{listed:?}");

        let removed = store.removed("", None, 0).await.unwrap();
        assert_eq!(removed.objects.len(), 1);
        assert_eq!(removed.objects[0].version, listed[0].version);

        let object = store.read_version("k", first, Some(1..2)).await.unwrap().unwrap();
        assert_eq!((&object.value[..], object.range), (&b"n"[..], 1..2));
        assert_eq!(object.head.metadata, metadata);
        let restored = store.restore("k", first).await.unwrap();
        assert!(restored > listed[0].version);
        let object = store.read("k", Default::default()).await.unwrap().unwrap();
        assert_eq!((&object.value[..], object.head.metadata), (&b"one"[..], metadata.clone()));
        assert_eq!(store.removed("", None, 0).await.unwrap().objects, []);
        assert_eq!(texts(&store, "k").await, ["one", "two", "one"]);

        let missing = store.restore("k", Version::from_u64(7 << 16)).await.unwrap_err();
        assert!(matches!(missing, StorageError::NotFound(_)), "{missing}");
        assert_eq!(store.erase("k", Some(first)).await.unwrap(), 1);
        assert_eq!(store.erase("k", None).await.unwrap(), 1);
        assert_eq!(texts(&store, "k").await, ["one"]);
    }
}

#[tokio::test]
async fn pages_go_on_and_keys_that_look_like_copies_are_told_apart() {
    let store = versioned(memory(), ALL).await;
    let mut written = Vec::new();
    for number in 0..23 {
        written.push(store.put_bytes("k", number.to_string()).await.unwrap());
        store.put_bytes("k@00", number.to_string()).await.unwrap();
        store.put_bytes("k@fe02fffffffff000", "x").await.unwrap();
    }
    written.reverse();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.versions("k", before, 5).await.unwrap();
        seen.extend(page.versions.iter().map(|one| one.version));
        before = seen.last().copied();
        if !page.more {
            break;
        }
        assert_eq!(page.versions.len(), 5);
    }
    assert_eq!(seen, written);

    for key in ["k", "k@00", "k@fe02fffffffff000"] {
        store.delete(key).await.unwrap();
    }
    let (mut removed, mut start_after) = (Vec::new(), None);
    loop {
        let page = store.removed("k", start_after, 7).await.unwrap();
        removed.extend(page.objects.into_iter().map(|one| one.key));
        start_after = page.next;
        if start_after.is_none() {
            break;
        }
    }
    removed.sort_unstable();
    assert_eq!(removed, ["k", "k@00", "k@fe02fffffffff000"]);
}

#[tokio::test]
async fn as_many_are_kept_as_is_asked_for_as_long() {
    let env = Arc::new(SimEnv::new(7, 1_800_000_000_000));
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::with_env(64 << 20, env.clone()));
    let keep = KeepVersions { count: Some(3), age: Some(Duration::from_secs(100)) };
    let store = versioned_by(Arc::clone(&backend), keep, env.clone()).await;
    for number in 0..60 {
        store.put_bytes("k", number.to_string()).await.unwrap();
    }
    assert_eq!(texts(&store, "k").await, ["59", "58", "57", "56"]);
    let page = store.versions("k", None, 2).await.unwrap();
    assert!(page.versions.len() == 2 && page.more);
    let page = store.versions("k", Some(page.versions[1].version), 5).await.unwrap();
    assert!(page.versions.len() == 2 && !page.more, "{page:?}");
    let kept = backend.namespace("sira.versions.default").await.unwrap();
    let held = kept.list_keys("", 100).await.unwrap().len();
    assert!(held < 50, "writes prune: {held} are held");
    store.prune("k").await.unwrap();
    assert_eq!(kept.list_keys("", 100).await.unwrap().len(), 3);

    env.advance_ms(99_000);
    assert_eq!(texts(&store, "k").await.len(), 4);
    env.advance_ms(2_000);
    assert_eq!(texts(&store, "k").await, ["59"]);

    // What expires by itself is not kept for longer.
    store.put_for("t", "short", Duration::from_secs(10)).await.unwrap();
    store.put_bytes("t", "long").await.unwrap();
    assert_eq!(texts(&store, "t").await, ["long", "short"]);
    env.advance_ms(11_000);
    assert_eq!(texts(&store, "t").await, ["long"]);
}

#[tokio::test]
async fn what_a_key_held_at_a_time_is_found() {
    let env = Arc::new(SimEnv::new(8, 1_800_000_000_000));
    let backend = Arc::new(MemoryBackend::with_env(64 << 20, env.clone()));
    let store = versioned_by(backend, ALL, env.clone()).await;
    let mut expected = vec![(env.now_ms(), None)];
    for number in 0..6 {
        env.advance_ms(10_000);
        let version = match number {
            3 => store.delete("k").await.map(|_| None),
            _ => store.put_bytes("k", number.to_string()).await.map(Some),
        };
        env.advance_ms(10_000);
        expected.push((env.now_ms(), version.unwrap()));
    }
    for (time_ms, version) in expected {
        assert_eq!(store.version_at("k", time_ms).await.unwrap(), version, "{time_ms}");
    }

    // A removal that is soon followed by a write looks like a copy that was written a little early.
    let first = store.put_bytes("soon", "1").await.unwrap();
    env.advance_ms(1_000);
    store.delete("soon").await.unwrap();
    env.advance_ms(2_000);
    let between_ms = env.now_ms();
    assert_eq!(store.version_at("soon", between_ms).await.unwrap(), None);
    env.advance_ms(2_000);
    store.put_bytes("soon", "2").await.unwrap();
    assert_eq!(store.version_at("soon", between_ms).await.unwrap(), Some(first));
}

#[tokio::test]
async fn batches_keep_what_they_replace_and_nothing_else() {
    for backend in [memory(), apart()] {
        let atomic = backend.capabilities().atomic_batch;
        let store = versioned(backend, ALL).await;
        let a = store.put_bytes("a", "a1").await.unwrap();
        store.put_bytes("b", "b1").await.unwrap();
        let put = |key: &str, value: &str, condition| BatchOperation::Put {
            key: key.to_owned(),
            value: value.to_owned().into(),
            options: StorageOptions { condition, ..StorageOptions::default() },
        };
        let results = store
            .batch(vec![
                put("a", "a2", Condition::IfMatch(a)),
                put("a", "a3", Condition::Always),
                BatchOperation::delete("b"),
                put("c", "c1", Condition::IfAbsent),
                BatchOperation::Get { key: "a".to_owned() },
            ])
            .await
            .unwrap();
        let BatchResult::Value(Some(object)) = &results[4] else { panic!("{results:?}") };
        assert_eq!(&object.value[..], b"a3");
        // Nobody could see what a batch overwrites itself.
        let seen = if atomic { vec!["a3", "a1"] } else { vec!["a3", "a2", "a1"] };
        assert_eq!(texts(&store, "a").await, seen);
        assert_eq!(texts(&store, "b").await, ["b1"]);
        assert_eq!(texts(&store, "c").await, ["c1"]);

        let refused = store
            .batch(vec![
                put("c", "c2", Condition::Always),
                put("b", "b2", Condition::IfPresent),
                BatchOperation::Get { key: "c".to_owned() },
            ])
            .await
            .unwrap();
        let failed = |result: &BatchResult| match result {
            BatchResult::Error(StorageError::PreconditionFailed(detail)) => detail.key.clone(),
            _ => None,
        };
        assert_eq!(failed(&refused[1]).as_deref(), Some("b"), "{refused:?}");
        assert_eq!(failed(&refused[0]).is_some(), atomic);
        let now = if atomic { "c1" } else { "c2" };
        assert!(matches!(&refused[2], BatchResult::Value(Some(object)) if object.value == now));
        assert_eq!(texts(&store, "c").await[0], now);
    }
}

#[tokio::test]
async fn large_objects_are_kept_and_restored_piece_by_piece() {
    let (_folder, backend) = embedded();
    let store = versioned(backend, ALL).await;
    let large = |seed: u8| -> bytes::Bytes {
        (0..20_000_000_u32).map(|at| (at % 251) as u8 ^ seed).collect::<Vec<u8>>().into()
    };
    let first = store.put("k", large(1), StorageOptions::default()).await.unwrap();
    let body = futures_util::stream::iter(
        large(2).chunks(1 << 20).map(bytes::Bytes::copy_from_slice).map(Ok).collect::<Vec<_>>(),
    );
    store.put_stream("k", Box::pin(body), StorageOptions::default()).await.unwrap();
    let kept = store.read_version("k", first, None).await.unwrap().unwrap();
    assert!(kept.value == large(1), "the copy is another");
    store.restore("k", first).await.unwrap();
    assert!(store.get("k").await.unwrap().unwrap() == large(1));
    let page = store.versions("k", None, 0).await.unwrap();
    assert_eq!(page.versions.len(), 3);
    let second = store.read_version("k", page.versions[1].version, None).await.unwrap().unwrap();
    assert!(second.value == large(2));
    // The one that the key holds, once more.
    store.restore("k", page.versions[0].version).await.unwrap();
    assert!(store.get("k").await.unwrap().unwrap() == large(1));
}

/// Writers that race, of which some are dropped half-way: each version that was acknowledged is
/// there afterwards, with its bytes.
async fn nothing_acknowledged_is_lost(store: VersionedBackend, seed: u64) {
    let store = Arc::new(store);
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            let random = SimEnv::new(seed * 100 + writer, 0);
            let mut acknowledged = BTreeMap::new();
            for number in 0..60_u64 {
                let key = format!("k{}", random.random_u64() % 2);
                let value = format!("{writer}.{number}");
                let store = Arc::clone(&store);
                let way = random.random_u64() % 8;
                let (name, text) = (key.clone(), value.clone());
                let mut write = tokio::spawn(async move {
                    match way {
                        0 => store.delete(&name).await.map(|_| None),
                        1 => {
                            let held = store.head(&name).await?.map(|head| head.version);
                            store.compare_and_swap(&name, held, text).await
                        }
                        2 => {
                            let put = BatchOperation::Put {
                                key: name,
                                value: text.into(),
                                options: StorageOptions::default(),
                            };
                            match store.batch(vec![put]).await?.pop() {
                                Some(BatchResult::Success { version }) => Ok(version),
                                other => panic!("{other:?}"),
                            }
                        }
                        _ => store.put_bytes(&name, text).await.map(Some),
                    }
                });
                let done = match random.random_u64() % 5 {
                    0 => {
                        for _ in 0..random.random_u64() % 6 {
                            tokio::task::yield_now().await;
                        }
                        write.abort();
                        write.await.ok()
                    }
                    _ => Some((&mut write).await.unwrap()),
                };
                if let Some(Ok(Some(version))) = done {
                    acknowledged.insert((key, version), value);
                }
            }
            acknowledged
        }));
    }
    let mut acknowledged = 0;
    for writer in writers {
        for ((key, version), value) in writer.await.unwrap() {
            let object = store.read_version(&key, version, None).await.unwrap();
            let object = object.unwrap_or_else(|| panic!("{key} {version} {value} is lost"));
            assert_eq!(object.value, value, "{key} {version}");
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 50, "{acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_version_is_lost_to_races_and_writers_that_end_half_way() {
    for seed in 0..6 {
        let (_folder, embedded) = embedded();
        for backend in [memory(), embedded, apart()] {
            nothing_acknowledged_is_lost(versioned(backend, ALL).await, seed).await;
        }
    }
}

#[tokio::test]
async fn transactions_keep_what_they_replace() {
    let client = StorageClient::new();
    client.apply(plan(&[("a", memory())], ALL, NamespacePolicy::default())).unwrap();
    let space = client.namespace("v");
    space.store("x", "1", StorageOptions::default()).await.unwrap();
    let written = space
        .transact(|transaction| {
            Box::pin(async move {
                let held = transaction.get("x").await?;
                transaction.put("x", "2", StorageOptions::default())?;
                transaction.namespace("other").await?.put("y", "3", StorageOptions::default())?;
                Ok(held)
            })
        })
        .await
        .unwrap();
    assert_eq!(written.as_deref(), Some(&b"1"[..]));
    let versions = space.versions("x", None, 0).await.unwrap().versions;
    assert_eq!(versions.len(), 2);
    let old = space.retrieve_version("x", versions[1].version, None).await.unwrap().unwrap();
    assert_eq!(old.value, "1");
    assert!(space.head_version("x", versions[1].version).await.unwrap().is_some());
    let now_ms = SystemEnv.now_ms() + 1;
    assert_eq!(space.version_at("x", now_ms).await.unwrap(), Some(versions[0].version));
}

fn plan(
    backends: &[(&str, Arc<dyn StorageBackend>)],
    keep: KeepVersions,
    policy: NamespacePolicy,
) -> StoragePlan {
    let named = backends.iter().map(|(name, backend)| ((*name).to_owned(), Arc::clone(backend)));
    let policy = NamespacePolicy { keep_versions: Some(keep), ..policy };
    StoragePlan {
        backends: named.collect(),
        default_backend: Some(backends[0].0.to_owned()),
        namespaces: BTreeMap::from([("v".to_owned(), policy)]),
        ..StoragePlan::default()
    }
}

#[tokio::test]
async fn versions_are_sealed_cached_and_replicated_as_their_namespace_is() {
    use sira_store::cache::CacheOptions;
    use sira_store::seal::Keyring;
    use sira_store::{CompressionType, EncryptionType};

    let (a, b) = (memory(), memory());
    let replicas = vec!["a".to_owned(), "b".to_owned()];
    let policy = NamespacePolicy {
        replication: Some(Replication { replicas, ..Replication::default() }),
        compression: Some(CompressionType::Zstd),
        encryption: Some(EncryptionType::Aes256Gcm { key_id: String::new() }),
        cache: Some(CacheOptions::default()),
        ttl: Some(Duration::from_secs(3600)),
        ..NamespacePolicy::default()
    };
    let client = StorageClient::new();
    let both = [("a", Arc::clone(&a)), ("b", Arc::clone(&b))];
    let mut plan = plan(&both, ALL, policy);
    plan.catalog = Some(Catalog::new(memory()).unwrap());
    plan.keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    client.apply(plan.clone()).unwrap();
    let space = client.namespace("v");
    let first = space.store("k", "one ".repeat(500), StorageOptions::default()).await.unwrap();
    space.store("k", "two", StorageOptions::default()).await.unwrap();
    assert!(space.delete("k").await.unwrap());
    let object = space.retrieve_version("k", first, None).await.unwrap().unwrap();
    assert_eq!(object.value, "one ".repeat(500));
    for backend in [&a, &b] {
        let kept = backend.namespace("sira.versions.v").await.unwrap();
        let entries = kept.list(Default::default()).await.unwrap().entries;
        assert_eq!(entries.len(), 2);
        assert!(entries.iter().all(|entry| entry.size < 400), "sealed: {entries:?}");
    }
    assert!(client.known_namespaces().await.unwrap().contains("sira.versions.v"));
    space.restore_version("k", first).await.unwrap();
    assert_eq!(space.retrieve("k").await.unwrap().unwrap(), "one ".repeat(500));
    assert_eq!(space.clear().await.unwrap(), 1);
    assert_eq!(space.versions("k", None, 0).await.unwrap().versions, []);

    let none = client.versions("k", None, 0).await.unwrap_err();
    assert!(matches!(none, StorageError::Unsupported(_)), "{none}");
    let mut weak = plan.clone();
    let policy = weak.namespaces.get_mut("v").unwrap();
    policy.replication.as_mut().unwrap().consistency = Consistency::Weak;
    let refused = client.apply(weak).unwrap_err();
    assert!(refused.to_string().contains("cannot keep versions"), "{refused}");
}

#[tokio::test]
async fn keys_too_long_for_their_copies_are_refused_before_they_are_written() {
    let store = versioned(memory(), ALL).await;
    let (longest, longer) = ("k".repeat(1007), "k".repeat(1008));
    store.put_bytes(&longest, "1").await.unwrap();
    store.put_bytes(&longest, "2").await.unwrap();
    assert_eq!(texts(&store, &longest).await, ["2", "1"]);
    let error = store.put_bytes(&longer, "1").await.unwrap_err();
    assert!(matches!(error, StorageError::TooLarge(_)), "{error}");
    let put =
        BatchOperation::Put { key: longer, value: "1".into(), options: StorageOptions::default() };
    let results = store.batch(vec![put, BatchOperation::delete(&*longest)]).await.unwrap();
    assert!(results.iter().all(|result| matches!(result, BatchResult::Error(_))), "{results:?}");
    assert!(store.exists(&longest).await.unwrap());
}

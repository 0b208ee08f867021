//! Targets that follow a source in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::env::SeededRandom;
use sira_store::migration::{
    Replication, ReplicationMark, ReplicationOptions, ReplicationPhase, ReplicationProgress,
};
use sira_store::{
    Capabilities, Condition, Durability, EmbeddedBackend, ListOptions, ListPage, MemoryBackend,
    Object, ReadOptions, Result, StorageBackend, StorageBackendExt, StorageError, StorageOptions,
    Version,
};
use tokio::task::JoinHandle;

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(1 << 30))
}

/// A small engine, whose segments come and go.
fn embedded(root: &std::path::Path) -> EmbeddedBackend {
    let options = EngineOptions {
        segment_bytes: 64 << 10,
        maintenance_interval: Duration::from_millis(5),
        reclaim_dead_ratio: 0.2,
        ..EngineOptions::default()
    };
    EmbeddedBackend::new(Engine::open(root, options).unwrap())
}

async fn everything(store: &dyn StorageBackend) -> Vec<(String, Version, Bytes)> {
    let mut all = Vec::new();
    for key in store.list_keys("", usize::MAX).await.unwrap() {
        // It may be removed meanwhile.
        if let Some(object) = store.read(&key, ReadOptions::default()).await.unwrap() {
            all.push((key, object.head.version, object.value));
        }
    }
    all
}

fn replication(
    source: &Arc<dyn StorageBackend>,
    target: &Arc<dyn StorageBackend>,
    state: &Arc<dyn StorageBackend>,
) -> Replication {
    let mark = ReplicationMark::new(Arc::clone(state), "mark");
    let options = ReplicationOptions {
        look_interval: Duration::from_millis(1),
        pass_interval: Duration::from_millis(5),
        ..ReplicationOptions::default()
    };
    Replication::new(Arc::clone(source), Arc::clone(target), mark, options).unwrap()
}

fn start(replication: &Replication) -> JoinHandle<Result<()>> {
    let replication = replication.clone();
    tokio::spawn(async move { replication.run().await })
}

/// Waits until something holds of the progress.
async fn until(replication: &Replication, holds: impl Fn(&ReplicationProgress) -> bool) {
    while !holds(&replication.progress()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the target has all that the source has, of which nobody writes.
async fn until_level(source: &dyn StorageBackend, target: &dyn StorageBackend) {
    let expected = everything(source).await;
    for _ in 0..5_000 {
        if everything(target).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(everything(target).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_followed_and_removals_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let source: Arc<dyn StorageBackend> = Arc::new(embedded(folder.path()));
    let (target, state) = (memory(), memory());
    source.put_bytes("a", "1").await.unwrap();
    target.put_bytes("extra", "1").await.unwrap();
    let first = replication(&source, &target, &state);
    let running = start(&first);
    until_level(&*source, &*target).await;
    source.put_bytes("b", "1").await.unwrap();
    source.delete("a").await.unwrap();
    until_level(&*source, &*target).await;
    until(&first, |progress| progress.lag_records == Some(0)).await;
    let progress = first.progress();
    assert_eq!((progress.passes, progress.removed, progress.lag_ms), (1, 2, Some(0)));
    first.stop();
    running.await.unwrap().unwrap();

    // What is written meanwhile is followed by the next one, without a pass.
    source.put_bytes("c", "1").await.unwrap();
    source.delete("b").await.unwrap();
    let second = replication(&source, &target, &state);
    let running = start(&second);
    until_level(&*source, &*target).await;
    assert_eq!(second.progress().passes, 0);
    second.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_object_at_the_target_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let source: Arc<dyn StorageBackend> = Arc::new(embedded(folder.path()));
    let (target, state) = (memory(), memory());
    let follower = replication(&source, &target, &state);
    let running = start(&follower);
    until(&follower, |progress| progress.lag_records == Some(0)).await;
    let version = Some(Version::from_u64(1 << 62));
    for key in ["a", "b"] {
        let options = StorageOptions { version, ..StorageOptions::default() };
        target.put(key, "newer".into(), options).await.unwrap();
    }
    for key in ["a", "b"] {
        source.put_bytes(key, "older").await.unwrap();
    }
    source.delete("b").await.unwrap();
    source.put_bytes("c", "1").await.unwrap();
    while target.get("c").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for key in ["a", "b"] {
        assert_eq!(target.get(key).await.unwrap().unwrap(), "newer");
    }
    assert!(follower.progress().newer_at_target > 0);
    follower.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_becomes_so_before_it_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path());
    let source: Arc<dyn StorageBackend> = Arc::new(store.clone());
    let (target, state) = (memory(), memory());
    let follower = replication(&source, &target, &state);
    let running = start(&follower);
    until(&follower, |progress| progress.lag_records == Some(0)).await;
    let options = StorageOptions { durability: Some(Durability::None), ..Default::default() };
    source.put("a", "1".into(), options).await.unwrap();
    until_level(&*source, &*target).await;
    follower.stop();
    running.await.unwrap().unwrap();
}

/// Writers, reclaimed segments, an emptied namespace, and followers that die.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_are_the_same_after_followers_have_died() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path());
    let source: Arc<dyn StorageBackend> = Arc::new(store.clone());
    let (target, state) = (memory(), memory());
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|seed| {
            let (source, over) = (Arc::clone(&source), Arc::clone(&over));
            tokio::spawn(async move {
                let mut random = SeededRandom::new(seed);
                let options = StorageOptions {
                    durability: Some(Durability::Interval(5)),
                    ..Default::default()
                };
                while !over.load(Ordering::Acquire) {
                    let key = format!("{:03}", random.below(300));
                    if random.chance(1, 3) {
                        source.delete(&key).await.unwrap();
                    } else {
                        let value = random.bytes(random.clone().within(1, 600) as usize);
                        source.put(&key, value, options.clone()).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut random = SeededRandom::new(7);
    let (mut passes, mut copied) = (0, 0);
    for round in 0..60 {
        let follower = replication(&source, &target, &state);
        let running = start(&follower);
        tokio::time::sleep(Duration::from_millis(random.below(30))).await;
        if round % 20 == 10 {
            store.engine().clear_namespace("default").unwrap();
        }
        running.abort();
        let _ = running.await;
        let progress = follower.progress();
        passes += progress.passes;
        copied += progress.copied;
        // Now and then long enough for segments to go.
        if random.chance(1, 8) {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.unwrap();
    }
    let follower = replication(&source, &target, &state);
    let running = start(&follower);
    until_level(&*source, &*target).await;
    follower.stop();
    running.await.unwrap().unwrap();
    assert!(copied > 100 && passes > 1, "{copied} copied, {passes} passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_log_is_passed_over_again_and_again() {
    let (source, target, state) = (memory(), memory(), memory());
    for number in 0..2_500 {
        source.put_bytes(&format!("{number:04}"), "1").await.unwrap();
    }
    let follower = replication(&source, &target, &state);
    let running = start(&follower);
    until_level(&*source, &*target).await;
    source.delete("0001").await.unwrap();
    source.put_bytes("0002", "2").await.unwrap();
    until_level(&*source, &*target).await;
    until(&follower, |progress| progress.passes >= 2 && progress.lag_ms.is_some()).await;
    assert_eq!(follower.progress().lag_records, None);
    assert_eq!(follower.progress().copied, 2_501);
    follower.stop();
    running.await.unwrap().unwrap();
    assert_eq!(state.list_keys("", 10).await.unwrap(), [""; 0]);
}

/// A store that is out of reach for a time.
#[derive(Debug)]
struct Fickle {
    inner: Arc<dyn StorageBackend>,
    gone: AtomicBool,
}

impl Fickle {
    fn check(&self) -> Result<()> {
        match self.gone.load(Ordering::Acquire) {
            true => Err(StorageError::unavailable("out of reach")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl StorageBackend for Fickle {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.check()?;
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.check()?;
        self.inner.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.check()?;
        self.inner.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.check()?;
        self.inner.list(options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_out_of_reach_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let source: Arc<dyn StorageBackend> = Arc::new(embedded(folder.path()));
    let fickle = Arc::new(Fickle { inner: memory(), gone: AtomicBool::new(true) });
    let (target, state) = (Arc::clone(&fickle) as Arc<dyn StorageBackend>, memory());
    source.put_bytes("a", "1").await.unwrap();
    let follower = replication(&source, &target, &state);
    let running = start(&follower);
    until(&follower, |progress| progress.phase == ReplicationPhase::Failing).await;
    assert_eq!(follower.progress().failure.as_deref(), Some("out of reach"));
    fickle.gone.store(false, Ordering::Release);
    until_level(&*source, &*target).await;
    until(&follower, |progress| progress.failure.is_none()).await;
    fickle.gone.store(true, Ordering::Release);
    source.put_bytes("b", "1").await.unwrap();
    until(&follower, |progress| progress.failure.is_some()).await;
    // It stops although it waits.
    follower.stop();
    running.await.unwrap().unwrap();
}

//! Writers that go on: snapshots are of one moment, and the archive has every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sira_store::backup::{Archiver, Moment, NamespaceChoice, Prune, PruneOptions};
use sira_store::env::SeededRandom;
use sira_store::{Bytes, StorageOptions};

use super::{State, World, keys, random_bytes};

/// What one writer did, in order.
#[derive(Default)]
struct Model {
    states: Vec<(u64, State)>,
    now: State,
}

impl Model {
    fn put(&mut self, time_ms: u64, namespace: &str, key: &str, value: Bytes) {
        self.now.insert((namespace.to_owned(), key.to_owned()), value);
        self.states.push((time_ms, self.now.clone()));
    }

    fn remove(&mut self, time_ms: u64, namespace: &str, key: &str) {
        self.now.remove(&(namespace.to_owned(), key.to_owned()));
        self.states.push((time_ms, self.now.clone()));
    }
}

async fn step(world: &World, random: &mut SeededRandom, model: &mut Model) {
    let namespace = ["a", "b"][random.below(2) as usize];
    let key = format!("k{}", random.below(30));
    let client = world.client.namespace(namespace);
    if random.below(4) == 0 {
        client.delete(&key).await.unwrap();
        model.remove(world.engine.draw_version().time_ms(), namespace, &key);
    } else {
        let bytes = random.below(2000) as usize;
        let value = random_bytes(random.next_u64(), bytes);
        let version = client.store(&key, value.clone(), StorageOptions::default()).await.unwrap();
        model.put(version.time_ms(), namespace, &key, value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_of_one_moment_while_a_writer_goes_on() {
    let world = Arc::new(World::new().await);
    for number in 0..3000_u64 {
        let client = world.client.namespace("still");
        let value = random_bytes(number, 500);
        client.store(&format!("{number}"), value, StorageOptions::default()).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        async move {
            let mut model = Model::default();
            let mut random = SeededRandom::new(3);
            while !stop.load(Ordering::Relaxed) {
                step(&world, &mut random, &mut model).await;
                tokio::task::yield_now().await;
            }
            model
        }
    });
    let mut restored = Vec::new();
    for _ in 0..4 {
        let report = world.run().await;
        assert!(report.failed.is_empty());
        let id = report.snapshot.unwrap();
        let snapshot = world.repository().await.snapshot(id).await.unwrap();
        let own = ["a", "b", "still"].map(|name| snapshot.namespaces.get(name));
        assert!(own.iter().flatten().all(|namespace| namespace.exact));
        let (report, mut there) = world.restored(Moment::Snapshot(id)).await;
        assert!(report.is_complete());
        let all = there.len();
        there.retain(|(namespace, _), _| namespace != "still");
        assert_eq!(all - there.len(), 3000);
        restored.push(there);
    }
    stop.store(true, Ordering::Relaxed);
    let model = writer.await.unwrap();
    for (number, there) in restored.iter().enumerate() {
        let known = there.is_empty() || model.states.iter().any(|(_, state)| state == there);
        assert!(known, "snapshot {number} is of no moment");
    }
    assert!(world.verify().await.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_is_restored() {
    let world = World::new().await;
    let (mut random, mut model) = (SeededRandom::new(9), Model::default());
    step(&world, &mut random, &mut model).await;
    model.states.clear();
    let mut archiver =
        Archiver::new(world.repository().await, world.source.clone(), NamespaceChoice::default());
    assert!(archiver.pass().await.unwrap().is_none(), "there is no snapshot to go on from");
    world.run().await;
    for round in 0..60 {
        step(&world, &mut random, &mut model).await;
        // Moments are told apart by milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
        match round {
            20 => drop(world.run().await),
            40 => {
                // Another process goes on.
                drop(archiver);
                let repository = world.repository().await;
                archiver =
                    Archiver::new(repository, world.source.clone(), NamespaceChoice::default());
            }
            _ if round % 3 == 0 => {
                assert!(archiver.pass().await.unwrap().is_some());
            }
            _ => {}
        }
    }
    let until_ms = archiver.pass().await.unwrap().unwrap().until_ms;
    assert!(until_ms >= model.states.last().unwrap().0);
    for (number, (time_ms, expected)) in model.states.iter().enumerate() {
        let next = model.states.get(number + 1).map(|(time_ms, _)| *time_ms);
        if next == Some(*time_ms) {
            continue;
        }
        let (report, there) = world.restored(Moment::At(*time_ms)).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(&there, expected, "after change {number}");
        assert_eq!(report.as_of_ms, *time_ms);
    }
    // A prune leaves what the oldest snapshot needs.
    let report = Prune::new(world.repository().await, PruneOptions::default()).run().await.unwrap();
    assert_eq!(report.archive_removed, 0);
    let oldest = report.kept[0];
    let options = PruneOptions { remove: vec![oldest], ..PruneOptions::default() };
    let report = Prune::new(world.repository().await, options).run().await.unwrap();
    assert!(report.archive_removed > 0);
    let (time_ms, expected) = &model.states[50];
    assert_eq!(&world.restored(Moment::At(*time_ms)).await.1, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_come_and_go_are_as_they_were() {
    let world = World::new().await;
    let put = async |namespace: &str, key: &str, value: &str| {
        let client = world.client.namespace(namespace);
        client.store(key, value.to_owned(), StorageOptions::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    put("old", "k", "old").await;
    put("a", "k", "of a").await;
    put("b", "k", "of b").await;
    world.run().await;
    let mut archiver =
        Archiver::new(world.repository().await, world.source.clone(), NamespaceChoice::default());
    let mut moment = async |expected: &[(&str, &str)]| {
        archiver.pass().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let at = world.engine.draw_version().time_ms();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        (at, expected)
    };
    let mut moments = vec![moment(&[("a", "of a"), ("b", "of b"), ("old", "old")]).await];
    put("new", "k", "new").await;
    moments.push(moment(&[("a", "of a"), ("b", "of b"), ("new", "new"), ("old", "old")]).await);
    world.engine.drop_namespace("old").unwrap();
    world.engine.swap_namespaces("a", "b").unwrap();
    moments.push(moment(&[("a", "of b"), ("b", "of a"), ("new", "new")]).await);
    world.engine.clear_namespace("new").unwrap();
    put("new", "k", "again").await;
    moments.push(moment(&[("a", "of b"), ("b", "of a"), ("new", "again")]).await);
    moment(&[]).await;
    for (at, expected) in moments {
        let (_, there) = world.restored(Moment::At(at)).await;
        let there: Vec<_> = there
            .into_iter()
            .map(|((name, _), value)| (name, String::from_utf8_lossy(&value).into_owned()))
            .collect();
        assert_eq!(there, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_archived_in_parts() {
    let world = World::new().await;
    world.client.store("k", "small", StorageOptions::default()).await.unwrap();
    world.run().await;
    let mut archiver =
        Archiver::new(world.repository().await, world.source.clone(), NamespaceChoice::default());
    let large = random_bytes(5, (32 << 20) + 12_345);
    let written = world.client.store("k", large.clone(), StorageOptions::default()).await.unwrap();
    archiver.pass().await.unwrap().unwrap();
    assert_eq!(keys(&*world.target, "archive/").await.len(), 3);
    let (report, there) = world.restored(Moment::At(written.time_ms())).await;
    assert!(report.is_complete(), "{report:?}");
    assert!(there.into_values().eq([large]));
}

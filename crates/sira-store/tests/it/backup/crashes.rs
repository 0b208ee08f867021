//! Runs and prunes that die at any write.

use std::collections::BTreeSet;
use std::sync::Arc;

use sira_store::backup::{Backup, Moment, Prune, PruneOptions, Repository, RunOptions, Snapshot};
use sira_store::{MemoryBackend, StorageBackend, StorageOptions};

use super::mortal::Mortal;
use super::{World, keys, random_bytes, state};

const PLENTY: i64 = 1 << 40;

async fn write_some(world: &World, round: u64) {
    for number in 0..40 {
        let value = random_bytes(round * 100 + number, 900_000);
        let key = format!("{}/{number}", round % 2);
        world.client.store(&key, value, StorageOptions::default()).await.unwrap();
    }
}

/// The same bytes as another backend.
async fn copy(from: &dyn StorageBackend) -> Arc<dyn StorageBackend> {
    let to = MemoryBackend::new(1 << 30);
    for key in keys(from, "").await {
        // The lease may be given back meanwhile.
        let Some(object) = from.read(&key, Default::default()).await.unwrap() else { continue };
        let options = StorageOptions {
            metadata: object.head.metadata,
            version: Some(object.head.version),
            ..StorageOptions::default()
        };
        to.put(&key, object.value, options).await.unwrap();
    }
    Arc::new(to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_at_any_write_harms_nothing() {
    let mut world = World::new().await;
    write_some(&world, 1).await;
    world.run().await;
    let before = state(&world).await;
    write_some(&world, 2).await;
    let after = state(&world).await;
    let begun = copy(&*world.target).await;
    let mut deaths = 0;
    for writes in 0.. {
        world.target = copy(&*begun).await;
        let mortal = Arc::new(Mortal::new(Arc::clone(&world.target), writes));
        let run = match world.repository_on(mortal).await {
            Ok(repository) => {
                let options = RunOptions::default();
                Backup::new(repository, world.source.clone(), options).run().await
            }
            Err(error) => Err(error),
        };
        let snapshots = world.repository().await.snapshots().await.unwrap();
        assert!(world.verify().await.is_sound(), "{writes} writes");
        let (report, there) = world.restored(Moment::Newest).await;
        assert!(report.is_complete());
        // A snapshot that was stored and not acknowledged may be there.
        let expected = if snapshots.len() == 2 { &after } else { &before };
        assert_eq!(&there, expected, "{writes} writes");
        let died = run.is_err();
        assert_eq!(run.is_err() && snapshots.len() == 1, run.is_err() && there == before);
        if run.is_ok() {
            assert_eq!(snapshots.len(), 2);
        }
        // The next run does what this one could not, and a prune leaves nothing behind.
        world.run().await;
        let pruned = Prune::new(world.repository().await, PruneOptions::default()).run().await;
        assert_eq!(pruned.unwrap().removed.len(), 0);
        let again = Prune::new(world.repository().await, PruneOptions::default()).run().await;
        assert_eq!(again.unwrap().packs_left_behind, 0);
        assert_eq!(world.restored(Moment::Newest).await.1, after);
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 4, "{deaths} deaths");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_dies_at_any_write_harms_nothing() {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for round in 1..=4 {
        // Every round leaves a little of what the one before wrote, so packs are written anew.
        write_some(&world, round).await;
        world.run().await;
        for number in 0..38 {
            world.client.delete(&format!("{}/{number}", round % 2)).await.unwrap();
        }
        ids.push(world.run().await.snapshot.unwrap());
    }
    let begun = copy(&*world.target).await;
    let all: Vec<Snapshot> = world.repository().await.snapshots().await.unwrap();
    let keep = [ids[2], ids[3]];
    let remove: Vec<_> = all.iter().map(|s| s.id).filter(|id| !keep.contains(id)).collect();
    let expected = [
        world.restored(Moment::Snapshot(keep[0])).await.1,
        world.restored(Moment::Snapshot(keep[1])).await.1,
    ];
    let mut rewritten = BTreeSet::new();
    let mut writes = 0;
    loop {
        world.target = copy(&*begun).await;
        let options = || PruneOptions { remove: remove.clone(), ..PruneOptions::default() };
        let mortal = Arc::new(Mortal::new(Arc::clone(&world.target), writes));
        let pruned = match world.repository_on(mortal).await {
            Ok(repository) => Prune::new(repository, options()).run().await,
            Err(error) => Err(error),
        };
        check(&world, &keep, &expected, writes).await;
        let died = pruned.is_err();
        if let Ok(report) = pruned {
            rewritten.insert(report.packs_rewritten);
            assert!(report.packs_removed > 0 && report.freed_bytes > 0, "{report:?}");
        }
        // The next one ends it.
        let left: Vec<_> = world.repository().await.snapshots().await.unwrap();
        let left = left.iter().map(|s| s.id).filter(|id| !keep.contains(id)).collect();
        let rest = PruneOptions { remove: left, ..PruneOptions::default() };
        Prune::new(world.repository().await, rest).run().await.unwrap();
        check(&world, &keep, &expected, writes).await;
        let again = Prune::new(world.repository().await, PruneOptions::default()).run().await;
        let again = again.unwrap();
        assert_eq!((again.packs_removed, again.packs_left_behind), (0, 0));
        if !died {
            break;
        }
        writes += 1;
    }
    assert!(writes > 8, "{writes} deaths");
    assert!(rewritten.iter().all(|packs| *packs > 0), "no pack was written anew");
}

async fn check(
    world: &World,
    keep: &[sira_store::backup::SnapshotId; 2],
    expected: &[super::State; 2],
    writes: i64,
) {
    let verified = world.verify().await;
    assert!(verified.is_sound(), "{writes} writes: {verified:?}");
    for (id, expected) in keep.iter().zip(expected) {
        let (report, there) = world.restored(Moment::Snapshot(*id)).await;
        assert!(report.is_complete() && there == *expected, "{writes} writes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_dies_is_gone_on_with() {
    let world = World::new().await;
    write_some(&world, 1).await;
    world.run().await;
    let expected = state(&world).await;
    let memory: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1 << 30));
    for writes in [0, 1, 7, 20, PLENTY] {
        let client = sira_store::StorageClient::new();
        let mortal = Mortal::new(Arc::clone(&memory), writes);
        client.register_backend("m", Arc::new(mortal)).unwrap();
        let source = sira_store::backup::BackupSource::new(client);
        let repository: Repository = world.repository().await;
        let options = sira_store::backup::RestoreOptions { concurrency: 4, ..Default::default() };
        let restored = sira_store::backup::Restore::new(repository, source, options).run().await;
        let complete = restored.is_ok_and(|report| report.is_complete());
        assert_eq!(complete, writes == PLENTY);
    }
    for ((_, key), value) in expected {
        assert_eq!(memory.get(&key).await.unwrap().unwrap(), value);
    }
}

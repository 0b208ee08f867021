//! Damage is found, is never restored, and takes nothing else with it.

use std::sync::Arc;

use sira_store::backup::{
    Backup, BackupSource, Moment, Repository, Restore, RestoreOptions, RunOptions, Verification,
    VerifyOptions,
};
use sira_store::{Bytes, Condition, MemoryBackend, StorageBackend, StorageClient, StorageOptions};

use super::{State, World, keys, random_bytes, state};

/// Puts other bytes in the place of what is stored.
async fn replace(target: &dyn StorageBackend, key: &str, value: Bytes) {
    let object = target.read(key, Default::default()).await.unwrap().unwrap();
    target.remove(key, Condition::Always).await.unwrap();
    let options = StorageOptions { metadata: object.head.metadata, ..StorageOptions::default() };
    target.put(key, value, options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_of_any_byte_is_found_and_not_restored() {
    let world = World::new().await;
    for number in 0..12_u64 {
        let value = match number % 2 {
            0 => random_bytes(number, 200),
            _ => Bytes::from("compressible ".repeat(40)),
        };
        world.client.store(&format!("k{number}"), value, StorageOptions::default()).await.unwrap();
    }
    world.run().await;
    let expected = state(&world).await;
    let mut all = keys(&*world.target, "").await;
    // The lease of the run is given back.
    all.retain(|key| key != "lock");
    for key in all {
        let whole = world.target.get(&key).await.unwrap().unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << (at % 8);
            replace(&*world.target, &key, damaged.into()).await;
            let found = match world.repository_on(Arc::clone(&world.target)).await {
                Err(_) => true,
                Ok(repository) => {
                    let options = VerifyOptions { full: true, ..VerifyOptions::default() };
                    let verified = Verification::new(repository.clone(), options).unwrap();
                    let verified = verified.run().await;
                    if at % 5 == 0 {
                        never_wrong(repository, &expected, &key).await;
                    }
                    verified.map_or(true, |report| !report.is_sound())
                }
            };
            assert!(found, "byte {at} of {key}");
        }
        replace(&*world.target, &key, whole).await;
    }
    assert!(world.verify().await.is_sound());
}

/// Restores what can be restored, and compares it.
async fn never_wrong(repository: Repository, expected: &State, damaged: &str) {
    let client = StorageClient::new();
    client.register_backend("memory", Arc::new(MemoryBackend::new(1 << 20))).unwrap();
    let source = BackupSource::new(client.clone());
    let _ = Restore::new(repository, source, RestoreOptions::default()).run().await;
    for key in client.list_keys("", usize::MAX).await.unwrap() {
        let value = client.retrieve(&key).await.unwrap().unwrap();
        let at = ("default".to_owned(), key);
        assert_eq!(expected.get(&at), Some(&value), "{damaged} {at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_lost_takes_only_its_own_objects_with_it() {
    let world = World::new().await;
    for number in 0..60 {
        let value = random_bytes(number, 1 << 20);
        world.client.store(&format!("k{number:02}"), value, Default::default()).await.unwrap();
    }
    world.run().await;
    let expected = state(&world).await;
    let packs = keys(&*world.target, "packs/").await;
    assert!(packs.len() >= 4, "{}", packs.len());
    // The pack with the pages is left alone: without them no names are known.
    let mut lost = None;
    for pack in &packs {
        let bytes = world.target.get(pack).await.unwrap().unwrap();
        if bytes.len() > 15 << 20 {
            lost = Some((pack.clone(), bytes));
        }
    }
    let (lost, bytes) = lost.unwrap();
    world.target.delete(&lost).await.unwrap();
    let verified = world.verify().await;
    let (report, there) = world.restored(Moment::Newest).await;
    assert!(!report.is_complete() && report.failed.len() > 10, "{report:?}");
    assert_eq!(report.restored as usize + report.failed.len(), 60);
    assert_eq!(verified.damaged.len(), report.failed.len());
    for failed in &report.failed {
        assert!(!there.contains_key(&(failed.namespace.clone(), failed.key.clone())));
    }
    assert!(there.iter().all(|(at, value)| expected.get(at) == Some(value)));
    assert_eq!(there.len() as u64, report.restored);

    // One byte of it harms the objects there, not all of the pack.
    let mut damaged = bytes.to_vec();
    damaged[100] ^= 1;
    world.target.put(&lost, damaged.into(), StorageOptions::default()).await.unwrap();
    let (report, _) = world.restored(Moment::Newest).await;
    assert!(!report.failed.is_empty() && report.failed.len() < 10, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_made_up_for_by_the_packs() {
    let world = World::new().await;
    for number in 0..30 {
        let value = random_bytes(number, 1 << 20);
        world.client.store(&format!("k{number:02}"), value, Default::default()).await.unwrap();
    }
    world.run().await;
    for key in keys(&*world.target, "index/").await {
        replace(&*world.target, &key, Bytes::from_static(b"nothing")).await;
    }
    let (report, there) = world.restored(Moment::Newest).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(there, state(&world).await);
    assert!(!world.verify().await.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_told_and_kept_as_it_was() {
    let world = World::new().await;
    world.client.store("k", "v", StorageOptions::default()).await.unwrap();
    world.run().await;
    let repository = world.repository().await;
    // The value is opened with a key that nobody has.
    let metadata =
        sira_store::Metadata { seal: Some(Bytes::from_static(b"no seal")), ..Default::default() };
    let backend = world.client.backend("embedded").unwrap();
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    backend.put("k", "sealed".into(), options).await.unwrap();
    let run = Backup::new(repository, world.source.clone(), RunOptions::default());
    let report = run.run().await.unwrap();
    assert_eq!((report.objects, report.failed.len()), (1, 1));
    let (restored, there) = world.restored(Moment::Newest).await;
    assert!(restored.is_complete());
    assert_eq!(there.values().next().unwrap(), "v");
}

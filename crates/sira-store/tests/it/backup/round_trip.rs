//! What goes in comes out.

use std::sync::Arc;
use std::time::Duration;

use sira_store::backup::{
    Backup, DRILL_NAMESPACE, Drill, Moment, NamespaceChoice, Prune, PruneOptions, Repository,
    RepositoryOptions, Restore, RestoreOptions, RunOptions,
};
use sira_store::embedded::WriteOptions;
use sira_store::seal::Keyring;
use sira_store::{
    Bytes, EncryptionType, MemoryBackend, Metadata, StorageBackend, StorageClient, StorageError,
    StorageOptions,
};

use super::{World, keys, random_bytes, state};

async fn fill(world: &World) {
    for number in 0..500_u64 {
        let client = world.client.namespace(if number % 3 == 0 { "a" } else { "b" });
        let value = random_bytes(number, (number * 37 % 5000) as usize);
        client.store(&format!("key/{number}"), value, StorageOptions::default()).await.unwrap();
    }
    let large = random_bytes(1, 70 << 20);
    world.client.namespace("a").store("large", large, StorageOptions::default()).await.unwrap();
    let metadata = Metadata {
        content_type: Some("text/plain".to_owned()),
        user: [("author".to_owned(), "me".to_owned())].into(),
        seal: None,
    };
    let ttl = Some(Duration::from_secs(3600));
    let options = StorageOptions { ttl, metadata, ..StorageOptions::default() };
    world.client.store("described", "text", options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_restored_as_it_was() {
    let world = World::new().await;
    fill(&world).await;
    let id = world.engine.namespace("b").unwrap();
    let raw = [0xFF, 0x00, 0xFE];
    world.engine.put(id, &raw, b"no text", WriteOptions::default()).unwrap();
    let report = world.run().await;
    assert_eq!((report.objects, report.read, report.failed.len()), (503, 503, 0));

    let other = World::new().await;
    let restore = Restore::new(world.repository().await, other.source.clone(), Default::default());
    let restored = restore.run().await.unwrap();
    assert!(restored.is_complete(), "{restored:?}");
    assert_eq!((restored.objects, restored.restored), (503, 503));
    assert_eq!(state(&other).await, state(&world).await);
    let head = |world: &World| {
        let client = world.client.clone();
        async move { client.retrieve_object("described", Default::default()).await.unwrap() }
    };
    assert_eq!(head(&other).await, head(&world).await);
    let id = other.engine.find_namespace("b").unwrap();
    assert_eq!(other.engine.get(id, &raw).unwrap().unwrap().value, "no text");

    // Again it finds everything there; and the next backup of the other takes all of it over.
    let again = Restore::new(world.repository().await, other.source.clone(), Default::default());
    let again = again.run().await.unwrap();
    assert_eq!((again.restored, again.present), (0, 503));
    let report = Backup::new(world.repository().await, other.source.clone(), Default::default());
    let report = report.run().await.unwrap();
    assert_eq!((report.objects, report.read, report.added_bytes), (503, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_reads_what_has_changed() {
    let world = World::new().await;
    fill(&world).await;
    world.run().await;
    world.client.namespace("a").store("key/0", "new", StorageOptions::default()).await.unwrap();
    world.client.namespace("a").delete("key/3").await.unwrap();
    world.client.namespace("c").store("k", "v", StorageOptions::default()).await.unwrap();
    let report = world.run().await;
    assert_eq!((report.objects, report.read), (502, 2));
    assert!(report.added_bytes < 200_000, "{report:?}");
    let (restored, there) = world.restored(Moment::Newest).await;
    assert!(restored.is_complete());
    assert_eq!(there, state(&world).await);

    // The one before is as it was; a full run reads all, and stores nothing twice.
    let snapshots = world.repository().await.snapshots().await.unwrap();
    let (_, before) = world.restored(Moment::Snapshot(snapshots[0].id)).await;
    assert!(before.contains_key(&("a".to_owned(), "key/3".to_owned())));
    assert!(!before.contains_key(&("c".to_owned(), "k".to_owned())));
    let full = RunOptions { full: true, ..RunOptions::default() };
    let full = Backup::new(world.repository().await, world.source.clone(), full);
    let full = full.run().await.unwrap();
    assert_eq!((full.read, full.added_bytes), (502, 0));
    assert!(world.verify().await.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_values_are_stored_once() {
    let world = World::new().await;
    let value = random_bytes(7, 6 << 20);
    for key in ["one", "two", "three"] {
        world.client.store(key, value.clone(), StorageOptions::default()).await.unwrap();
    }
    let report = world.run().await;
    assert_eq!(report.read_bytes, 18 << 20);
    assert!(report.added_bytes < 7 << 20, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_left_alone_unless_it_may_be_overwritten() {
    let world = World::new().await;
    for key in ["a", "b", "c"] {
        world.client.store(key, key, StorageOptions::default()).await.unwrap();
    }
    world.run().await;
    world.client.store("b", "newer", StorageOptions::default()).await.unwrap();
    world.client.delete("c").await.unwrap();
    let restore = |options| async {
        Restore::new(world.repository().await, world.source.clone(), options).run().await
    };
    let get = async |key: &str| world.client.retrieve(key).await.unwrap();

    let refused = restore(RestoreOptions::default()).await.unwrap_err();
    assert!(matches!(refused, StorageError::Conflict(_)), "{refused}");
    assert!(refused.to_string().contains("default/b"), "{refused}");
    assert_eq!((get("b").await.unwrap(), get("c").await), (Bytes::from("newer"), None));

    let dry = RestoreOptions { dry_run: true, ..RestoreOptions::default() };
    let dry = restore(dry).await.unwrap();
    assert_eq!((dry.present, dry.conflicts, dry.restored), (1, 1, 1));
    assert_eq!(get("c").await, None);

    let aside = RestoreOptions { to: Some("aside".to_owned()), ..RestoreOptions::default() };
    assert_eq!(restore(aside).await.unwrap().restored, 3);
    let there = world.client.namespace("aside").retrieve("b").await.unwrap();
    assert_eq!(there.unwrap(), "b");

    let overwrite = RestoreOptions { overwrite: true, ..RestoreOptions::default() };
    assert_eq!(restore(overwrite).await.unwrap().restored, 2);
    assert_eq!((get("b").await.unwrap(), get("c").await.unwrap()), ("b".into(), "c".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_repositories_show_nothing_and_open_with_the_key_only() {
    let world = World::new().await;
    let text = "a secret that can be recognised ".repeat(100);
    world.client.store("k", text.clone(), StorageOptions::default()).await.unwrap();
    let keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    let encryption = EncryptionType::Aes256Gcm { key_id: String::new() };
    let options = RepositoryOptions { encryption, ..World::options() };
    let target = Arc::clone(&world.target);
    let open = |keyring: &Arc<Keyring>| {
        Repository::open(Arc::clone(&target), Arc::clone(keyring), options.clone())
    };
    let repository = open(&keyring).await.unwrap();
    Backup::new(repository, world.source.clone(), Default::default()).run().await.unwrap();
    for key in keys(&*target, "").await {
        // The lease may go meanwhile.
        let Some(stored) = target.get(&key).await.unwrap() else { continue };
        let shown = String::from_utf8_lossy(&stored);
        assert!(!shown.contains("secret") && !shown.contains("default"), "{key}: {shown}");
    }
    let other = World::new().await;
    let restore =
        Restore::new(open(&keyring).await.unwrap(), other.source.clone(), Default::default());
    assert!(restore.run().await.unwrap().is_complete());
    assert_eq!(other.client.retrieve("k").await.unwrap().unwrap(), text);

    let stranger = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    open(&stranger).await.unwrap_err();
    let none = Repository::open(Arc::clone(&target), Arc::clone(&keyring), World::options()).await;
    assert!(matches!(none, Err(StorageError::InvalidInput(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_is_not_saved_in_the_clear() {
    let keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    let client = StorageClient::new();
    let memory: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(64 << 20));
    let plan = sira_store::client::StoragePlan {
        default_backend: Some("m".to_owned()),
        backends: [("m".to_owned(), memory)].into(),
        keyring: Arc::clone(&keyring),
        ..Default::default()
    };
    client.apply(plan).unwrap();
    let encryption = EncryptionType::ChaCha20Poly1305 { key_id: String::new() };
    let options = StorageOptions { encryption, ..StorageOptions::default() };
    client.store("secret", "of mine", options).await.unwrap();
    client.store("open", "to all", StorageOptions::default()).await.unwrap();
    let source = sira_store::backup::BackupSource::new(client.clone());
    let target = || Arc::new(MemoryBackend::new(64 << 20));
    let open = async |encryption| {
        let options = RepositoryOptions { encryption, ..RepositoryOptions::default() };
        Repository::open(target(), Arc::clone(&keyring), options).await.unwrap()
    };
    let plain = open(EncryptionType::None).await;
    let report = Backup::new(plain, source.clone(), Default::default()).run().await.unwrap();
    assert_eq!((report.objects, report.failed.len()), (1, 1));
    assert_eq!(report.failed[0].key, "secret");

    let sealed = open(EncryptionType::Aes256Gcm { key_id: String::new() }).await;
    let report = Backup::new(sealed.clone(), source.clone(), Default::default()).run().await;
    assert!(report.unwrap().failed.is_empty());
    client.delete("secret").await.unwrap();
    let restore = Restore::new(sealed, source, Default::default());
    assert_eq!(restore.run().await.unwrap().restored, 1);
    assert_eq!(client.retrieve("secret").await.unwrap().unwrap(), "of mine");
    let raw = client.backend("m").unwrap().get("secret").await.unwrap().unwrap();
    assert_ne!(raw, "of mine", "it is encrypted as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_and_leases() {
    let world = World::new().await;
    fill(&world).await;
    let only = RunOptions {
        namespaces: NamespaceChoice {
            only: None,
            include: vec!["*".parse().unwrap()],
            exclude: vec!["b*".parse().unwrap()],
        },
        ..RunOptions::default()
    };
    let report = Backup::new(world.repository().await, world.source.clone(), only).run().await;
    assert_eq!(report.unwrap().objects, 169);

    // While one process writes, another one is kept out; and readers are not.
    let target: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1 << 30));
    let first = world.repository_on(Arc::clone(&target)).await.unwrap();
    let archive = sira_store::backup::Archiver::new;
    let run = Backup::new(first.clone(), world.source.clone(), Default::default());
    run.run().await.unwrap();
    let mut archiver = archive(first, world.source.clone(), NamespaceChoice::default());
    assert!(archiver.pass().await.unwrap().is_some());
    let options = RepositoryOptions { owner: "another".to_owned(), ..World::options() };
    let keyring = Arc::clone(&world.keyring);
    let second = Repository::open(Arc::clone(&target), keyring, options).await.unwrap();
    let prune = Prune::new(second.clone(), PruneOptions::default()).run().await;
    assert!(matches!(prune, Err(StorageError::Locked(_))), "{prune:?}");
    assert_eq!(second.snapshots().await.unwrap().len(), 1);
    drop(archiver);
    let mut pruned = Prune::new(second.clone(), PruneOptions::default()).run().await;
    while matches!(pruned, Err(StorageError::Locked(_))) {
        tokio::task::yield_now().await;
        pruned = Prune::new(second.clone(), PruneOptions::default()).run().await;
    }
    pruned.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_restores_compares_and_leaves_nothing() {
    let world = World::new().await;
    fill(&world).await;
    world.run().await;
    let before = state(&world).await;
    let drill = Drill::new(world.repository().await, world.source.clone());
    let report = drill.run().await.unwrap();
    assert_eq!((report.objects, report.wrong.len(), report.namespaces), (502, 0, 3));
    assert_eq!(state(&world).await, before);
    assert!(world.engine.find_namespace(DRILL_NAMESPACE).is_none());

    for pack in keys(&*world.target, "packs/").await.into_iter().take(1) {
        world.target.delete(&pack).await.unwrap();
    }
    let drill = Drill::new(world.repository().await, world.source.clone());
    assert!(!drill.run().await.unwrap().is_sound());
}

//! Places of a client that are kept level.

use std::sync::Arc;

use sira_store::cache::CacheOptions;
use sira_store::client::{DataSyncProgress, NamespacePolicy, StoragePlan, SyncPlace, SyncPlan};
use sira_store::migration::ConflictRule;
use sira_store::placement::Catalog;
use sira_store::seal::Keyring;
use sira_store::{
    EncryptionType, MemoryBackend, StorageBackend, StorageBackendExt, StorageClient, StorageError,
    StorageOptions,
};

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(64 << 20))
}

fn plan() -> StoragePlan {
    let backends = ["a", "b"].map(|name| (name.to_owned(), memory())).into();
    let keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    StoragePlan { default_backend: Some("a".to_owned()), backends, keyring, ..Default::default() }
}

fn client(plan: StoragePlan) -> StorageClient {
    let client = StorageClient::new();
    client.apply(plan).unwrap();
    client
}

fn place(backend: Option<&str>, namespace: &str) -> SyncPlace {
    SyncPlace { backend: backend.map(str::to_owned), namespace: namespace.to_owned() }
}

#[tokio::test]
async fn two_backends_are_kept_level_by_stored_bytes() {
    let mut plan = plan();
    let encryption = Some(EncryptionType::Aes256Gcm { key_id: String::new() });
    plan.namespaces
        .insert("s".to_owned(), NamespacePolicy { encryption, ..NamespacePolicy::on("a") });
    let client = client(plan);
    let secret = client.namespace("s");
    let state = memory();
    let mut sync = SyncPlan::new(place(Some("a"), "s"), place(Some("b"), "s"));
    sync.two_way = true;
    sync.conflict = ConflictRule::Source;
    for key in ["k", "gone"] {
        secret.store(key, "v1", StorageOptions::default()).await.unwrap();
    }
    client.sync(&sync, Arc::clone(&state)).await.unwrap().run().await.unwrap();
    let raw = async |backend: &str| {
        let backend = client.backend(backend).unwrap().namespace("s").await.unwrap();
        backend.get("k").await.unwrap().unwrap()
    };
    assert_eq!(raw("a").await, raw("b").await);
    assert_ne!(raw("b").await, "v1");

    // Both change it, each where the namespace lies for the time; the source's goes to both, and
    // opens on both.
    let on = |backend: &str| {
        let mut plan = StoragePlan::clone(&client.plan());
        plan.namespaces.get_mut("s").unwrap().backends = vec![backend.to_owned()];
        client.apply(plan).unwrap();
    };
    secret.store("k", "v2 of a", StorageOptions::default()).await.unwrap();
    on("b");
    secret.store("k", "v2 of b", StorageOptions::default()).await.unwrap();
    secret.delete("gone").await.unwrap();
    let running = client.sync(&sync, Arc::clone(&state)).await.unwrap();
    running.run().await.unwrap();
    let DataSyncProgress::TwoWay(progress) = running.progress() else { panic!() };
    assert_eq!((progress.report.conflicts, progress.report.removed_from_source), (1, 1));
    for backend in ["b", "a"] {
        on(backend);
        assert_eq!(secret.list_keys("", 10).await.unwrap(), ["k"]);
        assert_eq!(secret.retrieve("k").await.unwrap().unwrap(), "v2 of a", "{backend}");
    }
}

#[tokio::test]
async fn a_namespace_with_a_catalog_is_one_place() {
    let mut plan = plan();
    plan.catalog = Some(Catalog::new(memory()).unwrap());
    let direct = NamespacePolicy { direct: true, ..NamespacePolicy::on("b") };
    plan.namespaces.insert("copy".to_owned(), direct);
    let cached = NamespacePolicy { cache: Some(CacheOptions::default()), ..Default::default() };
    plan.namespaces.insert("cached".to_owned(), cached);
    let client = client(plan);
    let state = memory();
    let ns = client.namespace("ns");
    for key in ["1", "2"] {
        ns.store(key, "v", StorageOptions::default()).await.unwrap();
    }
    ns.migrate_data("a", "b", "1").await.unwrap();
    let mirror = SyncPlan::new(place(None, "ns"), place(None, "copy"));
    let running = client.sync(&mirror, Arc::clone(&state)).await.unwrap();
    running.run().await.unwrap();
    let DataSyncProgress::OneWay(progress) = running.progress() else { panic!() };
    assert_eq!(progress.report.copied, 2);
    let copy = client.backend("b").unwrap().namespace("copy").await.unwrap();
    assert_eq!(copy.list_keys("", 10).await.unwrap(), ["1", "2"]);
    ns.delete("1").await.unwrap();
    copy.put_bytes("extra", "v").await.unwrap();
    client.sync(&mirror, Arc::clone(&state)).await.unwrap().run().await.unwrap();
    assert_eq!(copy.list_keys("", 10).await.unwrap(), ["2"]);

    for (from, to) in [
        (place(Some("a"), "ns"), place(None, "copy")),
        (place(None, "ns"), place(Some("b"), "ns")),
        (place(None, "copy"), place(None, "cached")),
    ] {
        let refused = client.sync(&SyncPlan::new(from, to), Arc::clone(&state)).await.unwrap_err();
        assert!(matches!(refused, StorageError::Unsupported(_)), "{refused}");
    }
    for (from, to) in
        [(place(None, "ns"), place(None, "ns")), (place(None, "copy"), place(Some("b"), "copy"))]
    {
        let refused = client.sync(&SyncPlan::new(from, to), Arc::clone(&state)).await.unwrap_err();
        assert!(matches!(refused, StorageError::InvalidInput(_)), "{refused}");
    }
    let nowhere = SyncPlan::new(place(None, "ns"), place(Some("c"), "copy"));
    let refused = client.sync(&nowhere, state).await.unwrap_err();
    assert!(matches!(refused, StorageError::NotFound(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_goes_on_until_it_is_stopped() {
    let client = client(plan());
    for (two_way, writes_to) in [(false, "a"), (true, "b")] {
        let namespace = if two_way { "two" } else { "one" };
        let mut sync = SyncPlan::new(place(Some("a"), namespace), place(Some("b"), namespace));
        (sync.two_way, sync.follow) = (two_way, true);
        sync.pass_interval = std::time::Duration::from_millis(2);
        let running = Arc::new(client.sync(&sync, memory()).await.unwrap());
        assert!(running.follows());
        let task = tokio::spawn({
            let running = Arc::clone(&running);
            async move { running.run().await }
        });
        let inside = async |name: &str| client.backend(name).unwrap().namespace(namespace).await;
        inside(writes_to).await.unwrap().put_bytes("k", "v").await.unwrap();
        let other = inside(if two_way { "a" } else { "b" }).await.unwrap();
        while !other.exists("k").await.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        running.stop();
        task.await.unwrap().unwrap();
    }
    let mut dry = SyncPlan::new(place(Some("a"), "n"), place(Some("b"), "n"));
    (dry.follow, dry.dry_run) = (true, true);
    assert!(client.sync(&dry, memory()).await.is_err());
}

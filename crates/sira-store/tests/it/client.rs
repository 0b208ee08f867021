//! The client by a plan: policies of namespaces, placement, sealing, caches, and plans that change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::cache::{CacheOptions, CachePolicy};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::driver::{Area, DriverBackend};
use sira_store::env::SimEnv;
use sira_store::migration::MigrationOptions;
use sira_store::placement::Catalog;
use sira_store::router::{DataPattern, StorageRouter};
use sira_store::seal::Keyring;
use sira_store::{
    BatchOperation, BatchResult, Capabilities, CompressionType, Condition, EncryptionType,
    MemoryBackend, Object, ReadOptions, Result, StorageBackend, StorageClient, StorageError,
    StorageOptions, Version,
};
use tokio::sync::Semaphore;

use crate::driver::memory::{Kind, MemoryDriver};

fn memory() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new(64 << 20))
}

fn plain() -> StorageOptions {
    StorageOptions::default()
}

fn plan(backends: &[(&str, &Arc<MemoryBackend>)]) -> StoragePlan {
    let backends: BTreeMap<String, Arc<dyn StorageBackend>> = backends
        .iter()
        .map(|(name, backend)| ((*name).to_owned(), Arc::clone(backend) as Arc<dyn StorageBackend>))
        .collect();
    StoragePlan { default_backend: backends.keys().next().cloned(), backends, ..Default::default() }
}

async fn raw(backend: &Arc<MemoryBackend>, namespace: &str, key: &str) -> Option<Bytes> {
    StorageBackend::namespace(&**backend, namespace).await.unwrap().get(key).await.unwrap()
}

fn aes() -> EncryptionType {
    EncryptionType::Aes256Gcm { key_id: String::new() }
}

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap())
}

#[tokio::test]
async fn a_namespace_lies_where_its_policy_says_and_is_sealed_as_it_asks() {
    let (a, b) = (memory(), memory());
    let mut plan = plan(&[("a", &a), ("b", &b)]);
    plan.keyring = keyring();
    let secret = NamespacePolicy {
        compression: Some(CompressionType::Zstd),
        encryption: Some(aes()),
        ..NamespacePolicy::on("b")
    };
    plan.namespaces.insert("secret".to_owned(), secret);
    let client = StorageClient::new();
    client.apply(plan).unwrap();
    let value = "text ".repeat(1000);
    let secret = client.namespace("secret");
    secret.store("k", value.clone(), plain()).await.unwrap();
    client.store("k", value.clone(), plain()).await.unwrap();

    assert_eq!(secret.open().await.unwrap().at.as_deref(), Some("b"));
    assert_eq!(secret.retrieve("k").await.unwrap().unwrap(), value);
    let stored = raw(&b, "secret", "k").await.unwrap();
    assert!(stored.len() < 200 && !stored.windows(5).any(|part| part == b"text "));
    assert_eq!(raw(&a, "secret", "k").await, None);
    assert_eq!(a.get("k").await.unwrap().unwrap(), value, "others are stored as they come");

    // A write may ask for more than its namespace.
    let gzip = StorageOptions { compression: CompressionType::Gzip, ..plain() };
    client.store("zipped", value.clone(), gzip).await.unwrap();
    assert!(a.get("zipped").await.unwrap().unwrap().len() < 200);
    assert_eq!(client.retrieve("zipped").await.unwrap().unwrap(), value);

    // Another keyring opens nothing.
    let mut other = StoragePlan::clone(&client.plan());
    other.keyring = Arc::new(Keyring::new("k2", Keyring::generate_key().unwrap()).unwrap());
    client.apply(other).unwrap();
    let refused = secret.retrieve("k").await.unwrap_err();
    assert!(matches!(refused, StorageError::PermissionDenied(_)), "{refused}");
    assert_eq!(refused.detail().backend.as_deref(), Some("b"));
    assert_eq!(refused.detail().namespace.as_deref(), Some("secret"));
}

#[tokio::test]
async fn what_writes_do_not_say_the_namespace_does() {
    let a = memory();
    let mut plan = plan(&[("a", &a)]);
    let brief =
        NamespacePolicy { ttl: Some(Duration::from_secs(60)), ..NamespacePolicy::default() };
    plan.namespaces.insert("brief".to_owned(), brief);
    let client = StorageClient::new();
    client.apply(plan).unwrap();
    let brief = client.namespace("brief");
    brief.store("k", "v", plain()).await.unwrap();
    let hour = StorageOptions { ttl: Some(Duration::from_secs(3600)), ..plain() };
    let put = |key: &str, options| BatchOperation::Put {
        key: key.to_owned(),
        value: Bytes::from_static(b"v"),
        options,
    };
    brief.batch(vec![put("l", plain()), put("m", hour)]).await.unwrap();
    let left = async |key: &str| {
        let head = brief.open().await.unwrap().backend.head(key).await.unwrap().unwrap();
        head.expires_at_ms.unwrap() - head.version.time_ms()
    };
    for key in ["k", "l"] {
        assert!((59_000..=61_000).contains(&left(key).await), "{key}");
    }
    assert!(left("m").await > 3_500_000);
    client.store("k", "v", plain()).await.unwrap();
    assert_eq!(
        client.open().await.unwrap().backend.head("k").await.unwrap().unwrap().expires_at_ms,
        None
    );
}

#[tokio::test]
async fn a_plan_that_contradicts_itself_changes_nothing() {
    let a = memory();
    let good = plan(&[("a", &a)]);
    let client = StorageClient::new();
    client.apply(good.clone()).unwrap();
    client.store("k", "v", plain()).await.unwrap();

    let namespace = |policy| BTreeMap::from([("n".to_owned(), policy)]);
    let encrypted = NamespacePolicy { encryption: Some(aes()), ..NamespacePolicy::default() };
    let over = NamespacePolicy { backends: vec!["a".into(), "a".into()], ..Default::default() };
    let router = Some(Arc::new(StorageRouter::new()));
    let odd = BTreeMap::from([(String::new(), NamespacePolicy::default())]);
    let bad = [
        StoragePlan { default_backend: Some("b".into()), ..good.clone() },
        StoragePlan { namespaces: namespace(NamespacePolicy::on("b")), ..good.clone() },
        StoragePlan { namespaces: namespace(encrypted), ..good.clone() },
        StoragePlan { namespaces: namespace(over), ..good.clone() },
        StoragePlan { namespaces: odd, ..good.clone() },
        StoragePlan { router, ..good.clone() },
    ];
    for plan in bad {
        let refused = client.apply(plan.clone()).unwrap_err();
        let known = matches!(refused, StorageError::NotFound(_) | StorageError::InvalidInput(_));
        assert!(known, "{plan:?}: {refused}");
        assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"v"[..]));
    }
}

fn routed(patterns: &[(&str, &str)], default: &str) -> Option<Arc<StorageRouter>> {
    let mut router = StorageRouter::new();
    for (pattern, backend) in patterns {
        router.add_data_pattern(pattern, DataPattern::to(*backend)).unwrap();
    }
    router.set_default_backend(default);
    Some(Arc::new(router))
}

#[tokio::test]
async fn objects_are_found_whatever_the_plan_became_since() {
    let (a, b, c) = (memory(), memory(), memory());
    let catalog = Catalog::new(memory()).unwrap();
    let plan = |router, default: &str| StoragePlan {
        router,
        default_backend: Some(default.to_owned()),
        catalog: Some(catalog.clone()),
        ..plan(&[("a", &a), ("b", &b), ("c", &c)])
    };
    let plans = [
        plan(None, "a"),
        plan(routed(&[("cache:*", "b")], "a"), "a"),
        plan(routed(&[("cache:*", "c"), ("*:7", "b")], "c"), "c"),
        plan(None, "b"),
    ];
    let client = StorageClient::new();
    let tenant = client.namespace("tenant");
    let mut written = BTreeMap::new();
    for (round, plan) in plans.iter().cycle().take(12).enumerate() {
        client.apply(plan.clone()).unwrap();
        for number in 0..20 {
            let kind = if number % 3 == 0 { "cache" } else { "data" };
            let key = format!("{kind}:{number}");
            // Every key is written by some plans and only read by others.
            if (number + round) % 4 == 0 {
                let value = format!("{key} of round {round}");
                tenant.store(&key, value.clone(), plain()).await.unwrap();
                written.insert(key, value);
            }
        }
        for (key, value) in &written {
            let found = tenant.retrieve(key).await.unwrap();
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key} in round {round}");
        }
        let listed = tenant.list_keys("", 100).await.unwrap();
        assert_eq!(listed, written.keys().cloned().collect::<Vec<_>>());
    }
    let mut used = 0;
    for backend in [&a, &b, &c] {
        let held = StorageBackend::namespace(&**backend, "tenant").await.unwrap();
        used += usize::from(!held.list_keys("", 1).await.unwrap().is_empty());
    }
    assert!(used >= 2, "the plans spread the objects over several backends");
    assert_eq!(catalog.namespaces().await.unwrap(), ["tenant"]);
}

#[tokio::test]
async fn gateways_that_share_a_catalog_see_what_the_others_began_to_use() {
    let (a, b) = (memory(), memory());
    let catalog = Catalog::new(memory()).unwrap();
    let gateway = |router| {
        let client = StorageClient::new();
        let catalog = Some(catalog.clone());
        client.apply(StoragePlan { router, catalog, ..plan(&[("a", &a), ("b", &b)]) }).unwrap();
        client.namespace("tenant")
    };
    let (one, other) = (gateway(None), gateway(routed(&[("cache:*", "b")], "a")));
    one.store("data:1", "v", plain()).await.unwrap();
    assert_eq!(one.list_keys("", 9).await.unwrap(), ["data:1"]);
    other.store("cache:1", "v", plain()).await.unwrap();
    assert!(raw(&b, "tenant", "cache:1").await.is_some());
    assert_eq!(one.list_keys("", 9).await.unwrap(), ["cache:1", "data:1"]);
    assert_eq!(one.retrieve("cache:1").await.unwrap().as_deref(), Some(&b"v"[..]));
    // A copy that another gateway moved is found, and replaced where it lies.
    one.store("cache:1", "w", plain()).await.unwrap();
    assert_eq!(other.retrieve("cache:1").await.unwrap().as_deref(), Some(&b"w"[..]));
}

#[tokio::test]
async fn a_backend_is_left_out_once_nothing_lies_there() {
    let (a, b, records) = (memory(), memory(), memory());
    let client = StorageClient::new();
    let catalog = || Some(Catalog::new(records.clone()).unwrap());
    let patterns: &[_] = &[("b:*", "b"), ("*", "b")];
    let both = StoragePlan {
        router: routed(patterns, "b"),
        catalog: catalog(),
        ..plan(&[("a", &a), ("b", &b)])
    };
    client.apply(StoragePlan { default_backend: Some("b".into()), ..both.clone() }).unwrap();
    for number in 0..20 {
        client.store(&format!("b:{number}"), "v", plain()).await.unwrap();
    }
    client.delete("b:19").await.unwrap();
    assert_eq!(client.first_key_on("b").await.unwrap().as_deref(), Some("b:0"));
    let without = || StoragePlan { catalog: catalog(), ..plan(&[("a", &a)]) };
    client.apply(without()).unwrap();
    assert!(client.retrieve("b:1").await.is_err(), "its home is not there");

    // The rules still name it, and it gets nothing new all the same.
    let leaving = BTreeSet::from(["b".to_owned()]);
    client.apply(StoragePlan { leaving, ..both }).unwrap();
    assert!(client.settled(Duration::from_secs(10)).await);
    client.store("b:new", "v", plain()).await.unwrap();
    client.store("b:2", "newer", plain()).await.unwrap();
    assert_eq!(b.get("b:new").await.unwrap(), None);
    let refused = client.retire("b", "a").await.unwrap_err();
    assert_eq!(refused.code(), "invalid_input", "{refused}");
    client.migrate_data("b", "a", "*").await.unwrap();
    assert_eq!(client.first_key_on("b").await.unwrap(), None);
    client.retire("b", "a").await.unwrap();

    client.apply(without()).unwrap();
    for number in 0..19 {
        let value = client.retrieve(&format!("b:{number}")).await.unwrap();
        let expected = if number == 2 { &b"newer"[..] } else { &b"v"[..] };
        assert_eq!(value.as_deref(), Some(expected), "{number}");
    }
    assert_eq!(client.retrieve("b:19").await.unwrap(), None);
    client.store("b:19", "again", plain()).await.unwrap();
    assert_eq!(client.retrieve("b:19").await.unwrap().as_deref(), Some(&b"again"[..]));
    assert_eq!(client.list_keys("", 100).await.unwrap().len(), 21);
}

#[tokio::test]
async fn copies_do_not_keep_a_backend_in_use_and_old_entries_do_not_lead_there() {
    let (a, b, records) = (memory(), memory(), memory());
    let client = StorageClient::new();
    let catalog = || Some(Catalog::new(records.clone()).unwrap());
    let with = |router| StoragePlan { router, catalog: catalog(), ..plan(&[("a", &a), ("b", &b)]) };
    client.apply(with(routed(&[("b:*", "b")], "a"))).unwrap();
    client.store("b:gone", "v", plain()).await.unwrap();
    client.delete("b:gone").await.unwrap();
    let mut router = StorageRouter::new();
    let mirror_backends = vec!["b".to_owned()];
    let pattern = DataPattern { mirror_backends, ..DataPattern::to("a") };
    router.add_data_pattern("*", pattern).unwrap();
    client.apply(with(Some(Arc::new(router)))).unwrap();
    client.store("copied", "v", plain()).await.unwrap();
    assert!(b.get("copied").await.unwrap().is_some());
    assert_eq!(client.first_key_on("b").await.unwrap(), None);

    client.apply(with(routed(&[], "a"))).unwrap();
    catalog().unwrap().retire("default", "b", "a").await.unwrap();
    client.apply(StoragePlan { catalog: catalog(), ..plan(&[("a", &a)]) }).unwrap();
    assert_eq!(client.retrieve("copied").await.unwrap().as_deref(), Some(&b"v"[..]));
    for key in ["b:gone", "copied"] {
        client.store(key, "again", plain()).await.unwrap();
        assert_eq!(client.retrieve(key).await.unwrap().as_deref(), Some(&b"again"[..]));
    }
}

#[tokio::test]
async fn what_nobody_sees_is_dropped_wherever_the_catalog_says_that_something_lies() {
    let driver = MemoryDriver::new(Kind { body_bytes_max: 64 * 1024, ..Kind::default() });
    let records = memory();
    let with = |backend: DriverBackend| StoragePlan {
        catalog: Some(Catalog::new(records.clone()).unwrap()),
        router: Some(routed(&[], "a").unwrap()),
        backends: [("a".to_owned(), Arc::new(backend) as Arc<dyn StorageBackend>)].into(),
        default_backend: Some("a".to_owned()),
        ..StoragePlan::default()
    };
    let client = StorageClient::new();
    client.apply(with(DriverBackend::new(driver.clone()))).unwrap();
    let tenant = client.namespace("tenant");
    for key in ["kept", "lost"] {
        tenant.store(key, vec![7; 300_000], plain()).await.unwrap();
    }
    let brief = StorageOptions { ttl: Some(Duration::from_millis(1)), ..plain() };
    tenant.store("brief", "v", brief).await.unwrap();
    // As if the process had died between the chunks and the record.
    driver.forget("lost");

    let later = Arc::new(SimEnv::new(1, u64::MAX >> 20));
    client.apply(with(DriverBackend::with_env(driver.clone(), later))).unwrap();
    let done = client.maintain().await.unwrap();
    assert_eq!(
        done.into_iter().map(|(name, n)| (name, n.unwrap())).collect::<Vec<_>>(),
        [("a".to_owned(), 6)]
    );
    assert_eq!((driver.keys(Area::Chunks).len(), driver.keys(Area::Objects).len()), (5, 1));
    assert_eq!(tenant.retrieve("kept").await.unwrap().map(|value| value.len()), Some(300_000));
}

#[tokio::test]
async fn what_is_under_way_is_waited_for_when_the_plan_changes() {
    let (a, b) = (memory(), memory());
    let client = StorageClient::new();
    client.apply(plan(&[("a", &a)])).unwrap();
    let open = client.open().await.unwrap();
    client.apply(plan(&[("b", &b)])).unwrap();
    assert!(!client.settled(Duration::from_millis(20)).await);
    drop(open);
    assert!(client.settled(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn data_is_moved_with_and_without_a_catalog() {
    let (a, b) = (memory(), memory());
    let client = StorageClient::new();
    client.apply(plan(&[("a", &a), ("b", &b)])).unwrap();
    let put = async |client: &StorageClient| {
        for key in ["cache:1", "cache:2", "data:1"] {
            client.store(key, key.to_owned(), plain()).await.unwrap();
        }
    };
    put(&client).await;
    let report = client.migrate_data("a", "b", "cache:*").await.unwrap();
    assert_eq!((report.scanned, report.copied), (2, 2));
    assert_eq!(b.list_keys("", 10).await.unwrap(), ["cache:1", "cache:2"]);
    assert_eq!(a.list_keys("", 10).await.unwrap().len(), 3, "a copy");
    let versions = |backend: &Arc<MemoryBackend>| {
        let backend = Arc::clone(backend);
        async move { backend.head("cache:1").await.unwrap().unwrap().version }
    };
    assert_eq!(versions(&a).await, versions(&b).await);

    let catalog = Catalog::new(memory()).unwrap();
    client.apply(StoragePlan { catalog: Some(catalog), ..plan(&[("a", &a), ("b", &b)]) }).unwrap();
    let tenant = client.namespace("tenant");
    put(&tenant).await;
    let options = MigrationOptions {
        pattern: "cache:*".parse().unwrap(),
        dry_run: true,
        ..Default::default()
    };
    assert_eq!(tenant.migrate("a", "b", options).await.unwrap().copied, 2);
    assert!(raw(&b, "tenant", "cache:1").await.is_none(), "a dry run");
    let report = tenant.migrate_data("a", "b", "cache:*").await.unwrap();
    assert_eq!((report.scanned, report.copied, report.removed), (2, 2, 2));
    assert_eq!(raw(&a, "tenant", "cache:1").await, None, "a move");
    assert!(raw(&b, "tenant", "cache:1").await.is_some());
    assert_eq!(tenant.list_keys("", 10).await.unwrap(), ["cache:1", "cache:2", "data:1"]);
    assert_eq!(tenant.retrieve("cache:2").await.unwrap().unwrap(), "cache:2");

    for (from, to) in [("a", "a"), ("a", "c"), ("c", "a")] {
        assert!(client.migrate_data(from, to, "*").await.is_err(), "{from} to {to}");
    }
    assert_eq!(tenant.clear().await.unwrap(), 3);
    assert!(tenant.list_keys("", 10).await.unwrap().is_empty());
}

/// Writes wait for a permit.
#[derive(Debug)]
struct Gated {
    inner: MemoryBackend,
    open: Semaphore,
    arrived: Semaphore,
}

#[async_trait]
impl StorageBackend for Gated {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        self.inner.put(key, value, options).await
    }
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }
}

#[tokio::test]
async fn a_cache_waits_for_what_began_under_the_plan_before() {
    let inner = MemoryBackend::new(1 << 20);
    let gated = Arc::new(Gated { inner, open: Semaphore::new(1), arrived: Semaphore::new(0) });
    let policy = CachePolicy { exclusive: true, ..CachePolicy::default() };
    let cached = NamespacePolicy {
        cache: Some(CacheOptions { policy, ..CacheOptions::default() }),
        ..NamespacePolicy::default()
    };
    let plan = StoragePlan {
        backends: BTreeMap::from([("g".to_owned(), Arc::clone(&gated) as _)]),
        default_backend: Some("g".to_owned()),
        namespaces: BTreeMap::from([("default".to_owned(), cached)]),
        ..StoragePlan::default()
    };
    let client = StorageClient::new();
    client.apply(plan.clone()).unwrap();
    client.store("k", "old", plain()).await.unwrap();

    // A write through the old plan's cache is on its way when the plan changes.
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.store("k", "new", plain()).await });
    gated.arrived.acquire_many(2).await.unwrap().forget();
    client.apply(plan).unwrap();
    assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"old"[..]));
    gated.open.add_permits(1);
    write.await.unwrap().unwrap();
    // A cache that had kept what was read in between would still say "old".
    assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"new"[..]));

    // The namespace has its cache again: a hit asks nobody.
    gated.inner.put("k", "past the cache".into(), plain()).await.unwrap();
    assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"new"[..]));
}

#[tokio::test]
async fn batches_answer_in_order_over_several_backends() {
    let (a, b) = (memory(), memory());
    let catalog = Catalog::new(memory()).unwrap();
    let client = StorageClient::new();
    client
        .apply(StoragePlan {
            router: routed(&[("x:*", "b")], "a"),
            catalog: Some(catalog),
            ..plan(&[("a", &a), ("b", &b)])
        })
        .unwrap();
    let put = |key: &str| BatchOperation::Put {
        key: key.to_owned(),
        value: key.to_owned().into(),
        options: plain(),
    };
    let get = |key: &str| BatchOperation::Get { key: key.to_owned() };
    let operations = vec![put("x:1"), put("y:1"), get("x:1"), get("y:1"), get("none")];
    let results = client.batch(operations).await.unwrap();
    let values: Vec<_> = results
        .iter()
        .map(|result| match result {
            BatchResult::Value(object) => object.as_ref().map(|object| object.value.clone()),
            BatchResult::Success { .. } => Some(Bytes::from_static(b"written")),
            BatchResult::Error(error) => panic!("{error}"),
        })
        .collect();
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    assert_eq!(values, [some("written"), some("written"), some("x:1"), some("y:1"), None]);
    assert!(b.exists("x:1").await.unwrap() && a.exists("y:1").await.unwrap());
}

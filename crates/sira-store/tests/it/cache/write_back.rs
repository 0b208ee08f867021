//! Writes that are answered from a queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::cache::{CacheBackend, CacheOptions, CachePolicy, WriteMode};
use sira_store::conformance::{self, ConformanceOptions};
use sira_store::env::{Env, SystemEnv};
use sira_store::{
    BatchOperation, BatchResult, Capabilities, Condition, ConsistencyLevel, HealthStatus,
    HybridClock, ListOptions, MemoryBackend, Metadata, Object, ObjectHead, ReadOptions, Result,
    StorageBackend, StorageBackendExt, StorageError, StorageOptions, Version,
};

use super::{exclusive, with_policy};

/// A backend that stores the versions it is given.
#[derive(Debug, Default, Clone)]
struct Exact(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    objects: Mutex<BTreeMap<String, (Version, Bytes)>>,
    clock: HybridClock,
    puts: AtomicUsize,
    down: AtomicBool,
    refuses: AtomicBool,
}

fn check(key: &str, options: &StorageOptions) -> Result<()> {
    sira_store::key::check_key(key)?;
    sira_store::key::check_transforms(options)?;
    options.version.map_or(Ok(()), sira_store::key::check_exact_version)
}

impl Exact {
    fn held(&self, key: &str) -> Option<(Version, Bytes)> {
        self.0.objects.lock().get(key).cloned()
    }
}

#[async_trait]
impl StorageBackend for Exact {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "exact",
            ttl: false,
            atomic_batch: false,
            namespaces: false,
            metadata: false,
            list: false,
            range: false,
            exact_versions: true,
            ..MemoryBackend::new(0).capabilities()
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        check(key, &options)?;
        self.0.puts.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.0.down.load(Ordering::SeqCst) {
            return Err(StorageError::unavailable("out of order"));
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(StorageError::permission_denied("not today"));
        }
        let mut objects = self.0.objects.lock();
        let held = objects.get(key).map(|(version, _)| *version);
        options.condition.require(held)?;
        let version = match options.version {
            Some(version) if held.is_some_and(|held| held >= version) => {
                return Err(StorageError::conflict("a later version is there"));
            }
            Some(version) => version,
            None => self.0.clock.next(SystemEnv.now_ms()),
        };
        self.0.clock.observe(version);
        objects.insert(key.to_owned(), (version, value));
        Ok(version)
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        check(key, &StorageOptions::default())?;
        let held = self.held(key);
        options.condition.require(held.as_ref().map(|(version, _)| *version))?;
        let Some((version, value)) = held else { return Ok(None) };
        let size = value.len() as u64;
        let range = options.range.unwrap_or(0..size);
        if range.start > size || range.start > range.end {
            return Err(StorageError::invalid_input("no such range"));
        }
        let range = range.start..range.end.min(size);
        let value = value.slice(range.start as usize..range.end as usize);
        let metadata = Metadata::default();
        Ok(Some(Object {
            head: ObjectHead { version, size, expires_at_ms: None, metadata },
            value,
            range,
        }))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        check(key, &StorageOptions::default())?;
        let mut objects = self.0.objects.lock();
        condition.require(objects.get(key).map(|(version, _)| *version))?;
        Ok(objects.remove(key).is_some())
    }
}

fn policy() -> CachePolicy {
    CachePolicy { write: WriteMode::Back, allow_loss: true, ..exclusive() }
}

fn slow() -> CacheOptions {
    CacheOptions { write_back_delay: Duration::from_secs(3600), ..with_policy(policy()) }
}

fn cache(primary: &Exact, options: CacheOptions) -> CacheBackend {
    CacheBackend::new(Arc::new(primary.clone()), options).unwrap()
}

#[tokio::test]
async fn it_is_refused_where_it_would_break_a_promise() {
    let refused = |policy: CachePolicy, primary: Arc<dyn StorageBackend>| {
        CacheBackend::new(primary, with_policy(policy)).unwrap_err().code()
    };
    let exact = || Arc::new(Exact::default());
    assert_eq!(refused(CachePolicy { allow_loss: false, ..policy() }, exact()), "invalid_input");
    assert_eq!(refused(CachePolicy { exclusive: false, ..policy() }, exact()), "invalid_input");
    let eventual =
        CachePolicy { exclusive: false, consistency: ConsistencyLevel::Eventual, ..policy() };
    assert!(CacheBackend::new(exact(), with_policy(eventual)).is_ok());
    // A namespace's own policy is looked at as well.
    let bad = CachePolicy { allow_loss: false, ..policy() };
    let options = CacheOptions { namespaces: [("n".to_owned(), bad)].into(), ..slow() };
    assert!(CacheBackend::new(exact(), options).is_err());
}

#[tokio::test]
async fn writes_are_answered_at_once_and_reach_the_primary_on_flush() {
    let primary = Exact::default();
    let cache = cache(&primary, slow());
    let mut last = Version::default();
    for round in 0..10 {
        let version = cache.put_bytes("k", format!("{round}")).await.unwrap();
        assert!(version > last);
        last = version;
        let object = cache.read("k", ReadOptions::default()).await.unwrap().unwrap();
        assert_eq!((object.head.version, object.value), (version, format!("{round}").into()));
        assert_eq!(cache.head("k").await.unwrap().unwrap().version, version);
    }
    assert_eq!(primary.held("k"), None);
    assert_eq!(cache.cache_stats().write_back_queued, 1);
    cache.flush().await.unwrap();
    assert_eq!(primary.held("k"), Some((last, "9".into())));
    // Only the newest write of a key was made.
    assert_eq!(primary.0.puts.load(Ordering::SeqCst), 1);
    let stats = cache.cache_stats();
    assert_eq!((stats.write_back_queued, stats.write_back_bytes), (0, 0));
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("9"));
}

#[tokio::test]
async fn what_is_queued_is_lost_with_the_cache_and_nothing_else() {
    let primary = Exact::default();
    let first = cache(&primary, slow());
    first.put_bytes("kept", "v").await.unwrap();
    first.flush().await.unwrap();
    first.put_bytes("lost", "v").await.unwrap();
    drop(first);
    let cache = cache(&primary, slow());
    assert_eq!(cache.get("lost").await.unwrap(), None);
    assert_eq!(cache.get_string("kept").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn conditions_removals_and_batches_see_what_is_queued() {
    let primary = Exact::default();
    let cache = cache(&primary, slow());
    let version = cache.put_bytes("k", "1").await.unwrap();
    assert_eq!(cache.put_if_absent("k", "x").await.unwrap(), None);
    assert!(cache.compare_and_swap("k", Some(version), "2").await.unwrap().is_some());
    assert_eq!(primary.held("k").unwrap().1, "2");
    cache.put_bytes("k", "3").await.unwrap();
    let results = cache.batch(vec![BatchOperation::Get { key: "k".into() }]).await.unwrap();
    assert!(matches!(&results[..], [BatchResult::Value(Some(object))] if object.value == "3"));
    cache.put_bytes("k", "4").await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    cache.flush().await.unwrap();
    assert_eq!((cache.get("k").await.unwrap(), primary.held("k")), (None, None));
    // A listing would show what is queued, if this primary listed.
    cache.put_bytes("k", "5").await.unwrap();
    assert!(cache.list(ListOptions::default()).await.is_err());
    assert_eq!(primary.held("k").unwrap().1, "5");
}

#[tokio::test]
async fn the_queue_is_bounded_and_written_by_itself() {
    let primary = Exact::default();
    let bounded = cache(&primary, CacheOptions { write_back_bytes: 100_000, ..slow() });
    for number in 0..50 {
        bounded.put_bytes(&format!("k{number}"), vec![1; 10_000]).await.unwrap();
        assert!(bounded.cache_stats().write_back_bytes <= 110_000);
    }
    assert!(primary.0.puts.load(Ordering::SeqCst) >= 40);

    let delay = Duration::from_millis(5);
    let quick = cache(&primary, CacheOptions { write_back_delay: delay, ..slow() });
    for round in 0..3 {
        quick.put_bytes("quick", format!("{round}")).await.unwrap();
        while primary.held("quick").is_none_or(|(_, value)| value != format!("{round}")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_primary_that_is_down_keeps_the_queue_and_one_that_refuses_is_told_of() {
    let primary = Exact::default();
    let cache = cache(&primary, slow());
    primary.0.down.store(true, Ordering::SeqCst);
    cache.put_bytes("k", "v").await.unwrap();
    assert!(matches!(cache.flush().await.unwrap_err(), StorageError::Unavailable(_)));
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    primary.0.down.store(false, Ordering::SeqCst);
    cache.flush().await.unwrap();
    assert_eq!(primary.held("k").unwrap().1, "v");

    primary.0.refuses.store(true, Ordering::SeqCst);
    cache.put_bytes("k", "refused").await.unwrap();
    assert!(matches!(cache.flush().await.unwrap_err(), StorageError::PermissionDenied(_)));
    // What was refused is not shown any more.
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(cache.cache_stats().write_back_lost, 1);
    assert!(matches!(cache.health_check().await, HealthStatus::Warning(_)));
}

#[tokio::test]
async fn a_later_version_in_the_primary_does_not_cost_the_bytes() {
    let primary = Exact::default();
    let cache = cache(&primary, slow());
    cache.put_bytes("k", "ours").await.unwrap();
    let future = Version::from_u64((SystemEnv.now_ms() + 60_000) << 16);
    let options = StorageOptions { version: Some(future), ..StorageOptions::default() };
    primary.put("k", "theirs".into(), options).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(primary.held("k").unwrap().1, "ours");
    let version = cache.put_bytes("k", "again").await.unwrap();
    assert!(version > future);
    cache.flush().await.unwrap();
    assert_eq!(primary.held("k"), Some((version, "again".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let primary = Exact::default();
    let report = conformance::run(Arc::new(primary), ConformanceOptions::default()).await;
    report.into_result().unwrap_or_else(|error| panic!("{error}"));
    for delay in [1, 20] {
        let write_back_delay = Duration::from_millis(delay);
        let options = CacheOptions { write_back_delay, ..with_policy(policy()) };
        let cache = cache(&Exact::default(), options);
        let report = conformance::run(Arc::new(cache), ConformanceOptions::default()).await;
        report.into_result().unwrap_or_else(|error| panic!("{error}"));
    }
}

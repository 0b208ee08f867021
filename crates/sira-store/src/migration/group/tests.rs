use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Migration, MigrationOptions};
use super::*;
use crate::backend::{Capabilities, ListPage, ObjectHead, ReadOptions, StorageBackend};
use crate::memory::MemoryBackend;
use crate::options::Condition;

/// A version past all that the clock gives.
const NEWER: u64 = 1 << 62;

fn at(version: u64) -> StorageOptions {
    StorageOptions { version: Some(Version::from_u64(version)), ..StorageOptions::default() }
}

/// Counts requests, and can write to a key between the listing of the target and the batch.
#[derive(Debug)]
struct Counted {
    inner: MemoryBackend,
    requests: AtomicUsize,
    overtake: Option<&'static str>,
}

impl Counted {
    fn new(overtake: Option<&'static str>) -> Arc<Self> {
        let inner = MemoryBackend::new(64 << 20);
        Arc::new(Self { inner, requests: AtomicUsize::new(0), overtake })
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl StorageBackend for Counted {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.count();
        self.inner.put(key, value, options).await
    }
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.count();
        self.inner.read(key, options).await
    }
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.count();
        self.inner.remove(key, condition).await
    }
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.count();
        self.inner.head(key).await
    }
    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.count();
        self.inner.list(options).await
    }
    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.count();
        if let Some(key) = self.overtake
            && operations.iter().any(|operation| operation.is_write() && operation.key() == key)
        {
            self.inner.put(key, Bytes::from("newer"), at(NEWER)).await?;
        }
        self.inner.batch(operations).await
    }
}

async fn fill(backend: &dyn StorageBackend, keys: std::ops::Range<usize>, value: &str) {
    for key in keys {
        let value = Bytes::from(value.to_owned());
        backend.put(&format!("key:{key:05}"), value, StorageOptions::default()).await.unwrap();
    }
}

async fn migrate(source: &Arc<Counted>, target: &Arc<Counted>) -> super::super::MigrationReport {
    let (from, to): (Arc<dyn StorageBackend>, Arc<dyn StorageBackend>) =
        (source.clone(), target.clone());
    Migration::new(from, to, MigrationOptions::default()).unwrap().run().await.unwrap()
}

#[tokio::test]
async fn small_objects_take_few_requests() {
    let (source, target) = (Counted::new(None), Counted::new(None));
    fill(&*source, 0..3000, "v").await;
    source.requests.store(0, Ordering::Relaxed);
    let report = migrate(&source, &target).await;
    assert_eq!((report.scanned, report.copied, report.conflicts), (3000, 3000, 0));
    let requests = |backend: &Counted| backend.requests.swap(0, Ordering::Relaxed);
    let (reads, writes) = (requests(&source), requests(&target));
    assert!(reads <= 3 + 24 + 1 && writes <= 3 + 24 + 1, "{reads} {writes}");
    // Once more: nothing is read but listings.
    let report = migrate(&source, &target).await;
    assert_eq!((report.copied, report.skipped), (0, 3000));
    assert!(requests(&source) <= 4 && requests(&target) <= 4);
    assert_eq!(
        target.list_keys("", 9999).await.unwrap(),
        source.list_keys("", 9999).await.unwrap()
    );
}

#[tokio::test]
async fn what_the_target_has_and_what_comes_meanwhile_is_judged_by_itself() {
    let (source, target) = (Counted::new(None), Counted::new(Some("key:00007")));
    target.put("key:00003", Bytes::from("older"), at(1)).await.unwrap();
    fill(&*source, 0..20, "source").await;
    target.put("key:00005", Bytes::from("newer"), at(NEWER)).await.unwrap();
    let report = migrate(&source, &target).await;
    assert_eq!((report.scanned, report.copied, report.conflicts), (20, 18, 3));
    for (key, wanted) in [
        ("key:00000", "source"),
        ("key:00003", "source"),
        ("key:00005", "newer"),
        ("key:00007", "newer"),
    ] {
        let held = target.get(key).await.unwrap();
        assert_eq!(held.as_deref(), Some(wanted.as_bytes()), "{key}");
    }
}

#[test]
fn large_objects_go_alone_and_groups_are_bounded() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1));
    let options = MigrationOptions::default();
    let migration = Migration::new(Arc::clone(&backend), backend, options).unwrap();
    let entry = |size: u64| ListEntry { key: "k".into(), size, version: None, expires_at_ms: None };
    let lens = |sizes: &[u64]| -> Vec<usize> {
        let page = sizes.iter().map(|size| entry(*size)).collect();
        groups(&migration, page).iter().map(Vec::len).collect()
    };
    assert_eq!(lens(&[1; 300]), [128, 128, 44]);
    assert_eq!(lens(&[1, 1, 1 << 20, 1, 1]), [2, 1, 2]);
    assert_eq!(lens(&[64 << 10; 40]), [16, 16, 8]);
    assert_eq!(lens(&[]), Vec::<usize>::new());
}

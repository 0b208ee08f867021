//! What is seen of transactions that are committed and not written to their backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::env;
use crate::backend::{
    BatchOperation, BatchResult, Capabilities, ListOptions, ListPage, Object, ObjectHead,
    ReadOptions, StorageBackend,
};
use crate::env::SeededRandom;
use crate::error::{Result, StorageError};
use crate::memory::MemoryBackend;
use crate::options::{Condition, StorageOptions};
use crate::transaction::log::TransactionLog;
use crate::transaction::{PreparedPart, Transaction, TransactionEngine, TransactionPart};
use crate::version::Version;

/// A store that takes no writes while it is held, and knows no batches.
#[derive(Debug, Clone)]
struct Held {
    inner: MemoryBackend,
    held: Arc<AtomicBool>,
}

impl Held {
    fn new(seed: u64) -> Self {
        Self { inner: MemoryBackend::with_env(1 << 20, env(seed)), held: Arc::default() }
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    fn takes_writes(&self) -> Result<()> {
        match self.held.load(Ordering::SeqCst) {
            true => Err(StorageError::unavailable("held")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl StorageBackend for Held {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_batch: false, ..self.inner.capabilities() }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.takes_writes()?;
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.inner.head(key).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.takes_writes()?;
        self.inner.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }
}

/// A namespace over a store that can be held.
async fn held(seed: u64) -> (Held, TransactionLog, Arc<dyn StorageBackend>) {
    let home = Arc::new(MemoryBackend::with_env(1 << 20, env(seed)));
    let log = TransactionLog::open(home, env(seed)).await.unwrap();
    let store = Held::new(seed);
    let backend = log.around("n", Arc::new(store.clone()));
    (store, log, backend)
}

async fn applied(log: &TransactionLog) {
    while log.figures().pending > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn plain() -> StorageOptions {
    StorageOptions::default()
}

/// Everything that a listing shows, page by page.
async fn all(backend: &dyn StorageBackend, options: &ListOptions) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let mut start_after = options.start_after.clone();
    loop {
        let page = backend.list(ListOptions { start_after, ..options.clone() }).await.unwrap();
        assert!(page.entries.len() + page.common_prefixes.len() <= options.limit);
        keys.extend(page.entries.into_iter().map(|entry| format!("{} {}", entry.key, entry.size)));
        prefixes.extend(page.common_prefixes);
        match page.next {
            Some(next) => start_after = Some(next),
            None => return (keys, prefixes),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_and_listings_are_those_of_a_store_that_holds_it_all() {
    for seed in 0..60 {
        let mut random = SeededRandom::new(seed);
        let (store, log, backend) = held(seed).await;
        let model = MemoryBackend::with_env(1 << 20, env(seed));
        let key = |random: &mut SeededRandom| {
            let (a, b) = (random.next_u64() % 3, random.next_u64() % 4);
            ["", "d/", "d/e/"][a as usize].to_owned() + &"k".repeat(1 + b as usize)
        };
        for _ in 0..30 {
            store.hold(false);
            applied(&log).await;
            store.hold(!random.next_u64().is_multiple_of(4));
            let mut transaction = Transaction::begin(Arc::clone(&backend)).unwrap();
            for _ in 0..1 + random.next_u64() % 5 {
                let key = key(&mut random);
                if random.next_u64().is_multiple_of(2) {
                    let value = "v".repeat((random.next_u64() % 9) as usize);
                    model.put(&key, value.clone().into(), plain()).await.unwrap();
                    transaction.namespace("").await.unwrap().put(&key, value, plain()).unwrap();
                } else {
                    model.delete(&key).await.unwrap();
                    transaction.delete(&key).unwrap();
                }
            }
            transaction.commit().await.unwrap();
            for _ in 0..8 {
                let start_after = random.next_u64().is_multiple_of(2).then(|| key(&mut random));
                let options = ListOptions {
                    prefix: ["", "d", "d/", "k"][(random.next_u64() % 4) as usize].to_owned(),
                    start_after,
                    delimiter: random.next_u64().is_multiple_of(2).then(|| "/".to_owned()),
                    limit: 1 + (random.next_u64() % 6) as usize,
                };
                let seen = all(&*backend, &options).await;
                assert_eq!(seen, all(&model, &options).await, "seed {seed}: {options:?}");
            }
            for _ in 0..4 {
                let key = key(&mut random);
                let object = backend.read(&key, ReadOptions::default()).await.unwrap();
                let head = backend.head(&key).await.unwrap();
                assert_eq!(head, object.as_ref().map(|object| object.head.clone()));
                let value = object.map(|object| object.value);
                assert_eq!(value, model.get(&key).await.unwrap(), "seed {seed}: {key}");
                assert_eq!(backend.exists(&key).await.unwrap(), head.is_some());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_removed_does_not_change_a_listing() {
    let (store, log, backend) = held(2).await;
    for key in ["l/a", "l/b", "l/c", "l/d", "l/e"] {
        backend.put(key, "0".into(), plain()).await.unwrap();
    }
    store.hold(true);
    let mut removes = Transaction::begin(Arc::clone(&backend)).unwrap();
    for key in ["l/b", "l/e"] {
        removes.delete(key).unwrap();
    }
    removes.commit().await.unwrap();
    for limit in 1..6 {
        let mut lists = Transaction::begin(Arc::clone(&backend)).unwrap();
        let keys = lists.list("l/", limit).await.unwrap();
        let first: Vec<_> = ["l/a", "l/c", "l/d"].into_iter().take(limit).collect();
        assert_eq!(keys, first);
        lists.put(&format!("own/{limit}"), "", plain()).unwrap();
        lists.commit().await.unwrap();
    }
    assert_eq!(log.figures().pending, 6);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_transaction_before_it() {
    let (store, log, backend) = held(1).await;
    backend.put("k", "0".into(), plain()).await.unwrap();
    store.hold(true);
    let mut transaction = Transaction::begin(Arc::clone(&backend)).unwrap();
    transaction.put("k", "1", plain()).unwrap();
    let version = transaction.commit().await.unwrap().versions["k"];
    assert_eq!(backend.head("k").await.unwrap().unwrap().version, version);
    let part = backend
        .read("k", ReadOptions { range: Some(0..9), condition: Condition::IfMatch(version) })
        .await;
    assert_eq!(part.unwrap().unwrap().value, "1");
    let refused = ReadOptions { condition: Condition::IfNoneMatch(version), range: None };
    let refused = backend.read("k", refused).await.unwrap_err();
    assert!(matches!(refused, StorageError::PreconditionFailed(_)), "{refused}");

    // As long as its backend takes nothing, writes end in an error that says so.
    let error = backend.put("k", "2".into(), plain()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.detail().key.as_deref(), Some("k"));
    let body = Box::pin(futures_util::stream::iter([Ok(Bytes::from("2"))]));
    let error = backend.put_stream("k", body, plain()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let other = backend.put("other", "2".into(), plain()).await.unwrap_err();
    assert_eq!(other.detail().message, "held", "other keys are not waited for");

    let writer = {
        let backend = Arc::clone(&backend);
        let condition = Condition::IfMatch(version);
        tokio::spawn(async move {
            backend.put("k", "3".into(), StorageOptions { condition, ..plain() }).await
        })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!writer.is_finished());
    store.hold(false);
    let after = writer.await.unwrap().unwrap();
    assert!(after > version);
    assert_eq!(log.figures().pending, 0);
    assert!(log.figures().retries > 0);
    assert_eq!(backend.get("k").await.unwrap().unwrap(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_greater_version_of_another_process_stays() {
    let (store, log, backend) = held(1).await;
    store.hold(true);
    let mut transaction = Transaction::begin(Arc::clone(&backend)).unwrap();
    for key in ["put", "removed"] {
        transaction.put(key, "ours", plain()).unwrap();
    }
    transaction.commit().await.unwrap();
    let later = Version::from_u64(1_800_000_000_000 << 16);
    for key in ["put", "removed"] {
        let theirs = StorageOptions { version: Some(later), ..plain() };
        store.inner.put(key, "theirs".into(), theirs).await.unwrap();
    }
    store.hold(false);
    applied(&log).await;
    assert_eq!(log.figures().overtaken, 2);
    assert_eq!(backend.get("put").await.unwrap().unwrap(), "theirs");
}

#[tokio::test(start_paused = true)]
async fn a_removal_and_an_expiry_replace_what_was_there() {
    let (store, log, backend) = held(1).await;
    for key in ["expires", "goes"] {
        backend.put(key, "old".into(), plain()).await.unwrap();
    }
    store.hold(true);
    let mut transaction = Transaction::begin(Arc::clone(&backend)).unwrap();
    let past = StorageOptions { expires_at_ms: Some(1_600_000_000_000), ..plain() };
    transaction.put("expires", "new", past).unwrap();
    transaction.delete("goes").unwrap();
    transaction.commit().await.unwrap();
    for key in ["expires", "goes"] {
        assert_eq!(backend.get(key).await.unwrap(), None);
    }
    store.hold(false);
    applied(&log).await;
    assert_eq!(store.inner.list_keys("", 9).await.unwrap(), Vec::<String>::new());
}

/// What comes of commits on the log's engine.
#[derive(Debug, Clone, Copy)]
enum Commits {
    /// They are answered long after they took effect.
    Late,
    /// Nobody knows whether they took effect.
    Unsure,
}

#[derive(Debug)]
struct OddEngine(Arc<dyn TransactionEngine>, Commits);

#[async_trait]
impl TransactionEngine for OddEngine {
    fn identity(&self) -> usize {
        self.0.identity()
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        match self.1 {
            Commits::Late => {
                let results = self.0.commit(parts).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                results
            }
            Commits::Unsure => Err(StorageError::timeout("no answer came")),
        }
    }
}

#[derive(Debug)]
struct OddHome(MemoryBackend, Commits);

#[async_trait]
impl StorageBackend for OddHome {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.0.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.0.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.0.remove(key, condition).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        StorageBackend::namespace(&self.0, name).await
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(OddEngine(self.0.transaction_engine()?, self.1)))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.0.prepare(part).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_sees_what_is_written_on_the_logs_engine_sees_the_rest() {
    let memory = MemoryBackend::with_env(1 << 20, env(1));
    let home: Arc<dyn StorageBackend> = Arc::new(OddHome(memory.clone(), Commits::Late));
    let log = TransactionLog::open(Arc::clone(&home), env(1)).await.unwrap();
    let backend = log.around("n", Arc::new(Held::new(1)));
    let part = |namespace: &str| TransactionPart {
        namespace: namespace.to_owned(),
        operations: vec![BatchOperation::Put {
            key: "k".to_owned(),
            value: "new".into(),
            options: plain(),
        }],
        listed: vec![],
    };
    let parts = vec![(home, part("default")), (Arc::clone(&backend), part("n"))];
    let commit = tokio::spawn(crate::transaction::commit(parts));
    while memory.get("k").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(!commit.is_finished());
    let seen = ListOptions::default();
    assert_eq!(backend.list(seen).await.unwrap().entries.len(), 1);
    assert_eq!(backend.get("k").await.unwrap().unwrap(), "new");
    commit.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_committed_is_not_served() {
    let home = Arc::new(OddHome(MemoryBackend::with_env(1 << 20, env(1)), Commits::Unsure));
    let log = TransactionLog::open(home, env(1)).await.unwrap();
    let backend = log.around("n", Arc::new(Held::new(1)));
    backend.put("k", "old".into(), plain()).await.unwrap();
    let mut transaction = Transaction::begin(Arc::clone(&backend)).unwrap();
    transaction.put("k", "new", plain()).unwrap();
    assert!(matches!(transaction.commit().await, Err(StorageError::Timeout(_))));
    for error in [
        backend.get("k").await.unwrap_err(),
        backend.put("k", "newer".into(), plain()).await.unwrap_err(),
        backend.list(ListOptions::default()).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
        assert_eq!(error.detail().key.as_deref(), Some("k"));
    }
    backend.put("other", "new".into(), plain()).await.unwrap();
}

#[tokio::test]
async fn a_part_answers_its_operations_in_order() {
    let (_, _, backend) = held(1).await;
    let old = backend.put("a", "old".into(), plain()).await.unwrap();
    let get = |key: &str| BatchOperation::Get { key: key.to_owned() };
    let put = |key: &str, options| BatchOperation::Put {
        key: key.to_owned(),
        value: "new".into(),
        options,
    };
    let part = |operations| TransactionPart { namespace: "n".into(), operations, listed: vec![] };
    let operations = vec![
        get("a"),
        put("a", StorageOptions { condition: Condition::IfMatch(old), ..plain() }),
        get("a"),
        BatchOperation::delete("a"),
        get("a"),
        BatchOperation::Check { key: "b".into(), condition: Condition::IfAbsent },
        put("b", plain()),
    ];
    let prepared = crate::transaction::commit(vec![(Arc::clone(&backend), part(operations))]).await;
    let results = prepared.unwrap().remove(0);
    let value = |result: &BatchResult| match result {
        BatchResult::Value(found) => found.as_ref().map(|found| found.value.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(&results[0]).unwrap(), "old");
    assert_eq!(value(&results[2]).unwrap(), "new");
    assert_eq!(value(&results[4]), None);
    assert!(matches!(results[6], BatchResult::Success { version: Some(_) }));
    assert_eq!(backend.get("a").await.unwrap(), None);
    assert_eq!(backend.get("b").await.unwrap().unwrap(), "new");

    let behind = put("b", StorageOptions { version: Some(old), ..plain() });
    for (operation, kind) in [
        (behind, "conflict"),
        (
            put("b", StorageOptions { condition: Condition::IfAbsent, ..plain() }),
            "precondition_failed",
        ),
        (put("", plain()), "invalid_input"),
    ] {
        let refused = crate::transaction::commit(vec![(
            Arc::clone(&backend),
            part(vec![put("c", plain()), operation]),
        )]);
        let error = refused.await.unwrap_err();
        assert_eq!((error.code(), error.detail().namespace.as_deref()), (kind, Some("n")));
        assert!(!backend.exists("c").await.unwrap(), "nothing was written");
    }
}

//! Transactions over the client: what policies put around a namespace is around them too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sira_store::cache::{CacheOptions, CachePolicy};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::lock::LockOptions;
use sira_store::placement::Catalog;
use sira_store::seal::Keyring;
use sira_store::transaction::{Committed, TransactionOptions, TransactionPart};
use sira_store::{
    BatchOperation, BatchResult, CompressionType, Condition, Durability, EncryptionType,
    MemoryBackend, StorageBackend, StorageClient, StorageError, StorageOptions, Transaction,
    Version,
};

fn plain() -> StorageOptions {
    StorageOptions::default()
}

/// A client over memory, with a namespace that is cached and sealed.
fn client() -> (Arc<MemoryBackend>, StorageClient) {
    let memory = Arc::new(MemoryBackend::new(64 << 20));
    (Arc::clone(&memory), over(memory))
}

fn over(backend: Arc<dyn StorageBackend>) -> StorageClient {
    let policy = NamespacePolicy {
        compression: Some(CompressionType::Zstd),
        encryption: Some(EncryptionType::Aes256Gcm { key_id: String::new() }),
        cache: Some(CacheOptions {
            policy: CachePolicy { memory_bytes: Some(1 << 20), ..CachePolicy::default() },
            ..CacheOptions::default()
        }),
        ..NamespacePolicy::default()
    };
    let client = StorageClient::new();
    let plan = StoragePlan {
        backends: [("one".to_owned(), backend)].into(),
        default_backend: Some("one".to_owned()),
        keyring: Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap()),
        namespaces: [("sealed".to_owned(), policy)].into(),
        ..StoragePlan::default()
    };
    client.apply(plan).unwrap();
    client
}

async fn count(transaction: &mut Transaction, key: &str) -> sira_store::Result<u64> {
    let held = transaction.get(key).await?;
    let text = held.map(|held| String::from_utf8(held.to_vec()).unwrap());
    Ok(text.map_or(0, |text| text.parse().unwrap()))
}

async fn transfers(client: StorageClient) {
    const TASKS: u64 = 8;
    const EACH: u64 = 20;
    for account in ["a", "b"] {
        client.store(account, "1000", plain()).await.unwrap();
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let (from, to) = if task % 4 == 0 { ("b", "a") } else { ("a", "b") };
                    let done = client.transact(move |transaction| {
                        Box::pin(async move {
                            let (have, other) =
                                (count(transaction, from).await?, count(transaction, to).await?);
                            let done = count(transaction, "done").await? + 1;
                            transaction.put(from, (have - 1).to_string(), plain())?;
                            transaction.put(to, (other + 1).to_string(), plain())?;
                            transaction.put("done", done.to_string(), plain())
                        })
                    });
                    done.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut last = client.begin().await.unwrap();
    let sum = count(&mut last, "a").await.unwrap() + count(&mut last, "b").await.unwrap();
    assert_eq!((sum, count(&mut last, "done").await.unwrap()), (2000, TASKS * EACH));
    assert_eq!(last.commit().await.unwrap(), Committed::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_transfer_is_lost() {
    transfers(client().1.namespace("open")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_transfer_is_lost_between_cached_and_encrypted_objects() {
    let (memory, client) = client();
    transfers(client.namespace("sealed")).await;
    let stored = StorageBackend::namespace(&*memory, "sealed").await.unwrap();
    let stored = stored.get("a").await.unwrap().unwrap();
    assert!(!stored.iter().all(u8::is_ascii_digit), "it is encrypted");
}

#[tokio::test]
async fn what_cannot_be_one_step_is_refused() {
    let memory = Arc::new(MemoryBackend::new(64 << 20));
    let client = StorageClient::new();
    let plan = StoragePlan {
        backends: [("memory".to_owned(), memory as Arc<dyn StorageBackend>)].into(),
        default_backend: Some("memory".to_owned()),
        catalog: Some(Catalog::new(Arc::new(MemoryBackend::new(1 << 20))).unwrap()),
        ..StoragePlan::default()
    };
    client.apply(plan).unwrap();
    let refused = client.begin().await.unwrap_err();
    assert!(matches!(refused, StorageError::Unsupported(_)), "{refused}");

    let (_, client) = self::client();
    let mut transaction = client.begin().await.unwrap();
    let conditional = StorageOptions { condition: Condition::IfAbsent, ..plain() };
    assert!(matches!(transaction.put("k", "v", conditional), Err(StorageError::InvalidInput(_))));
    assert!(transaction.put("", "v", plain()).is_err());
    assert!(transaction.delete("").is_err());
    assert_eq!(transaction.commit().await.unwrap(), Committed::default());
}

#[tokio::test]
async fn a_reader_that_is_overtaken_is_told() {
    let (_, client) = client();
    client.store("k", "1", plain()).await.unwrap();
    let mut transaction = client.begin().await.unwrap();
    assert_eq!(count(&mut transaction, "k").await.unwrap(), 1);
    client.store("k", "2", plain()).await.unwrap();
    let error = transaction.get("k").await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(_)), "{error}");
    let error = transaction.commit().await.unwrap_err();
    assert_eq!((error.code(), error.detail().key.as_deref()), ("conflict", Some("k")));
}

async fn number(client: &StorageClient, namespace: &str) -> u64 {
    let held = client.namespace(namespace).retrieve("n").await.unwrap().unwrap();
    String::from_utf8(held.to_vec()).unwrap().parse().unwrap()
}

/// Moves numbers between a namespace that is cached and sealed and one that is not.
async fn moves(client: StorageClient) {
    const TASKS: u64 = 8;
    const EACH: u64 = 20;
    for namespace in ["sealed", "default"] {
        client.namespace(namespace).store("n", "1000", plain()).await.unwrap();
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let moved = client.transact(move |transaction| {
                        Box::pin(async move {
                            let by = if task % 4 == 0 { -1 } else { 1 };
                            let own = count(transaction, "n").await?.cast_signed();
                            transaction.put("n", (own - by).to_string(), plain())?;
                            let other = transaction.namespace("sealed").await?;
                            let held = other.get("n").await?.unwrap();
                            let held: i64 = std::str::from_utf8(&held).unwrap().parse().unwrap();
                            other.put("n", (held + by).to_string(), plain())
                        })
                    });
                    moved.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let here = 1000 - TASKS * EACH / 2;
    assert_eq!(
        (number(&client, "default").await, number(&client, "sealed").await),
        (here, 2000 - here)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_namespaces() {
    moves(client().1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_namespaces_of_the_embedded_engine() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let client = over(Arc::new(EmbeddedBackend::new(Arc::clone(&engine))));
    moves(client.clone()).await;
    // What was committed is there after another start.
    let sealed = number(&client, "sealed").await;
    let before = StoragePlan { backends: Default::default(), ..StoragePlan::clone(&client.plan()) };
    drop((client, engine));
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let client = StorageClient::new();
    let backend = Arc::new(EmbeddedBackend::new(engine)) as Arc<dyn StorageBackend>;
    let backends = [("one".to_owned(), backend)].into();
    client.apply(StoragePlan { backends, ..before }).unwrap();
    assert_eq!(number(&client, "sealed").await, sealed);
    assert_eq!(number(&client, "default").await, 2000 - sealed);
}

#[tokio::test]
async fn an_encrypted_write_overtakes_a_version_that_is_ahead() {
    let (_, client) = client();
    let sealed = client.namespace("sealed");
    let ahead =
        Version::from_u64(sealed.store("k", "old", plain()).await.unwrap().as_u64() + (9 << 16));
    let exact = StorageOptions { version: Some(ahead), ..plain() };
    sealed.store("k", "from a clock that is ahead", exact).await.unwrap();
    let mut both = client.begin().await.unwrap();
    both.put("k", "here", plain()).unwrap();
    both.namespace("sealed").await.unwrap().put("k", "there", plain()).unwrap();
    let committed = both.commit().await.unwrap();
    assert!(committed.elsewhere["sealed"]["k"] > ahead);
    assert_eq!(sealed.retrieve("k").await.unwrap().as_deref(), Some(&b"there"[..]));
    assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"here"[..]));
}

#[tokio::test]
async fn parts_are_one_step() {
    let (_, client) = client();
    let part = |namespace: &str, operations| TransactionPart {
        namespace: namespace.to_owned(),
        operations,
        listed: Vec::new(),
    };
    let put = |key: &str, condition| BatchOperation::Put {
        key: key.to_owned(),
        value: "v".into(),
        options: StorageOptions { condition, ..plain() },
    };
    let get = |key: &str| BatchOperation::Get { key: key.to_owned() };
    let parts = vec![
        part("default", vec![put("a", Condition::Always), get("a")]),
        part("sealed", vec![put("a", Condition::IfAbsent), get("a")]),
    ];
    let results = client.commit(parts.clone()).await.unwrap();
    for results in &results {
        let [BatchResult::Success { version: Some(_) }, BatchResult::Value(Some(read))] =
            &results[..]
        else {
            panic!("{results:?}");
        };
        assert_eq!(read.value, "v");
    }
    let before = client.retrieve_object("a", Default::default()).await.unwrap().unwrap();
    let error = client.commit(parts).await.unwrap_err();
    let detail = error.detail();
    assert!(matches!(error, StorageError::PreconditionFailed(_)), "{error}");
    assert_eq!((detail.namespace.as_deref(), detail.key.as_deref()), (Some("sealed"), Some("a")));
    let after = client.retrieve_object("a", Default::default()).await.unwrap().unwrap();
    assert_eq!(after.head.version, before.head.version);

    let twice = vec![part("sealed", vec![get("a")]), part("sealed", vec![get("a")])];
    assert!(matches!(client.commit(twice).await, Err(StorageError::InvalidInput(_))));
}

#[tokio::test]
async fn engines_are_not_mixed() {
    let (_, client) = client();
    let other = Arc::new(MemoryBackend::new(1 << 20)) as Arc<dyn StorageBackend>;
    let mut plan = StoragePlan::clone(&client.plan());
    plan.backends.insert("other".to_owned(), other);
    plan.namespaces.insert("far".to_owned(), NamespacePolicy::on("other"));
    client.apply(plan).unwrap();
    let mut transaction = client.begin().await.unwrap();
    transaction.put("k", "v", plain()).unwrap();
    let error = transaction.namespace("far").await.unwrap_err();
    assert_eq!((error.code(), error.detail().namespace.as_deref()), ("unsupported", Some("far")));
    // What it was before goes on.
    assert!(transaction.commit().await.unwrap().versions.contains_key("k"));
}

/// Tasks that count up one key, and how often that was tried.
async fn counted(locks: Option<LockOptions>, for_update: bool) -> (u64, u64) {
    const TASKS: u64 = 8;
    const EACH: u64 = 25;
    let (_, client) = client();
    let tried = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (client, tried) = (client.clone(), Arc::clone(&tried));
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let tried = Arc::clone(&tried);
                    let counted =
                        client.transact_with(TransactionOptions { locks }, |transaction| {
                            let tried = Arc::clone(&tried);
                            Box::pin(async move {
                                tried.fetch_add(1, Ordering::Relaxed);
                                let held = match for_update {
                                    true => transaction.get_for_update("n").await?,
                                    false => transaction.get("n").await?,
                                };
                                let held = held.map_or(0, |held| held.len());
                                tokio::task::yield_now().await;
                                transaction.put("n", vec![b'|'; held + 1], plain())
                            })
                        });
                    counted.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(client.locks().locks(), [], "locks end with their transactions");
    let counted = client.retrieve("n").await.unwrap().unwrap().len() as u64;
    assert_eq!(counted, TASKS * EACH);
    (counted, tried.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn locks_keep_others_from_overtaking() {
    let locks = Some(LockOptions::default());
    let (counted, tried) = self::counted(locks, true).await;
    assert_eq!(tried, counted, "nobody was overtaken");
    // Who reads first and then writes may wait in a circle, and gets through all the same.
    self::counted(locks, false).await;
    self::counted(None, true).await;
}

#[tokio::test]
async fn a_locked_key_is_waited_for() {
    let (_, client) = client();
    let locks = LockOptions { wait: Duration::from_millis(5), lease: None };
    let options = TransactionOptions { locks: Some(locks) };
    let mut holds = client.begin_with(options).await.unwrap();
    holds.get_for_update("k").await.unwrap();
    let mut waits = client.begin_with(options).await.unwrap();
    let error = waits.get("k").await.unwrap_err();
    assert!(matches!(error, StorageError::Locked(_)), "{error}");
    // A write waits when it commits, and in other namespaces too.
    waits.put("k", "v", plain()).unwrap();
    assert!(matches!(waits.commit().await, Err(StorageError::Locked(_))));
    let mut elsewhere = client.begin_with(options).await.unwrap();
    let sealed = elsewhere.namespace("sealed").await.unwrap();
    assert_eq!(sealed.get_for_update("k").await.unwrap(), None);
    assert_eq!(client.locks().figures().held, 2);
    holds.rollback();
    drop(elsewhere);
    assert_eq!(client.locks().figures().held, 0);
    let mut last = client.begin_with(options).await.unwrap();
    last.put("k", "v", plain()).unwrap();
    last.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_do_not_meet_never_fail() {
    const TASKS: u64 = 8;
    const EACH: u64 = 250;
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let client = over(Arc::new(EmbeddedBackend::new(engine)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                let lazily = || StorageOptions { durability: Some(Durability::None), ..plain() };
                for round in 0..EACH {
                    let mut transaction = client.begin().await.unwrap();
                    for key in 0..3 {
                        let key = format!("{task}/{key}");
                        let held = count(&mut transaction, &key).await.unwrap();
                        assert_eq!(held, round);
                        transaction.put(&key, (held + 1).to_string(), lazily()).unwrap();
                        let sealed = transaction.namespace("sealed").await.unwrap();
                        assert_eq!(sealed.exists(&key).await.unwrap(), round > 0);
                        sealed.put(&key, "there", lazily()).unwrap();
                    }
                    transaction.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

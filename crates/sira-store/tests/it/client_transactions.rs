//! Transactions over the client: what policies put around a namespace is around them too.

use std::sync::Arc;

use sira_store::cache::{CacheOptions, CachePolicy};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::placement::Catalog;
use sira_store::seal::Keyring;
use sira_store::{
    CompressionType, Condition, EncryptionType, MemoryBackend, StorageBackend, StorageClient,
    StorageError, StorageOptions, Transaction,
};

fn plain() -> StorageOptions {
    StorageOptions::default()
}

/// A client over one backend, with a namespace that is cached and sealed.
fn client() -> (Arc<MemoryBackend>, StorageClient) {
    let memory = Arc::new(MemoryBackend::new(64 << 20));
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
    let backends = [("memory".to_owned(), Arc::clone(&memory) as Arc<dyn StorageBackend>)];
    let plan = StoragePlan {
        backends: backends.into(),
        default_backend: Some("memory".to_owned()),
        keyring: Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap()),
        namespaces: [("sealed".to_owned(), policy)].into(),
        ..StoragePlan::default()
    };
    client.apply(plan).unwrap();
    (memory, client)
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
    assert!(last.commit().await.unwrap().is_empty());
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
    assert!(transaction.commit().await.unwrap().is_empty());
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

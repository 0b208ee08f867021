use std::time::Duration;

use async_trait::async_trait;
use pollster::block_on;

use super::*;
use crate::backend::Capabilities;
use crate::limits::KEY_BYTES_MAX;
use crate::memory::MemoryBackend;
use crate::metadata::Metadata;

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(1 << 20))
}

fn plain() -> StorageOptions {
    StorageOptions::default()
}

/// Does nothing beyond what the trait demands.
#[derive(Debug)]
struct Plain(MemoryBackend);

#[async_trait]
impl StorageBackend for Plain {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "plain",
            ttl: false,
            conditional: false,
            metadata: false,
            atomic_batch: false,
            namespaces: false,
            value_bytes_max: 100,
            ..self.0.capabilities()
        }
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
}

#[test]
fn without_a_backend_everything_says_so() {
    let client = StorageClient::new();
    assert_eq!(client.default_backend(), None);
    let error = block_on(client.store("k", "v", plain())).unwrap_err();
    assert!(matches!(error, StorageError::NotFound(_)));
    assert!(error.to_string().contains("register_backend"));
    assert!(matches!(block_on(client.retrieve("k")), Err(StorageError::NotFound(_))));
    assert!(matches!(block_on(client.health_check()), Err(StorageError::NotFound(_))));
}

#[test]
fn the_first_backend_is_the_default_until_another_is_chosen() {
    let client = StorageClient::new();
    client.register_backend("b", memory()).unwrap();
    client.register_backend("a", memory()).unwrap();
    assert_eq!(client.backends(), ["a", "b"]);
    assert_eq!(client.default_backend().as_deref(), Some("b"));
    let clone = client.clone();
    block_on(client.store("k", "in b", plain())).unwrap();
    client.set_default_backend("a").unwrap();
    assert_eq!(block_on(clone.retrieve("k")).unwrap(), None);
    assert!(block_on(client.backend("b").unwrap().exists("k")).unwrap());
    assert!(client.backend("c").is_none());
}

#[test]
fn names_are_taken_once_and_must_be_known() {
    let client = StorageClient::new();
    client.register_backend("a", memory()).unwrap();
    let taken = client.register_backend("a", memory()).unwrap_err();
    assert!(matches!(taken, StorageError::InvalidInput(_)));
    assert_eq!(taken.detail().backend.as_deref(), Some("a"));
    let empty = client.register_backend("", memory());
    assert!(matches!(empty, Err(StorageError::InvalidInput(_))));
    let unknown = client.set_default_backend("b").unwrap_err();
    assert!(matches!(unknown, StorageError::NotFound(_)));
    assert!(unknown.to_string().contains("[a]"), "{unknown}");
}

#[test]
fn scopes_keep_keys_apart_and_follow_the_default() {
    let client = StorageClient::new();
    client.register_backend("a", memory()).unwrap();
    client.register_backend("b", memory()).unwrap();
    let (x, y) = (client.namespace("x"), client.namespace("x").namespace("y"));
    block_on(async {
        client.store("k", "whole", plain()).await.unwrap();
        x.store("k", "x", plain()).await.unwrap();
        assert_eq!(y.retrieve("k").await.unwrap(), None);
        assert_eq!(x.clone().retrieve("k").await.unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(client.retrieve("k").await.unwrap().as_deref(), Some(&b"whole"[..]));
        client.set_default_backend("b").unwrap();
        assert_eq!(x.retrieve("k").await.unwrap(), None);
        let nameless = client.namespace("").retrieve("k").await.unwrap_err();
        assert!(matches!(nameless, StorageError::InvalidInput(_)));
    });
}

#[test]
fn what_a_backend_does_not_declare_is_refused_before_it_is_tried() {
    let client = StorageClient::new();
    client.register_backend("plain", Arc::new(Plain(MemoryBackend::new(1 << 20)))).unwrap();
    let expiring = StorageOptions { ttl: Some(Duration::from_secs(1)), ..plain() };
    let conditional = StorageOptions { condition: Condition::IfAbsent, ..plain() };
    let metadata = Metadata { content_type: Some("a/b".into()), ..Metadata::default() };
    let described = StorageOptions { metadata, ..plain() };
    block_on(async {
        for options in [expiring, conditional, described] {
            let single = client.store("k", "v", options.clone()).await.unwrap_err();
            assert!(matches!(single, StorageError::Unsupported(_)), "{single}");
            assert_eq!(single.detail().backend.as_deref(), Some("plain"));
            let put = |key: &str, options| BatchOperation::Put {
                key: key.into(),
                value: "v".into(),
                options,
            };
            let batch = client.batch(vec![put("l", plain()), put("k", options)]).await;
            assert!(matches!(batch, Err(StorageError::Unsupported(_))));
        }
        assert!(!client.exists("l").await.unwrap());
        let large = client.store("k", vec![0; 101], plain()).await;
        assert!(matches!(large, Err(StorageError::TooLarge(_))));
        let long = client.store(&"k".repeat(KEY_BYTES_MAX + 1), "v", plain()).await;
        assert!(matches!(long, Err(StorageError::TooLarge(_))));
        let inside = client.namespace("x").store("k", "v", plain()).await;
        assert!(matches!(inside, Err(StorageError::Unsupported(_))));
        client.store("k", "v", plain()).await.unwrap();
        assert!(client.exists("k").await.unwrap());
    });
}

#[test]
fn errors_name_the_backend_and_debug_shows_no_values() {
    let client = StorageClient::new();
    client.register_backend("small", Arc::new(MemoryBackend::new(3))).unwrap();
    let error = block_on(client.store("key", "value", plain())).unwrap_err();
    assert!(matches!(error, StorageError::OutOfSpace(_)));
    assert_eq!(error.detail().backend.as_deref(), Some("small"));
    let shown = format!("{:?}", client.namespace("n"));
    assert!(shown.contains("small") && shown.contains('n'), "{shown}");
}

use super::*;
use crate::embedded::{EmbeddedBackend, Engine, EngineOptions};
use crate::memory::MemoryBackend;

fn exercise<B: StorageBackend + ?Sized>(store: &Blocking<B>) {
    let version = store.put("k", "hello", StorageOptions::default()).unwrap();
    assert_eq!(store.get("k").unwrap(), Some(Bytes::from("hello")));
    assert_eq!(store.head("k").unwrap().unwrap().version, version);
    assert_eq!(store.list_keys("", 10).unwrap(), ["k"]);
    assert!(!store.namespace("other").unwrap().exists("k").unwrap());
    store.flush().unwrap();
    assert!(store.remove("k", Condition::IfMatch(version)).unwrap());
    assert!(!store.exists("k").unwrap());
}

#[test]
fn engines_in_process_need_no_runtime() {
    assert!(tokio::runtime::Handle::try_current().is_err());
    exercise(&Blocking::new(MemoryBackend::new(1 << 20)));
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let store: Arc<dyn StorageBackend> = Arc::new(EmbeddedBackend::new(engine));
    exercise(&Blocking::from(store));
}

#[test]
fn the_client_blocks_too() {
    let client = StorageClient::new();
    client.register_backend("memory", Arc::new(MemoryBackend::new(1 << 20))).unwrap();
    let client = client.blocking();
    client.store("k", "v", StorageOptions::default()).unwrap();
    assert_eq!(client.retrieve("k").unwrap(), Some(Bytes::from("v")));
    assert_eq!(client.namespace("n").retrieve("k").unwrap(), None);
    assert_eq!(client.health_check().unwrap(), HealthStatus::Healthy);
    assert_eq!(client.stats().unwrap().keys, 1);
    assert!(client.delete("k").unwrap());
}

use std::collections::BTreeMap;
use std::sync::Arc;

use pollster::block_on;

use super::*;
use crate::memory::MemoryBackend;

#[test]
fn shorthands_work_on_trait_objects() {
    let store: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1 << 20));
    block_on(async {
        let version = store.put_bytes("k", "hello").await.unwrap();
        assert_eq!(store.get_range("k", 1..3).await.unwrap().as_deref(), Some(&b"el"[..]));
        assert_eq!(store.get_range("absent", 1..3).await.unwrap(), None);
        assert!(!store.compare_and_delete("k", Version::from_u64(1)).await.unwrap());
        assert!(store.compare_and_delete("k", version).await.unwrap());
        assert!(!store.compare_and_delete("k", version).await.unwrap());
        store.put_for("k", "soon gone", Duration::from_secs(60)).await.unwrap();
        assert!(store.head("k").await.unwrap().unwrap().expires_at_ms.is_some());
    });
}

#[test]
fn json_round_trips_and_names_its_type() {
    let store = MemoryBackend::new(1 << 20);
    let item = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]);
    block_on(async {
        store.put_json("k", &item).await.unwrap();
        assert_eq!(store.get_json("k").await.unwrap(), Some(item));
        let head = store.head("k").await.unwrap().unwrap();
        assert_eq!(head.metadata.content_type.as_deref(), Some("application/json"));
        assert_eq!(store.get_json::<u32>("absent").await.unwrap(), None);
        let wrong = store.get_json::<u32>("k").await.unwrap_err();
        assert!(matches!(wrong, StorageError::InvalidInput(_)));
        store.put_bytes("k", &b"\xFF"[..]).await.unwrap();
        assert!(matches!(store.get_string("k").await, Err(StorageError::InvalidInput(_))));
    });
}

#[test]
fn other_errors_are_not_taken_for_a_lost_race() {
    let store = MemoryBackend::new(4);
    let refused = block_on(store.put_if_absent("k", "too large"));
    assert!(matches!(refused, Err(StorageError::OutOfSpace(_))));
}

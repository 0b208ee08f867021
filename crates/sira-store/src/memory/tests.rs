use std::time::Duration;

use pollster::block_on;

use super::*;
use crate::env::SimEnv;
use crate::metadata::Metadata;

const T0: u64 = 1_700_000_000_000;

fn backend(max_size: u64) -> (Arc<SimEnv>, MemoryBackend) {
    let env = Arc::new(SimEnv::new(1, T0));
    (Arc::clone(&env), MemoryBackend::with_env(max_size, env))
}

fn put(backend: &MemoryBackend, key: &str, bytes: usize) -> Result<Version> {
    block_on(backend.put(key, vec![7; bytes].into(), StorageOptions::default()))
}

fn put_for(backend: &MemoryBackend, key: &str, bytes: usize, ttl_ms: u64) -> Result<Version> {
    let ttl = Some(Duration::from_millis(ttl_ms));
    let options = StorageOptions { ttl, ..StorageOptions::default() };
    block_on(backend.put(key, vec![7; bytes].into(), options))
}

fn bytes(backend: &MemoryBackend) -> u64 {
    block_on(backend.stats()).unwrap().live_bytes
}

fn full<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(StorageError::OutOfSpace(_)))
}

#[test]
fn the_limit_counts_keys_values_and_metadata_to_the_byte() {
    let (_, store) = backend(100);
    put(&store, "key", 97).unwrap();
    assert_eq!(bytes(&store), 100);
    assert!(full(put(&store, "k", 0)));
    assert!(full(put(&store, "key", 98)));
    put(&store, "key", 90).unwrap();
    put(&store, "k", 6).unwrap();
    assert!(full(put(&store, "k", 7)));
    assert!(block_on(store.delete("key")).unwrap());
    assert_eq!(bytes(&store), 7);

    let metadata = Metadata { content_type: Some("x".repeat(60)), ..Metadata::default() };
    let encoded = metadata.encode().unwrap().len() as u64;
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    block_on(store.put("m", Bytes::new(), options.clone())).unwrap();
    assert_eq!(bytes(&store), 7 + 1 + encoded);
    assert!(full(block_on(store.put("n", vec![0; 40].into(), options))));
}

#[test]
fn a_refused_write_changes_nothing() {
    let (_, store) = backend(50);
    let version = put(&store, "a", 30).unwrap();
    assert!(full(put(&store, "a", 60)));
    let held = block_on(store.read("a", ReadOptions::default())).unwrap().unwrap();
    assert_eq!((held.head.version, held.value.len()), (version, 30));
    assert_eq!(bytes(&store), 31);
}

#[test]
fn expired_objects_make_room_before_a_write_is_refused() {
    let (env, store) = backend(100);
    for i in 0..5 {
        put_for(&store, &format!("{i}"), 19, 10 + i).unwrap();
    }
    assert!(full(put(&store, "x", 19)));
    env.advance_ms(9);
    assert!(full(put(&store, "x", 19)));
    env.advance_ms(1);
    put(&store, "x", 19).unwrap();
    assert!(full(put(&store, "y", 39)));
    env.advance_ms(2);
    put(&store, "y", 39).unwrap();
    assert_eq!(block_on(store.list_keys("", 10)).unwrap(), ["3", "4", "x", "y"]);
}

#[test]
fn expiry_is_exact_to_the_millisecond() {
    let (env, store) = backend(100);
    put_for(&store, "k", 1, 10).unwrap();
    env.advance_ms(9);
    assert!(block_on(store.exists("k")).unwrap());
    assert_eq!(block_on(store.list_keys("", 1)).unwrap(), ["k"]);
    env.advance_ms(1);
    assert!(!block_on(store.exists("k")).unwrap());
    assert!(block_on(store.list_keys("", 1)).unwrap().is_empty());
    assert!(!block_on(store.delete("k")).unwrap());
}

#[test]
fn a_later_write_sets_the_expiry_anew() {
    let (env, store) = backend(100);
    put_for(&store, "a", 1, 10).unwrap();
    put(&store, "a", 2).unwrap();
    put_for(&store, "b", 1, 10).unwrap();
    put_for(&store, "b", 2, 30).unwrap();
    put_for(&store, "c", 1, 30).unwrap();
    put_for(&store, "c", 2, 30).unwrap();
    env.advance_ms(20);
    // Collects what has expired.
    assert_eq!(block_on(store.stats()).unwrap().keys, 3);
    env.advance_ms(20);
    assert_eq!(block_on(store.stats()).unwrap().keys, 1);
    assert_eq!(bytes(&store), 3);
    assert!(block_on(store.exists("a")).unwrap());
}

#[test]
fn writing_collects_expired_objects() {
    let (env, store) = backend(1 << 20);
    for i in 0..1_000 {
        put_for(&store, &format!("old{i}"), 10, 5).unwrap();
    }
    env.advance_ms(5);
    for i in 0..500 {
        put(&store, &format!("new{i}"), 10).unwrap();
    }
    assert_eq!(store.shared.state.read().keys(), 500);
}

#[test]
fn namespaces_share_the_limit_and_drop_whole() {
    let (_, store) = backend(40);
    let other = block_on(store.namespace("other")).unwrap();
    put(&store, "k", 9).unwrap();
    let options = StorageOptions { ttl: Some(Duration::from_secs(1)), ..StorageOptions::default() };
    block_on(other.put("k", vec![1; 29].into(), options)).unwrap();
    assert!(full(put(&store, "l", 0)));
    assert_eq!(store.namespaces(), ["default", "other"]);
    assert!(store.drop_namespace("other"));
    assert!(!store.drop_namespace("other"));
    assert_eq!(bytes(&store), 10);
    assert!(store.shared.state.read().is_consistent());
    assert_eq!(block_on(other.get("k")).unwrap(), None);
}

#[test]
fn a_batch_that_does_not_fit_is_refused_whole() {
    let (_, store) = backend(30);
    put(&store, "old", 20).unwrap();
    let put = |key: &str, bytes: usize| BatchOperation::Put {
        key: key.into(),
        value: vec![1; bytes].into(),
        options: StorageOptions::default(),
    };
    let delete = |key: &str| BatchOperation::Delete { key: key.into() };
    assert!(full(block_on(store.batch(vec![put("a", 5), put("b", 5)]))));
    assert_eq!(block_on(store.list_keys("", 10)).unwrap(), ["old"]);
    // What counts is the whole: the removal makes room, wherever it stands.
    block_on(store.batch(vec![put("a", 14), put("b", 14), delete("old")])).unwrap();
    assert_eq!(bytes(&store), 30);
    assert!(store.shared.state.read().is_consistent());
}

#[test]
fn a_small_value_does_not_hold_a_large_buffer() {
    let (_, store) = backend(1 << 20);
    let large = Bytes::from(vec![0; 1 << 19]);
    block_on(store.put("k", large.slice(0..10), StorageOptions::default())).unwrap();
    assert!(large.is_unique());
}

#[test]
fn a_nearly_full_store_warns() {
    let (env, store) = backend(1_000);
    put(&store, "k", 949).unwrap();
    assert_eq!(block_on(store.health_check()), HealthStatus::Healthy);
    put_for(&store, "t", 9, 5).unwrap();
    assert!(matches!(block_on(store.health_check()), HealthStatus::Warning(_)));
    env.advance_ms(5);
    assert_eq!(block_on(store.health_check()), HealthStatus::Healthy);
}

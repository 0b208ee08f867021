use std::collections::BTreeMap;
use std::time::Duration;

use pollster::block_on;
use proptest::prelude::*;

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
    let delete = |key: &str| BatchOperation::delete(key);
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

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, bytes: usize, ttl_ms: Option<u64> },
    Delete { key: u8 },
    Batch(Vec<(u8, Option<usize>)>),
    Advance { by_ms: u64 },
    DropNamespace,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_u8;
    prop_oneof![
        6 => (key.clone(), 0..40_usize, proptest::option::of(1..20_u64))
            .prop_map(|(key, bytes, ttl_ms)| Step::Put { key, bytes, ttl_ms }),
        2 => key.clone().prop_map(|key| Step::Delete { key }),
        2 => proptest::collection::vec((key, proptest::option::of(0..40_usize)), 0..5)
            .prop_map(Step::Batch),
        2 => (1..15_u64).prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::DropNamespace),
    ]
}

/// Size and expiry of what each key holds.
type Model = BTreeMap<u8, (usize, Option<u64>)>;

fn model_bytes(model: &Model) -> usize {
    model.values().map(|(bytes, _)| bytes + 1).sum()
}

proptest! {
    #[test]
    fn any_history_agrees_with_a_model(steps in proptest::collection::vec(step(), 1..80)) {
        const LIMIT: usize = 100;
        let (env, store) = backend(LIMIT as u64);
        let mut model = Model::new();
        for step in steps {
            let now_ms = env.now_ms();
            model.retain(|_, (_, at)| at.is_none_or(|at| at > now_ms));
            let mut after = model.clone();
            match step {
                Step::Put { key, bytes, ttl_ms } => {
                    after.insert(key, (bytes, ttl_ms.map(|ttl_ms| now_ms + ttl_ms)));
                    let name = key.to_string();
                    let result = match ttl_ms {
                        Some(ttl_ms) => put_for(&store, &name, bytes, ttl_ms),
                        None => put(&store, &name, bytes),
                    };
                    prop_assert_eq!(result.is_ok(), model_bytes(&after) <= LIMIT);
                }
                Step::Delete { key } => {
                    let there = block_on(store.delete(&key.to_string())).unwrap();
                    prop_assert_eq!(there, after.remove(&key).is_some());
                }
                Step::Batch(changes) => {
                    let mut operations = Vec::new();
                    for (key, bytes) in changes {
                        let name = key.to_string();
                        operations.push(match bytes {
                            Some(bytes) => {
                                after.insert(key, (bytes, None));
                                let options = StorageOptions::default();
                                let value = vec![0; bytes].into();
                                BatchOperation::Put { key: name, value, options }
                            }
                            None => {
                                after.remove(&key);
                                BatchOperation::delete(name)
                            }
                        });
                    }
                    let fits = model_bytes(&after) <= LIMIT;
                    prop_assert_eq!(block_on(store.batch(operations)).is_ok(), fits);
                }
                Step::Advance { by_ms } => env.advance_ms(by_ms),
                Step::DropNamespace => {
                    store.drop_namespace("default");
                    after.clear();
                }
            }
            if model_bytes(&after) <= LIMIT {
                model = after;
            }
            let now_ms = env.now_ms();
            model.retain(|_, (_, at)| at.is_none_or(|at| at > now_ms));
            prop_assert!(store.shared.state.read().is_consistent());
            let expected: Vec<_> = model.keys().map(u8::to_string).collect();
            prop_assert_eq!(block_on(store.list_keys("", 100)).unwrap(), expected);
            for (key, (bytes, at)) in &model {
                let head = block_on(store.head(&key.to_string())).unwrap().unwrap();
                prop_assert_eq!((head.size, head.expires_at_ms), (*bytes as u64, *at));
            }
        }
        prop_assert_eq!(bytes(&store), model_bytes(&model) as u64);
    }
}

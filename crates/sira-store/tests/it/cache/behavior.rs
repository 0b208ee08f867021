//! What the cache asks of its primary, and when.

use std::sync::Arc;
use std::time::Duration;

use sira_store::cache::{
    CacheBackend, CacheOptions, CachePolicy, DiskTierOptions, HotKeysPlace, RemoteTierOptions,
    WarmUpOptions,
};
use sira_store::env::{Env, SimEnv};
use sira_store::{
    BatchOperation, BatchResult, Condition, ConsistencyLevel, MemoryBackend, ReadOptions,
    StorageBackend, StorageBackendExt, StorageError, StorageOptions,
};

use super::probe::Probe;
use super::{exclusive, memory, over, with_policy};

fn probed(policy: CachePolicy) -> (Probe, CacheBackend) {
    let probe = Probe::new(memory());
    let cache = over(Arc::new(probe.clone()), with_policy(policy));
    (probe, cache)
}

/// A cache and its primary on one simulated clock.
fn timed(policy: CachePolicy) -> (Arc<SimEnv>, Probe, CacheBackend) {
    let env = Arc::new(SimEnv::new(1, 1_000_000));
    let primary = MemoryBackend::with_env(1 << 30, env.clone());
    let probe = Probe::new(Arc::new(primary));
    let options = CacheOptions { env: env.clone(), ..with_policy(policy) };
    let cache = over(Arc::new(probe.clone()), options);
    (env, probe, cache)
}

fn ranged(range: std::ops::Range<u64>) -> ReadOptions {
    ReadOptions { range: Some(range), ..ReadOptions::default() }
}

#[tokio::test]
async fn hits_ask_nobody_where_all_writes_come_through() {
    let (probe, cache) = probed(exclusive());
    probe.put_bytes("k", "v").await.unwrap();
    for _ in 0..10 {
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
        assert!(cache.exists("k").await.unwrap());
    }
    assert_eq!((probe.count(&probe.reads), probe.count(&probe.heads)), (1, 0));
    // A write leaves its own bytes behind.
    cache.put_bytes("k", "w").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("w"));
    assert_eq!(probe.count(&probe.reads), 1);
    let stats = cache.cache_stats();
    assert_eq!((stats.loads, stats.memory_hits), (1, 20));
}

#[tokio::test]
async fn strong_hits_are_confirmed_and_see_other_writers() {
    let (probe, cache) = probed(CachePolicy::default());
    probe.put_bytes("k", "v").await.unwrap();
    for _ in 0..3 {
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    }
    assert_eq!((probe.count(&probe.reads), probe.count(&probe.heads)), (1, 2));
    probe.put_bytes("k", "w").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("w"));
    probe.delete("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    probe.put_bytes("k", "x").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("x"));
    assert_eq!(cache.cache_stats().outdated, 2);
}

#[tokio::test]
async fn eventual_reads_are_as_old_as_agreed() {
    let policy = CachePolicy {
        consistency: ConsistencyLevel::Eventual,
        max_staleness: Duration::from_secs(5),
        ..CachePolicy::default()
    };
    let (env, probe, cache) = timed(policy);
    probe.put_bytes("k", "v").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    probe.put_bytes("k", "w").await.unwrap();
    env.advance_ms(5_000);
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    env.advance_ms(1);
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("w"));
    // Confirmed once, good for as long again.
    env.advance_ms(5_001);
    cache.get("k").await.unwrap();
    env.advance_ms(5_000);
    let asked = probe.count(&probe.heads) + probe.count(&probe.reads);
    cache.get("k").await.unwrap();
    assert_eq!(probe.count(&probe.heads) + probe.count(&probe.reads), asked);
    // Our own writes are seen at once.
    cache.put_bytes("k", "x").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("x"));
}

#[tokio::test]
async fn weak_reads_may_see_any_state() {
    let policy = CachePolicy { consistency: ConsistencyLevel::Weak, ..CachePolicy::default() };
    let (env, probe, cache) = timed(policy);
    probe.put_bytes("k", "v").await.unwrap();
    cache.get("k").await.unwrap();
    probe.put_bytes("k", "w").await.unwrap();
    env.advance_ms(1_000_000_000);
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn an_entry_never_outlives_its_object() {
    for policy in [exclusive(), CachePolicy::default()] {
        let (env, probe, cache) = timed(policy);
        cache.put_for("k", "v", Duration::from_millis(100)).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_some());
        let head = cache.head("k").await.unwrap().unwrap();
        assert_eq!(head.expires_at_ms, Some(1_000_100));
        env.advance_ms(99);
        assert!(cache.get("k").await.unwrap().is_some());
        assert_eq!(probe.count(&probe.reads), 1);
        env.advance_ms(1);
        assert_eq!(cache.get("k").await.unwrap(), None);
        assert!(!cache.exists("k").await.unwrap());
    }
}

#[tokio::test]
async fn entries_are_kept_no_longer_than_the_policy_says() {
    let ttl = Some(Duration::from_secs(1));
    let (env, probe, cache) = timed(CachePolicy { entry_ttl: ttl, ..exclusive() });
    cache.put_bytes("k", "v").await.unwrap();
    env.advance_ms(1_000);
    cache.get("k").await.unwrap();
    assert_eq!(probe.count(&probe.reads), 0);
    env.advance_ms(1);
    cache.get("k").await.unwrap();
    assert_eq!(probe.count(&probe.reads), 1);
}

#[tokio::test]
async fn absence_is_remembered_for_a_while_and_until_a_write() {
    let policy = CachePolicy { negative_ttl: Duration::from_secs(2), ..exclusive() };
    let (env, probe, cache) = timed(policy);
    for _ in 0..3 {
        assert_eq!(cache.get("k").await.unwrap(), None);
        assert_eq!(cache.head("k").await.unwrap(), None);
    }
    assert_eq!((probe.count(&probe.reads), probe.count(&probe.heads)), (1, 0));
    assert_eq!(cache.cache_stats().negative_hits, 5);
    env.advance_ms(2_001);
    cache.get("k").await.unwrap();
    assert_eq!(probe.count(&probe.reads), 2);
    cache.put_bytes("k", "v").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    cache.delete("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(probe.count(&probe.reads), 2);
}

#[tokio::test]
async fn many_readers_load_once() {
    let (probe, cache) = probed(exclusive());
    probe.put_bytes("k", "v").await.unwrap();
    probe.hold();
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get_string("k").await })
        })
        .collect();
    probe.until_held(1).await;
    tokio::task::yield_now().await;
    probe.release();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().as_deref(), Some("v"));
    }
    assert_eq!(probe.count(&probe.reads), 1);
    assert_eq!(cache.cache_stats().coalesced, 49);
}

#[tokio::test]
async fn strong_readers_share_only_what_begins_after_them() {
    let (probe, cache) = probed(CachePolicy::default());
    probe.put_bytes("k", "v").await.unwrap();
    probe.hold();
    let read = |cache: &CacheBackend| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_string("k").await.unwrap() })
    };
    let first = read(&cache);
    probe.until_held(1).await;
    // The first has read by now, and must not answer those who come after this write.
    probe.put_bytes("k", "w").await.unwrap();
    let others: Vec<_> = (0..20).map(|_| read(&cache)).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    probe.release();
    assert_eq!(first.await.unwrap().as_deref(), Some("v"));
    for other in others {
        assert_eq!(other.await.unwrap().as_deref(), Some("w"));
    }
    assert_eq!(probe.count(&probe.reads), 2);
    assert_eq!(cache.cache_stats().coalesced, 19);
}

#[tokio::test]
async fn a_leader_that_leaves_or_fails_hands_over() {
    let (probe, cache) = probed(exclusive());
    probe.put_bytes("k", "v").await.unwrap();
    probe.hold();
    let read = |cache: &CacheBackend| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_string("k").await })
    };
    let leader = read(&cache);
    probe.until_held(1).await;
    let next = read(&cache);
    tokio::task::yield_now().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    probe.until_held(1).await;
    probe.release();
    assert_eq!(next.await.unwrap().unwrap().as_deref(), Some("v"));
    assert_eq!(probe.count(&probe.reads), 2);

    // One failure is the leader's own, two are everyone's.
    for (failures, failed, reads) in [(1, 1, 2), (2, 5, 2)] {
        cache.clear();
        let before = probe.count(&probe.reads);
        probe.failures.store(failures, std::sync::atomic::Ordering::SeqCst);
        probe.hold();
        let readers: Vec<_> = (0..5).map(|_| read(&cache)).collect();
        probe.until_held(1).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        probe.release();
        let mut errors = 0;
        for reader in readers {
            match reader.await.unwrap() {
                Ok(value) => assert_eq!(value.as_deref(), Some("v")),
                Err(error) => {
                    assert!(matches!(error, StorageError::Timeout(_)), "{error}");
                    assert_eq!(error.detail().key.as_deref(), Some("k"));
                    errors += 1;
                }
            }
        }
        assert_eq!(errors, failed);
        assert_eq!(probe.count(&probe.reads) - before, reads);
    }
}

#[tokio::test]
async fn a_load_that_began_before_a_write_leaves_nothing_behind() {
    let (probe, cache) = probed(exclusive());
    probe.put_bytes("k", "old").await.unwrap();
    probe.hold();
    let reader = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_string("k").await.unwrap() })
    };
    probe.until_held(1).await;
    cache.delete("k").await.unwrap();
    cache.put_for("k", "new", Duration::from_secs(60)).await.unwrap();
    probe.release();
    // It began before the writes, so it may tell what was there then.
    assert_eq!(reader.await.unwrap().as_deref(), Some("old"));
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn ranges_and_conditions_are_judged_on_what_is_kept() {
    let (probe, cache) = probed(exclusive());
    let version = probe.put_bytes("k", "0123456789").await.unwrap();
    // A miss does not load the whole.
    let part = cache.read("k", ranged(2..5)).await.unwrap().unwrap();
    assert_eq!((&part.value[..], part.range, part.head.size), (&b"234"[..], 2..5, 10));
    assert_eq!(cache.cache_stats().loads, 0);
    cache.get("k").await.unwrap();
    let reads = probe.count(&probe.reads);
    let part = cache.read("k", ranged(8..20)).await.unwrap().unwrap();
    assert_eq!((&part.value[..], part.range), (&b"89"[..], 8..10));
    assert!(matches!(
        cache.read("k", ranged(11..12)).await.unwrap_err(),
        StorageError::InvalidInput(_)
    ));
    for (condition, holds) in [
        (Condition::IfMatch(version), true),
        (Condition::IfNoneMatch(version), false),
        (Condition::IfPresent, true),
        (Condition::IfAbsent, false),
    ] {
        let options = ReadOptions { condition, ..ReadOptions::default() };
        assert_eq!(cache.read("k", options).await.is_ok(), holds, "{condition:?}");
    }
    assert_eq!(probe.count(&probe.reads), reads);
}

#[tokio::test]
async fn a_batch_asks_once_for_what_is_missing() {
    let (probe, cache) = probed(exclusive());
    for number in 0..10 {
        probe.put_bytes(&format!("k{number}"), format!("v{number}")).await.unwrap();
    }
    for number in 0..4 {
        cache.get(&format!("k{number}")).await.unwrap();
    }
    let gets = || (0..10).map(|number| BatchOperation::Get { key: format!("k{number}") }).collect();
    for _ in 0..3 {
        let results = cache.batch(gets()).await.unwrap();
        for (number, result) in results.into_iter().enumerate() {
            let BatchResult::Value(Some(object)) = result else { panic!("{result:?}") };
            assert_eq!(object.value, format!("v{number}").as_bytes());
        }
    }
    assert_eq!((probe.count(&probe.batches), probe.count(&probe.reads)), (1, 4));
}

#[tokio::test]
async fn a_refused_check_is_read_anew() {
    let policy = CachePolicy {
        consistency: ConsistencyLevel::Eventual,
        max_staleness: Duration::from_secs(5),
        ..CachePolicy::default()
    };
    let (_, probe, cache) = timed(policy);
    for write in [None, Some("other")] {
        let old = cache.put_bytes("k", "v").await.unwrap();
        probe.put_bytes("k", "w").await.unwrap();
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
        let check = BatchOperation::Check { key: "k".into(), condition: Condition::IfMatch(old) };
        let writes = write.map(|key: &str| BatchOperation::Put {
            key: key.into(),
            value: "x".into(),
            options: StorageOptions::default(),
        });
        let operations = std::iter::once(check).chain(writes).collect();
        let results = cache.batch(operations).await.unwrap();
        assert!(matches!(results[0], BatchResult::Error(StorageError::PreconditionFailed(_))));
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("w"));
    }
}

#[tokio::test]
async fn memory_is_bounded_and_large_values_stay_out() {
    let primary = memory();
    let options = CacheOptions { memory_bytes: 1 << 20, ..with_policy(exclusive()) };
    let cache = over(primary, options);
    for number in 0..500 {
        cache.put_bytes(&format!("k{number}"), vec![7; 10_000]).await.unwrap();
    }
    let stats = cache.cache_stats();
    assert!(stats.memory_bytes <= 1 << 20 && stats.memory_bytes > 900_000, "{stats:?}");
    assert_eq!(stats.memory_entries + stats.evictions, 500);
    cache.put_bytes("large", vec![7; 17 << 10]).await.unwrap();
    assert_eq!(cache.get("large").await.unwrap().unwrap().len(), 17 << 10);
    let stats = cache.cache_stats();
    assert_eq!((stats.refused, stats.loads), (2, 1));
}

#[tokio::test]
async fn what_is_kept_holds_no_larger_buffer() {
    let cache = over(memory(), with_policy(exclusive()));
    let buffer = bytes::Bytes::from(vec![1; 1 << 20]);
    cache.put("k", buffer.slice(..100_000), StorageOptions::default()).await.unwrap();
    drop(cache.get("k").await.unwrap());
    // The primary has its own copy or the slice, the cache a copy.
    let kept = cache.get("k").await.unwrap().unwrap();
    assert_eq!(kept.len(), 100_000);
    assert_ne!(kept.as_ptr(), buffer.as_ptr());
}

#[tokio::test]
async fn namespaces_have_their_own_policy_and_memory() {
    let own = CachePolicy { memory_bytes: Some(1 << 20), ..exclusive() };
    let options = CacheOptions {
        namespaces: [("fast".to_owned(), own)].into(),
        ..with_policy(CachePolicy::default())
    };
    let probe = Probe::new(memory());
    let cache = over(Arc::new(probe.clone()), options);
    let (fast, slow) =
        (cache.namespace("fast").await.unwrap(), cache.namespace("slow").await.unwrap());
    for (space, value) in [(&cache, "root"), (&fast, "fast"), (&slow, "slow")] {
        space.put_bytes("k", value).await.unwrap();
    }
    for (space, value) in [(&cache, "root"), (&fast, "fast"), (&slow, "slow")] {
        assert_eq!(space.get_string("k").await.unwrap().as_deref(), Some(value));
    }
    let stats = cache.cache_stats();
    assert_eq!((stats.memory_hits, stats.validated_hits), (1, 2));
    // Outside of any namespace and in `default` are the same objects in this engine.
    let default = cache.namespace("default").await.unwrap();
    default.put_bytes("k", "default").await.unwrap();
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("default"));
}

#[tokio::test]
async fn what_changed_as_a_whole_is_forgotten_when_told() {
    let primary = memory();
    let remote = RemoteTierOptions::new(memory());
    let options = CacheOptions { remote: Some(remote), ..with_policy(exclusive()) };
    let cache = over(primary.clone(), options).namespace("n").await.unwrap();
    cache.put_bytes("k", "v").await.unwrap();
    cache.flush().await.unwrap();
    primary.drop_namespace("n");
    assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("v"));
    cache.clear();
    assert_eq!(cache.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_warm_start_reads_what_was_hot() {
    let folder = tempfile::tempdir().unwrap();
    let places = [HotKeysPlace::Key("hot".to_owned()), HotKeysPlace::DiskTier];
    for place in places {
        let probe = Probe::new(memory());
        let options = || CacheOptions {
            disk: Some(DiskTierOptions::new(folder.path(), 1 << 20)),
            warm_up: Some(WarmUpOptions {
                keys: 10,
                reads_per_second: 100_000,
                ..WarmUpOptions::new(place.clone())
            }),
            ..with_policy(CachePolicy { tiers: false, ..exclusive() })
        };
        let cache = over(Arc::new(probe.clone()), options());
        for number in 0..100 {
            probe.put_bytes(&format!("k{number}"), "v").await.unwrap();
        }
        for _ in 0..50 {
            for number in (0..10).chain([99]) {
                cache.get(&format!("k{number}")).await.unwrap();
            }
        }
        cache.flush().await.unwrap();
        drop(cache);

        let cache = over(Arc::new(probe.clone()), options());
        assert_eq!(cache.warm_up().await.unwrap(), 10, "{place:?}");
        let before = probe.count(&probe.reads);
        let mut hot = 0;
        for number in (0..10).chain([99]) {
            cache.get(&format!("k{number}")).await.unwrap();
            hot = cache.cache_stats().memory_hits;
        }
        assert_eq!(hot, 10, "{place:?}");
        assert_eq!(probe.count(&probe.reads), before + 1);
    }
}

#[tokio::test]
async fn what_follows_is_read_ahead_while_that_pays() {
    let env = Arc::new(SimEnv::new(1, 1_000_000));
    let probe = Probe::new(memory());
    let options = CacheOptions {
        env: env.clone(),
        prefetch_per_second: 1000,
        ..with_policy(CachePolicy { prefetch: true, ..exclusive() })
    };
    let cache = over(Arc::new(probe.clone()), options);
    for number in 0..100 {
        probe.put_bytes(&format!("shard-{number:04}/w"), "v").await.unwrap();
    }
    let settle = || async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    for number in 0..50 {
        cache.get(&format!("shard-{number:04}/w")).await.unwrap();
        settle().await;
    }
    let stats = cache.cache_stats();
    assert!(stats.prefetched >= 45 && stats.prefetched_read >= 45, "{stats:?}");

    // A chain without numbers is learned from its second round.
    let chain = ["alpha", "beta", "gamma", "delta"];
    for key in chain {
        probe.put_bytes(key, "v").await.unwrap();
    }
    for _ in 0..3 {
        cache.clear();
        for key in chain {
            cache.get(key).await.unwrap();
            settle().await;
        }
    }
    let ahead = cache.cache_stats().prefetched_read;
    assert!(ahead >= stats.prefetched_read + 3, "{ahead}");
    assert!(env.monotonic() < Duration::from_secs(1));
}

#[tokio::test]
async fn reading_ahead_in_vain_stops() {
    let env = Arc::new(SimEnv::new(1, 1_000_000));
    let probe = Probe::new(memory());
    let options = CacheOptions {
        env: env.clone(),
        prefetch_per_second: u32::MAX,
        ..with_policy(CachePolicy { prefetch: true, ..exclusive() })
    };
    let cache = over(Arc::new(probe.clone()), options);
    for number in 0..10_000 {
        probe.put_bytes(&format!("k{number:05}"), "v").await.unwrap();
    }
    // Steps that are the same just often enough to be believed, and then another.
    for start in 0..300 {
        for step in [0, 1, 2] {
            cache.get(&format!("k{:05}", start * 33 + step * (start % 7 + 1))).await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }
    let stats = cache.cache_stats();
    assert!(stats.prefetched > 0 && stats.prefetched <= 129, "{stats:?}");
}

//! Layers before real engines, over connections that toxiproxy makes worse.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sira_backends::object_store::{MinioBackend, ObjectStoreOptions, S3Options};
use sira_backends::postgres::{PostgresDriver, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_store::driver::DriverBackend;
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::layers::breaker::BreakerOpen;
use sira_store::layers::{
    BreakerOptions, BreakerState, HedgeOptions, Layers, RetryOptions, TimeoutOptions,
};
use sira_store::{
    Condition, ReadOptions, Retry, StorageBackend, StorageBackendExt, StorageError, StorageOptions,
};

use crate::support::{env, unique};
use crate::toxiproxy::{Proxy, host_of};

const WRITERS: u32 = 8;
const APPENDS: u32 = 8;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub async fn redis(url: &str, prefix: &str, pool_size: usize) -> Arc<dyn StorageBackend> {
    let mut options = RedisOptions::new(url, prefix);
    options.pool_size = pool_size;
    options.connect_timeout = ms(1000);
    options.operation_timeout = ms(1500);
    Arc::new(RedisBackend::connect(options).await.unwrap())
}

pub async fn postgres(url: &str, table: &str) -> Arc<dyn StorageBackend> {
    let mut options = PostgresOptions::new(url, table);
    options.connect_timeout = ms(1000);
    options.operation_timeout = ms(1500);
    Arc::new(DriverBackend::new(PostgresDriver::connect(options).await.unwrap()))
}

pub async fn minio(endpoint: &str, prefix: &str) -> Arc<dyn StorageBackend> {
    let options = S3Options::new(env("SIRA_TEST_MINIO_BUCKET"), env("SIRA_TEST_MINIO_REGION"))
        .with_endpoint(endpoint)
        .with_access_key(
            env("SIRA_TEST_MINIO_ACCESS_KEY_ID"),
            env("SIRA_TEST_MINIO_SECRET_ACCESS_KEY"),
        )
        .with_common(ObjectStoreOptions::with_prefix(prefix.trim_end_matches('/')));
    Arc::new(MinioBackend::new(options).await.unwrap())
}

pub fn timeouts(time: Duration) -> TimeoutOptions {
    let bytes_per_second_min = 1 << 20;
    TimeoutOptions { read: time, write: time, list: time, batch: time, bytes_per_second_min }
}

/// Makes the way worse in one manner after the other, until told to stop.
async fn spoil(proxy: Arc<Proxy>, stop: Arc<AtomicBool>) {
    let mut random = SeededRandom::new(11);
    while !stop.load(Ordering::Relaxed) {
        let bytes = random.within(20, 40_000);
        let (kind, toxicity, attributes) = random.pick(&[
            ("reset_peer", 0.5, r#""timeout":20"#),
            ("timeout", 0.3, r#""timeout":0"#),
            ("bandwidth", 1.0, r#""rate":300"#),
            ("latency", 0.5, r#""latency":100,"jitter":100"#),
            ("limit_data", 1.0, ""),
        ]);
        let limit = format!(r#""bytes":{bytes}"#);
        let attributes = if kind == "limit_data" { &limit } else { attributes };
        let spoiled = Arc::clone(&proxy);
        let attributes = attributes.to_owned();
        tokio::task::spawn_blocking(move || spoiled.poison(kind, toxicity, &attributes))
            .await
            .unwrap();
        tokio::time::sleep(ms(250)).await;
        let cured = Arc::clone(&proxy);
        tokio::task::spawn_blocking(move || cured.cure(kind)).await.unwrap();
        tokio::time::sleep(ms(100)).await;
    }
}

/// Checks that an error says that the way is bad, and not that the caller or the data is.
pub fn check_kind(error: &StorageError) {
    let kinds = ["timeout", "unavailable", "io", "conflict"];
    assert!(kinds.contains(&error.code()), "{}: {error}", error.code());
    assert_ne!(error.retry(), Retry::Permanent, "{error}");
}

#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
    read: u32,
}

fn ids(value: &[u8]) -> Vec<u32> {
    value.chunks(4).map(|id| u32::from_le_bytes(id.try_into().unwrap())).collect()
}

/// Appends to one list and reads a large object over a way that gets worse and worse. What is read
/// is right; each item is in the list once if its write was acknowledged, and not at all if it was
/// refused.
pub async fn survives(
    straight: Arc<dyn StorageBackend>,
    spoiled: Arc<dyn StorageBackend>,
    proxy: Arc<Proxy>,
    appends: u32,
) {
    let large = SeededRandom::new(7).bytes(60_000);
    straight.put_bytes("large", large.clone()).await.unwrap();
    straight.put_bytes("list", Bytes::new()).await.unwrap();
    let stack = Layers::new(spoiled)
        .timeout(timeouts(ms(10_000)))
        .attempt_timeout(timeouts(ms(1000)))
        .retry(RetryOptions { attempts: 8, ..RetryOptions::default() })
        .hedge(HedgeOptions::default())
        .assemble();
    let store = Arc::clone(&stack.backend);
    let stop = Arc::new(AtomicBool::new(false));
    let spoiler = tokio::spawn(spoil(proxy, Arc::clone(&stop)));
    let told = Arc::new(Mutex::new(Told::default()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, told, large) = (Arc::clone(&store), Arc::clone(&told), large.clone());
        writers.spawn(async move {
            for id in (0..appends).map(|round| writer * 1000 + round) {
                match store.get("large").await {
                    Ok(value) => {
                        assert_eq!(value.unwrap(), large);
                        told.lock().read += 1;
                    }
                    Err(error) => check_kind(&error),
                }
                let list = match store.read("list", ReadOptions::default()).await {
                    Ok(list) => list.unwrap(),
                    Err(error) => {
                        check_kind(&error);
                        continue;
                    }
                };
                let mut value = list.value.to_vec();
                value.extend_from_slice(&id.to_le_bytes());
                let condition = Condition::IfMatch(list.head.version);
                let options = StorageOptions { condition, ..StorageOptions::default() };
                let result = store.put("list", value.into(), options).await;
                let mut told = told.lock();
                match result {
                    Ok(_) => told.acknowledged.insert(id),
                    Err(StorageError::PreconditionFailed(_)) => told.refused.insert(id),
                    Err(error) => {
                        check_kind(&error);
                        match error.retry() {
                            Retry::Ambiguous => told.unknown.insert(id),
                            _ => told.refused.insert(id),
                        }
                    }
                };
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    spoiler.await.unwrap();
    // What is still on its way has arrived or never will.
    tokio::time::sleep(ms(2000)).await;
    let list = ids(&straight.get("list").await.unwrap().unwrap());
    let set: BTreeSet<u32> = list.iter().copied().collect();
    let told = told.lock();
    println!("{:?} {told:?}", stack.handles.retry.map(|retry| retry.counters()));
    assert_eq!(list.len(), set.len(), "an item is there twice: {list:?}");
    assert_eq!(told.acknowledged.difference(&set).count(), 0, "an acknowledged item is gone");
    assert_eq!(told.refused.intersection(&set).count(), 0, "a refused item is there");
    assert!(!told.acknowledged.is_empty() && told.read > 0, "nothing worked: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_over_bad_connections() {
    let (url, prefix) = (env("SIRA_TEST_REDIS_URL"), format!("{}:", unique("sira")));
    let proxy = Proxy::to(host_of(&url));
    let spoiled = redis(&proxy.through(&url), &prefix, 4).await;
    survives(redis(&url, &prefix, 4).await, spoiled, Arc::new(proxy), APPENDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_over_bad_connections() {
    let (url, table) = (env("SIRA_TEST_POSTGRES_URL"), unique("sira"));
    let proxy = Proxy::to(host_of(&url));
    let spoiled = postgres(&proxy.through(&url), &table).await;
    survives(postgres(&url, &table).await, spoiled, Arc::new(proxy), APPENDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_over_bad_connections() {
    let (endpoint, prefix) = (env("SIRA_TEST_MINIO_ENDPOINT"), format!("{}/", unique("sira")));
    let proxy = Proxy::to(host_of(&endpoint));
    let spoiled = minio(&proxy.through(&endpoint), &prefix).await;
    survives(minio(&endpoint, &prefix).await, spoiled, Arc::new(proxy), APPENDS).await;
}

/// Reads that took at least as long as the toxic makes them.
pub async fn slow_reads(store: &dyn StorageBackend, reads: usize, slow: Duration) -> usize {
    let mut count = 0;
    for _ in 0..reads {
        let begun = SystemEnv.monotonic();
        assert_eq!(store.get("key").await.unwrap().as_deref(), Some(&b"value"[..]));
        count += usize::from(SystemEnv.monotonic() - begun >= slow);
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedged_reads_are_bounded_when_one_connection_is_slow() {
    const POOL: usize = 20;
    let slow = ms(600);
    let (url, prefix) = (env("SIRA_TEST_REDIS_URL"), format!("{}:", unique("sira")));
    let proxy = Proxy::to(host_of(&url));
    let engine = redis(&proxy.through(&url), &prefix, POOL).await;
    engine.put_bytes("key", "value").await.unwrap();
    // Which connections are slow is drawn; until it is about one.
    let mut drawn = 0;
    while !(1..=2).contains(&drawn) {
        tokio::task::block_in_place(|| proxy.poison("latency", 0.06, r#""latency":600"#));
        drawn = slow_reads(&*engine, POOL * 2, slow).await;
        if !(1..=2).contains(&drawn) {
            tokio::task::block_in_place(|| proxy.cure("latency"));
        }
    }
    let without = slow_reads(&*engine, 200, slow).await;
    assert!(without > 2, "more than one in a hundred is slow: {without} of 200");
    let options = HedgeOptions { delay_max: ms(100), ..HedgeOptions::default() };
    let stack = Layers::new(engine).hedge(options).assemble();
    let with = slow_reads(&*stack.backend, 500, slow).await;
    assert!(with <= 5, "at most one in a hundred is slow: {with} of 500");
    let counters = stack.handles.hedge.unwrap().counters();
    assert!(counters.won > 0 && counters.sent <= 25 + 10, "{counters:?}");
}

/// Closes the way until the breaker before an engine opens, and opens it again until the breaker has
/// closed. The engine is reached by the way and holds `value` under `key`.
pub async fn breaks_and_heals(engine: Arc<dyn StorageBackend>, proxy: &Proxy) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&changes);
    let breaker =
        BreakerOptions { calls_min: 5, open: ms(200), open_max: ms(500), ..Default::default() };
    let stack = Layers::new(engine)
        .timeout(timeouts(ms(4000)))
        .attempt_timeout(timeouts(ms(1000)))
        .breaker(breaker)
        .on_breaker_change(Arc::new(move |change| seen.lock().push(change.to)))
        .assemble();
    let (store, breaker) = (stack.backend, stack.handles.breaker.unwrap());
    store.get("key").await.unwrap();
    tokio::task::block_in_place(|| proxy.enable(false));
    let mut refused = 0;
    while refused < 20 {
        let error = store.get("key").await.unwrap_err();
        check_kind(&error);
        let source = error.detail().source.as_deref();
        if source.is_some_and(|source| source.is::<BreakerOpen>()) {
            refused += 1;
            tokio::time::sleep(ms(20)).await;
        }
    }
    assert!(breaker.times_opened() > 0);
    tokio::task::block_in_place(|| proxy.enable(true));
    while breaker.state() != BreakerState::Closed {
        let _ = store.get("key").await;
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(store.get("key").await.unwrap().as_deref(), Some(&b"value"[..]));
    let changes = changes.lock();
    assert_eq!(changes.first(), Some(&BreakerState::Open));
    assert_eq!(changes.last(), Some(&BreakerState::Closed));
    assert!(changes.contains(&BreakerState::HalfOpen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_opens_while_the_way_is_closed_and_heals_after() {
    let (url, prefix) = (env("SIRA_TEST_REDIS_URL"), format!("{}:", unique("sira")));
    let proxy = Proxy::to(host_of(&url));
    let engine = redis(&proxy.through(&url), &prefix, 4).await;
    engine.put_bytes("key", "value").await.unwrap();
    breaks_and_heals(engine, &proxy).await;
}

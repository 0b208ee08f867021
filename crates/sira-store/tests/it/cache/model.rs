//! Under `strong`, a read returns what the key held at some moment between its begin and its end.
//!
//! The primary keeps a history: from when to when, on a counter that every event moves, each key
//! held what. Readers note the counter before and after a read, and what they saw must have been
//! there in between. Writers, dropped writes, expiry, a second writer behind the cache's back and
//! delays at every step race each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::cache::{CacheBackend, CacheOptions, CachePolicy, RemoteTierOptions};
use sira_store::env::{Env, SeededRandom, SimEnv};
use sira_store::{
    BatchOperation, BatchResult, Capabilities, Condition, MemoryBackend, Object, ObjectHead,
    ReadOptions, Result, StorageBackend, StorageError, StorageOptions, Version,
};
use tokio::sync::RwLock;

use super::{exclusive, with_policy};

/// What a key holds from a moment on.
#[derive(Debug, Clone)]
struct Held {
    /// First moment at which it may be seen, and last at which what was before may.
    from: u64,
    settled: u64,
    value: Option<Bytes>,
    expires_at_ms: Option<u64>,
}

/// The primary with its history. Operations take effect one after another under `order`.
#[derive(Debug)]
struct Recorder {
    inner: MemoryBackend,
    env: Arc<SimEnv>,
    order: RwLock<()>,
    moment: AtomicU64,
    history: Mutex<BTreeMap<String, Vec<Held>>>,
    random: Mutex<SeededRandom>,
    /// Now and then an answer is lost after the write took effect.
    loses_answers: bool,
}

impl Recorder {
    fn tick(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn pause(&self) {
        let turns = self.random.lock().below(6);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    fn record(&self, key: &str, from: u64, value: Option<Bytes>, expires_at_ms: Option<u64>) {
        let settled = self.tick();
        let held = Held { from, settled, value, expires_at_ms };
        self.history.lock().entry(key.to_owned()).or_default().push(held);
    }

    fn lost(&self) -> Result<()> {
        if self.loses_answers && self.random.lock().chance(1, 20) {
            return Err(StorageError::timeout("no answer in time"));
        }
        Ok(())
    }

    /// Lets time pass; what expires by it is recorded as gone.
    async fn advance(&self, by_ms: u64) {
        let _all = self.order.write().await;
        let from = self.tick();
        self.env.advance_ms(by_ms);
        let settled = self.tick();
        let now_ms = self.env.now_ms();
        for states in self.history.lock().values_mut() {
            if states.last().is_some_and(|held| held.expires_at_ms.is_some_and(|at| at <= now_ms)) {
                states.push(Held { from, settled, value: None, expires_at_ms: None });
            }
        }
    }

    /// Whether a key held `seen` at some moment from `begin` to `end`.
    fn held(&self, key: &str, seen: Option<&Bytes>, begin: u64, end: u64) -> bool {
        let history = self.history.lock();
        let states = history.get(key).map(Vec::as_slice).unwrap_or_default();
        let first_from = states.first().map_or(u64::MAX, |held| held.settled);
        if seen.is_none() && begin <= first_from {
            return true;
        }
        states.iter().enumerate().any(|(at, held)| {
            let until = states.get(at + 1).map_or(u64::MAX, |next| next.settled);
            held.value.as_ref() == seen && held.from <= end && begin <= until
        })
    }
}

#[async_trait]
impl StorageBackend for Recorder {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.pause().await;
        {
            let _all = self.order.write().await;
            let from = self.tick();
            let version = self.inner.put(key, value.clone(), options).await?;
            let head = self.inner.head(key).await?;
            self.record(key, from, Some(value), head.and_then(|head| head.expires_at_ms));
            self.lost()?;
            drop(_all);
            self.pause().await;
            Ok(version)
        }
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.pause().await;
        let found = {
            let _one = self.order.read().await;
            self.inner.read(key, options).await
        };
        self.pause().await;
        found
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.pause().await;
        let found = {
            let _one = self.order.read().await;
            self.inner.head(key).await
        };
        self.pause().await;
        found
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.pause().await;
        let removed = {
            let _all = self.order.write().await;
            let from = self.tick();
            let removed = self.inner.remove(key, condition).await?;
            self.record(key, from, None, None);
            self.lost()?;
            removed
        };
        self.pause().await;
        Ok(removed)
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.pause().await;
        let results = {
            let _all = self.order.write().await;
            let from = self.tick();
            let results = self.inner.batch(operations.clone()).await?;
            for (operation, result) in operations.iter().zip(&results) {
                match (operation, result) {
                    (BatchOperation::Put { key, value, .. }, BatchResult::Success { .. }) => {
                        self.record(key, from, Some(value.clone()), None);
                    }
                    (BatchOperation::Delete { key, .. }, BatchResult::Success { .. }) => {
                        self.record(key, from, None, None);
                    }
                    _ => {}
                }
            }
            results
        };
        self.pause().await;
        Ok(results)
    }
}

/// The remote tier, with delays.
#[derive(Debug)]
struct Slow(MemoryBackend, Mutex<SeededRandom>);

impl Slow {
    async fn pause(&self) {
        let turns = self.1.lock().below(6);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl StorageBackend for Slow {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.pause().await;
        let version = self.0.put(key, value, options).await;
        self.pause().await;
        version
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.pause().await;
        let found = self.0.read(key, options).await;
        self.pause().await;
        found
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.pause().await;
        let removed = self.0.remove(key, condition).await;
        self.pause().await;
        removed
    }
}

const KEYS: u64 = 3;
const READERS: u64 = 4;
const WRITERS: u64 = 3;
const WRITES: u64 = 120;

fn key(random: &mut SeededRandom) -> String {
    format!("k{}", random.below(KEYS))
}

/// One write of a random kind; `turn` makes its value unlike any other.
async fn write(store: &dyn StorageBackend, random: &mut SeededRandom, turn: String) {
    let key = key(random);
    let value = Bytes::from(turn);
    let plain = StorageOptions::default();
    match random.below(8) {
        0..=2 => drop(store.put(&key, value, plain).await),
        3 => {
            let ttl = Some(Duration::from_millis(random.within(1, 30)));
            drop(store.put(&key, value, StorageOptions { ttl, ..plain }).await);
        }
        4 => drop(store.remove(&key, Condition::Always).await),
        5 => {
            let condition =
                if random.chance(1, 2) { Condition::IfAbsent } else { Condition::IfPresent };
            drop(store.put(&key, value, StorageOptions { condition, ..plain }).await);
        }
        6 => {
            let other = format!("k{}", random.below(KEYS));
            let mut batch = vec![BatchOperation::Put { key: key.clone(), value, options: plain }];
            if other != key {
                batch.push(BatchOperation::delete(other));
            }
            drop(store.batch(batch).await);
        }
        _ => {
            let within = Duration::from_micros(random.below(200));
            drop(tokio::time::timeout(within, store.put(&key, value, plain)).await);
        }
    }
}

/// What a read of a random kind saw of a key.
async fn look(cache: &CacheBackend, random: &mut SeededRandom, key: &str) -> Result<Option<Bytes>> {
    if random.chance(1, 6) {
        let results = cache.batch(vec![BatchOperation::Get { key: key.to_owned() }]).await?;
        return match results.into_iter().next() {
            Some(BatchResult::Value(found)) => Ok(found.map(|object| object.value)),
            other => panic!("{other:?}"),
        };
    }
    let range = random.chance(1, 6).then_some(0..u64::MAX);
    let options = ReadOptions { range, ..ReadOptions::default() };
    Ok(cache.read(key, options).await?.map(|object| object.value))
}

async fn world(seed: u64, policy: CachePolicy, second_writer: bool) {
    let env = Arc::new(SimEnv::new(seed, 1_000_000));
    let mut random = SeededRandom::new(seed);
    let recorder = Arc::new(Recorder {
        inner: MemoryBackend::with_env(1 << 30, env.clone()),
        env: env.clone(),
        order: RwLock::new(()),
        moment: AtomicU64::new(0),
        history: Mutex::default(),
        random: Mutex::new(SeededRandom::new(random.next_u64())),
        loses_answers: random.chance(1, 2),
    });
    let remote = random.chance(1, 2).then(|| {
        let inner = MemoryBackend::with_env(1 << 30, env.clone());
        let slow = Slow(inner, Mutex::new(SeededRandom::new(random.next_u64())));
        RemoteTierOptions {
            timeout: Duration::from_secs(5),
            ..RemoteTierOptions::new(Arc::new(slow))
        }
    });
    let options = CacheOptions {
        memory_bytes: random.pick(&[0, 64 << 10]),
        remote,
        settle: Duration::from_millis(20),
        env: env.clone(),
        ..with_policy(policy)
    };
    let cache = CacheBackend::new(recorder.clone(), options).unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS + u64::from(second_writer) {
        let mut random = SeededRandom::new(random.next_u64());
        let (cache, recorder) = (cache.clone(), recorder.clone());
        writers.spawn(async move {
            for round in 0..WRITES {
                let turn = format!("{number}.{round}");
                match number {
                    WRITERS => write(&*recorder, &mut random, turn).await,
                    _ => write(&cache, &mut random, turn).await,
                }
                for _ in 0..random.below(8) {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let mut others = tokio::task::JoinSet::new();
    {
        let (recorder, over) = (recorder.clone(), over.clone());
        let mut random = SeededRandom::new(random.next_u64());
        others.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                recorder.advance(random.within(1, 4)).await;
                for _ in 0..random.below(12) {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for _ in 0..READERS {
        let (cache, recorder, over) = (cache.clone(), recorder.clone(), over.clone());
        let mut random = SeededRandom::new(random.next_u64());
        others.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let key = key(&mut random);
                let begin = recorder.tick();
                let Ok(seen) = look(&cache, &mut random, &key).await else { continue };
                let end = recorder.tick();
                assert!(
                    recorder.held(&key, seen.as_ref(), begin, end),
                    "seed {seed}: a read of {key} from {begin} to {end} saw {seen:?}, of {:?}",
                    recorder
                        .history
                        .lock()
                        .get(&key)
                        .map(|all| { all.iter().rev().take(8).rev().cloned().collect::<Vec<_>>() })
                );
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    while let Some(other) = others.join_next().await {
        other.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exclusive_reads_are_current() {
    for seed in 0..40 {
        world(seed, exclusive(), false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strong_reads_are_current_whoever_writes() {
    for seed in 0..40 {
        world(seed, CachePolicy::default(), true).await;
    }
}

//! Writes under racing writers and a network that loses things: nothing happens twice, nothing that
//! was acknowledged is lost, and what was refused never happened.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::driver::DriverBackend;
use sira_store::env::{Env, SimEnv};
use sira_store::layers::retry::RetryCounters;
use sira_store::layers::{LayerStack, Layers, RetryOptions, TimeoutOptions};
use sira_store::{Condition, ReadOptions, Retry, StorageBackend, StorageError, StorageOptions};

use super::faulty::{Effect, Faulty, Weather};
use crate::driver::memory::{Kind, MemoryDriver};

const WRITERS: u64 = 16;
const SEEDS: u64 = 40;

/// 2026, in milliseconds since the Unix epoch.
const NOW_MS: u64 = 1_790_000_000_000;

const STORM: Weather = Weather { lose_request: 10, lose_answer: 15, delay: 5, hang: 2, refuse: 5 };

/// A store and clients of it as so many processes have them, with clocks up to 8 s apart.
struct World {
    driver: MemoryDriver,
    network: Faulty,
    seed: u64,
    identify_all: bool,
    begun: tokio::time::Instant,
}

/// The environment of one process: a clock of its own, which goes on with the runtime's.
#[derive(Debug)]
struct ProcessEnv {
    random: SimEnv,
    ahead_ms: u64,
    begun: tokio::time::Instant,
}

impl Env for ProcessEnv {
    fn now_ms(&self) -> u64 {
        NOW_MS + self.ahead_ms + u64::try_from(self.monotonic().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }

    fn random_u64(&self) -> u64 {
        self.random.random_u64()
    }

    fn sleep(&self, duration: Duration) {
        self.random.sleep(duration);
    }

    fn spawn(
        &self,
        name: &str,
        task: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        self.random.spawn(name, task)
    }
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "the clock of the simulation is the runtime's")]
    fn new(weather: Weather, seed: u64, identify_all: bool) -> Self {
        let driver = MemoryDriver::new(Kind::default());
        let network = Faulty::new(Arc::new(DriverBackend::new(driver.clone())), weather, seed);
        Self { driver, network, seed, identify_all, begun: tokio::time::Instant::now() }
    }

    fn client(&self, number: u64) -> LayerStack {
        let env = Arc::new(ProcessEnv {
            random: SimEnv::new(self.seed * WRITERS + number, 0),
            ahead_ms: number * 500,
            begun: self.begun,
        });
        let engine = DriverBackend::with_env(self.driver.clone(), env.clone());
        let network = self.network.to(Arc::new(engine));
        let mut retry = RetryOptions { identify_all: self.identify_all, ..RetryOptions::default() };
        retry.attempts = 8;
        retry.budget.burst = 1_000_000;
        Layers::new(Arc::new(network))
            .env(env)
            .timeout(TimeoutOptions::default())
            .attempt_timeout(TimeoutOptions {
                read: Duration::from_millis(50),
                write: Duration::from_millis(50),
                ..TimeoutOptions::default()
            })
            .retry(retry)
            .assemble()
    }

    /// What a key holds, without the network.
    async fn held(&self, key: &str) -> Option<Bytes> {
        DriverBackend::new(self.driver.clone()).get(key).await.unwrap()
    }

    /// Values that were put, in order.
    fn puts(&self) -> Vec<Bytes> {
        let put = |effect| match effect {
            Effect::Put { value, .. } => Some(value),
            Effect::Removed { .. } => None,
        };
        self.network.effects().into_iter().filter_map(put).collect()
    }
}

/// What writers were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
}

impl Told {
    fn tell<T>(&mut self, id: u32, result: &Result<T, StorageError>) {
        match result {
            Ok(_) => self.acknowledged.insert(id),
            Err(error) if error.retry() == Retry::Ambiguous => self.unknown.insert(id),
            Err(_) => self.refused.insert(id),
        };
    }
}

/// Runs writers against a world of each seed, until what is on its way has arrived.
fn simulate<F>(
    world: impl Fn(u64) -> World,
    writer: impl Fn(LayerStack, u64, Arc<Mutex<Told>>) -> F,
    check: impl AsyncFn(&World, &Told),
) -> RetryCounters
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut sum = RetryCounters::default();
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let counters = runtime.block_on(async {
            println!("seed {seed}");
            let world = world(seed);
            let told = Arc::new(Mutex::new(Told::default()));
            let mut tasks = tokio::task::JoinSet::new();
            let mut retries = Vec::new();
            for number in 0..WRITERS {
                let client = world.client(number);
                retries.extend(client.handles.retry.clone());
                tasks.spawn(writer(client, number, Arc::clone(&told)));
            }
            while let Some(task) = tasks.join_next().await {
                task.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let told = std::mem::take(&mut *told.lock());
            check(&world, &told).await;
            retries.iter().map(|retries| retries.counters()).collect::<Vec<_>>()
        });
        for counters in counters {
            sum.retried += counters.retried;
            sum.found += counters.found;
            sum.unknown += counters.unknown;
        }
    }
    sum
}

fn id(writer: u64, round: u64) -> u32 {
    u32::try_from(writer * 1000 + round).unwrap()
}

fn ids(value: &[u8]) -> Vec<u32> {
    value.chunks(4).map(|id| u32::from_le_bytes(id.try_into().unwrap())).collect()
}

/// Reads through the layers until it works.
async fn read(store: &dyn StorageBackend, key: &str) -> (Condition, Vec<u8>) {
    loop {
        match store.read(key, ReadOptions::default()).await {
            Ok(Some(object)) => {
                return (Condition::IfMatch(object.head.version), object.value.to_vec());
            }
            Ok(None) => return (Condition::IfAbsent, Vec::new()),
            Err(_) => {}
        }
    }
}

#[test]
fn a_list_that_all_append_to_keeps_each_item_once() {
    let counters = simulate(
        |seed| World::new(STORM, seed, false),
        |client, writer, told| async move {
            for round in 0..12 {
                let id = id(writer, round);
                let (condition, mut list) = read(&*client.backend, "list").await;
                list.extend_from_slice(&id.to_le_bytes());
                let options = StorageOptions { condition, ..StorageOptions::default() };
                let result = client.backend.put("list", list.into(), options).await;
                told.lock().tell(id, &result);
            }
        },
        async |world, told| {
            let list = ids(&world.held("list").await.unwrap());
            let set: BTreeSet<u32> = list.iter().copied().collect();
            assert_eq!(list.len(), set.len(), "an item is there twice");
            assert_eq!(
                told.acknowledged.difference(&set).count(),
                0,
                "an acknowledged item is gone"
            );
            assert_eq!(told.refused.intersection(&set).count(), 0, "a refused item is there");
            // The counter that is the list's length keeps its bounds.
            assert!(told.acknowledged.len() <= list.len());
            assert!(list.len() <= told.acknowledged.len() + told.unknown.len());
        },
    );
    assert!(counters.found > 100, "{counters:?}");
}

#[test]
fn an_unconditional_write_takes_effect_once() {
    let counters = simulate(
        |seed| World::new(STORM, seed, true),
        |client, writer, told| async move {
            for round in 0..12 {
                let id = id(writer, round);
                let value = Bytes::copy_from_slice(&id.to_le_bytes());
                let result = client.backend.put("value", value, StorageOptions::default()).await;
                told.lock().tell(id, &result);
            }
        },
        async |world, told| {
            let puts: Vec<u32> = world.puts().iter().map(|value| ids(value)[0]).collect();
            let set: BTreeSet<u32> = puts.iter().copied().collect();
            assert_eq!(puts.len(), set.len(), "a write took effect twice");
            assert_eq!(told.acknowledged.difference(&set).count(), 0, "acknowledged in vain");
            assert_eq!(told.refused.intersection(&set).count(), 0, "refused, and yet there");
        },
    );
    assert!(counters.found > 100, "{counters:?}");
}

#[test]
fn a_lock_has_one_holder_and_is_released_once() {
    // Nothing is on its way for long: a request to take the lock that arrives after the lock was
    // released takes it, and no client can prevent that.
    let weather = Weather { delay: 0, hang: 0, ..STORM };
    let counters = simulate(
        move |seed| World::new(weather, seed, false),
        |client, writer, told| async move {
            for round in 0..6 {
                let id = id(writer, round);
                let value = Bytes::copy_from_slice(&id.to_le_bytes());
                let options =
                    StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
                let taken = client.backend.put("lock", value.clone(), options).await;
                told.lock().tell(id, &taken);
                let Ok(version) = taken else { continue };
                let (condition, held) = read(&*client.backend, "lock").await;
                assert_eq!((condition, held), (Condition::IfMatch(version), value.to_vec()));
                // What was removed is removed, whatever the answer was.
                let released = client.backend.remove("lock", condition).await;
                assert!(!matches!(released, Ok(false)), "{released:?}");
            }
        },
        async |world, told| {
            let puts: Vec<u32> = world.puts().iter().map(|value| ids(value)[0]).collect();
            let set: BTreeSet<u32> = puts.iter().copied().collect();
            assert_eq!(puts.len(), set.len(), "the lock was taken twice with one call");
            assert_eq!(told.acknowledged.difference(&set).count(), 0, "held in vain");
            assert_eq!(told.refused.intersection(&set).count(), 0, "refused, and yet held");
            let removals = world.network.effects().len() - puts.len();
            assert!(puts.len() - removals <= 1, "the lock was overwritten while it was held");
        },
    );
    assert!(counters.found > 20, "{counters:?}");
}

//! Processes over shared backends and a shared catalog, in one seeded order of steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sira_store::driver::DriverBackend;
use sira_store::env::{Env, SeededRandom, SimEnv};
use sira_store::placement::{
    Acknowledge, Catalog, Consistency, MOVE_LEASE_MS, PlacedBackend, PlacementPolicy,
    PlacementRequest, Replication,
};
use sira_store::router::Route;
use sira_store::{
    Condition, ReadOptions, Retry, StorageBackend, StorageError, StorageOptions, Version,
};
use tokio::task::LocalSet;

use super::check::{Call, What, linearizable, regular};
use super::flaky::{Flaky, Outage};
use crate::driver::memory::{Kind, MemoryDriver};

const KEYS: [&str; 2] = ["k", "l"];
const BACKENDS: [&str; 3] = ["a", "b", "c"];
const CLIENTS: usize = 2;
const OPERATIONS: usize = 6;
const TICK: Duration = Duration::from_secs(1);

/// What a history is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// Processes that share backends and catalog.
    pub(super) gateways: usize,
    /// Whether processes die in the middle of what they do.
    pub(super) crashes: bool,
    /// Whether objects have copies.
    pub(super) mirrors: bool,
    /// Whether every object is on every backend, and what is promised then.
    pub(super) replicas: Option<(Consistency, Acknowledge)>,
    /// Whether backends and catalog go away for a while.
    pub(super) outages: bool,
}

impl Scenario {
    /// Processes that do not die, over backends that stay, without copies.
    pub(super) const fn of(gateways: usize) -> Self {
        Self { gateways, crashes: false, mirrors: false, replicas: None, outages: false }
    }
}

/// Chooses anew each time, from random numbers.
#[derive(Debug)]
struct Whim {
    random: parking_lot::Mutex<SeededRandom>,
    mirrors: bool,
}

impl PlacementPolicy for Whim {
    fn choose(&self, request: &PlacementRequest<'_>) -> Route {
        let mut random = self.random.lock();
        let mut names = request.backends.to_vec();
        let first = (random.next_u64() % names.len() as u64) as usize;
        names.rotate_left(first);
        names.truncate(1 + (random.next_u64() % 3) as usize);
        let mut route = Route::to(names);
        if self.mirrors {
            let wanted = random.next_u64();
            let mirrors = request.backends.iter().enumerate();
            let mirrors = mirrors.filter(|(at, _)| wanted >> at & 1 == 1 && wanted & 24 != 0);
            route.mirrors = mirrors.map(|(_, name)| name.clone()).collect();
        }
        route
    }
}

type Calls = Rc<RefCell<BTreeMap<&'static str, Vec<Call>>>>;

/// Everything that outlives a process.
struct World {
    env: Arc<SimEnv>,
    catalog: MemoryDriver,
    data: BTreeMap<String, MemoryDriver>,
    mirrors: bool,
    replicas: Option<(Consistency, Acknowledge)>,
    /// Of the backends, then of the catalog.
    outages: [Outage; 4],
    /// Orders what callers see.
    time: Rc<AtomicU64>,
    calls: Calls,
}

impl World {
    fn new(seed: u64, scenario: Scenario) -> Self {
        let kind = || Kind { pauses: Some(seed), ..Kind::default() };
        let data = BACKENDS.map(|name| (name.to_owned(), MemoryDriver::new(kind())));
        Self {
            env: Arc::new(SimEnv::new(seed, 1_700_000_000_000)),
            catalog: MemoryDriver::new(kind()),
            data: data.into(),
            mirrors: scenario.mirrors,
            replicas: scenario.replicas,
            outages: Default::default(),
            time: Rc::default(),
            calls: Rc::default(),
        }
    }

    async fn gateway(&self) -> PlacedBackend {
        let env = || Arc::clone(&self.env) as Arc<dyn Env>;
        let flaky = |driver: &MemoryDriver, outage: &Outage| {
            let inner = Arc::new(DriverBackend::with_env(driver.clone(), env()));
            Arc::new(Flaky { inner, outage: outage.clone() }) as Arc<dyn StorageBackend>
        };
        let [outages @ .., of_catalog] = &self.outages;
        let catalog = flaky(&self.catalog, of_catalog);
        let backends = self
            .data
            .iter()
            .zip(outages)
            .map(|((name, driver), outage)| (name.clone(), flaky(driver, outage)));
        let random = SeededRandom::new(self.env.random_u64());
        let whim = Whim { random: parking_lot::Mutex::new(random), mirrors: self.mirrors };
        let catalog = Catalog::new(catalog).unwrap();
        let placed =
            PlacedBackend::open(&catalog, "n", "a", backends.collect(), Arc::new(whim), env());
        let placed = placed.await.unwrap();
        let Some((consistency, acknowledge)) = self.replicas else { return placed };
        let replicas = BACKENDS.map(str::to_owned).to_vec();
        placed.replicated(Replication { replicas, consistency, acknowledge }).await.unwrap()
    }

    fn end_outages(&self) {
        self.outages.iter().for_each(|outage| outage.set(false));
    }

    /// Lets what dead processes left under way come to its end, and their leases run out.
    async fn pass_time(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        self.env.advance_ms(MOVE_LEASE_MS + 1);
    }
}

/// Runs a history and checks it.
pub(super) fn run(scenario: Scenario, seed: u64) -> Result<(), String> {
    for (key, calls) in history(scenario, seed) {
        // Reads may see what was there before.
        if scenario.replicas.is_some_and(|(consistency, _)| consistency != Consistency::Strong) {
            continue;
        }
        if (scenario.gateways == 1 || scenario.replicas.is_some()) && !linearizable(&calls) {
            return Err(format!("{key}: no order explains{}", lines(&calls)));
        }
        regular(&calls).map_err(|why| format!("{key}: {why}:{}", lines(&calls)))?;
    }
    Ok(())
}

fn lines(calls: &[Call]) -> String {
    calls.iter().map(|call| format!("\n  {call:?}")).collect()
}

/// Runs a history and tells what the callers saw, by key.
pub(super) fn history(scenario: Scenario, seed: u64) -> BTreeMap<&'static str, Vec<Call>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(seed, scenario);
        let mut random = SeededRandom::new(seed);
        // Leases run out where everybody waits for one.
        let env = Arc::clone(&world.env);
        let clock = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(TICK).await;
                env.advance_ms(TICK.as_millis() as u64);
            }
        });
        let rounds = if scenario.crashes { 2 } else { 1 };
        for round in 0..rounds {
            let mut clients = Vec::new();
            let mut gateways = Vec::new();
            for _ in 0..scenario.gateways {
                gateways.push(Rc::new(world.gateway().await));
            }
            for gateway in &gateways {
                for _ in 0..CLIENTS {
                    clients.push(tokio::task::spawn_local(client(
                        Rc::clone(gateway),
                        Arc::clone(&world.env),
                        SeededRandom::new(random.next_u64()),
                        Rc::clone(&world.time),
                        Rc::clone(&world.calls),
                        if scenario.outages { world.outages.to_vec() } else { Vec::new() },
                    )));
                }
            }
            if scenario.crashes && round == 0 {
                for _ in 0..random.next_u64() % 300 {
                    tokio::task::yield_now().await;
                }
                clients.iter().for_each(|client| client.abort());
            }
            for client in clients {
                let _ = client.await;
            }
            world.end_outages();
            world.pass_time().await;
        }
        // What is there in the end, as two readers after each other see it, and as it is without the
        // backends of the objects.
        let reader = Rc::new(world.gateway().await);
        for key in KEYS.into_iter().chain(KEYS) {
            read(&reader, key, &world.time, &world.calls).await;
        }
        if scenario.replicas.is_some() {
            for key in KEYS {
                are_alike(&world, &reader, key).await;
            }
            none_is_missed(&world, &reader).await;
        }
        if scenario.mirrors {
            for key in KEYS {
                without_its_backend(&world, &reader, key, scenario.gateways > 1).await;
            }
        }
        clock.abort();
        world.calls.take()
    })
}

/// Once all is mended, every replica holds what is read, and lists it.
async fn are_alike(world: &World, reader: &PlacedBackend, key: &'static str) {
    assert!(reader.mend(key).await.unwrap(), "{key}: replicas stay behind");
    let entry = reader.copies(key).await.unwrap();
    let newest = reader.read(key, ReadOptions::default()).await.unwrap();
    if newest.is_some() {
        assert_eq!(reader.place(key).await.unwrap(), BACKENDS[0], "{key}: {entry:?}");
        assert!(entry.is_level() && entry.on.len() == 2, "{key}: {entry:?}");
    }
    for (name, driver) in &world.data {
        let backend = DriverBackend::with_env(driver.clone(), Arc::clone(&world.env) as _);
        let held = backend.read(key, ReadOptions::default()).await.unwrap();
        assert_eq!(held, newest, "{key} on {name}: {entry:?}");
    }
}

/// Once all is mended, reads and listings are the same whichever replica is away.
async fn none_is_missed(world: &World, reader: &PlacedBackend) {
    let mut there = Vec::new();
    for key in KEYS {
        there.push(reader.read(key, ReadOptions::default()).await.unwrap());
    }
    let keys = reader.list_keys("", 10).await.unwrap();
    let found = KEYS.iter().zip(&there).filter(|(_, object)| object.is_some());
    assert_eq!(keys, found.map(|(key, _)| *key).collect::<Vec<_>>());
    if world.replicas.is_some_and(|(_, acknowledge)| acknowledge == Acknowledge::Quorum) {
        for outage in &world.outages[..3] {
            outage.set(true);
            assert_eq!(reader.list_keys("", 10).await.unwrap(), keys);
            for (key, object) in KEYS.iter().zip(&there) {
                let seen = reader.read(key, ReadOptions::default()).await.unwrap();
                assert_eq!(seen, *object, "{key} without a replica");
            }
            outage.set(false);
        }
    }
}

/// Reads a key while the backend of its object is away: before copies are mended, and after.
async fn without_its_backend(
    world: &World,
    reader: &PlacedBackend,
    key: &'static str,
    shared: bool,
) {
    // Ends a move that was given up.
    let place = reader.place(key).await.unwrap();
    reader.relocate(key, &place).await.unwrap();
    let outage = &world.outages[BACKENDS.iter().position(|name| *name == place).unwrap()];
    outage.set(true);
    read(reader, key, &world.time, &world.calls).await;
    outage.set(false);
    let newest = read(reader, key, &world.time, &world.calls).await;
    assert!(reader.mend(key).await.unwrap(), "{key}: copies stay behind");
    let copies = reader.copies(key).await.unwrap();
    assert!(copies.is_level(), "{key}: {copies:?}");
    if newest.is_some() && !copies.on.is_empty() {
        outage.set(true);
        let copied = read(reader, key, &world.time, &world.calls).await;
        outage.set(false);
        // A write that was never acknowledged may have come in between, where processes that think
        // otherwise of copies share a catalog.
        let unheard = |(value, _)| {
            let calls = world.calls.borrow();
            let mut writes = calls[key].iter().filter(|call| call.what.written() == Some(value));
            writes.all(|write| write.end.is_none())
        };
        let as_it_is = copied == newest || (shared && newest.is_some_and(unheard));
        assert!(as_it_is, "{key}: the copy is {copied:?}, the object {newest:?}");
    }
}

/// Puts a call on record before it begins, as one without an answer, and tells its number.
fn begin(calls: &Calls, time: &AtomicU64, key: &'static str, what: What) -> usize {
    let begin = time.fetch_add(1, Ordering::Relaxed) + 1;
    let mut calls = calls.borrow_mut();
    let calls = calls.entry(key).or_default();
    calls.push(Call { begin, end: None, what, version: 0 });
    calls.len() - 1
}

fn end(
    calls: &Calls,
    time: &AtomicU64,
    key: &'static str,
    number: usize,
    what: What,
    version: u64,
) {
    let end = time.fetch_add(1, Ordering::Relaxed) + 1;
    let mut calls = calls.borrow_mut();
    let call = &mut calls.get_mut(key).unwrap()[number];
    (call.end, call.what, call.version) = (Some(end), what, version);
}

/// The call had no effect.
fn forget(calls: &Calls, key: &'static str, number: usize) {
    let mut calls = calls.borrow_mut();
    let call = &mut calls.get_mut(key).unwrap()[number];
    // A read without an answer says nothing.
    (call.end, call.what) = (None, What::Read(u64::MAX));
}

async fn read(
    gateway: &PlacedBackend,
    key: &'static str,
    time: &AtomicU64,
    calls: &Calls,
) -> Option<(u64, Version)> {
    let number = begin(calls, time, key, What::Read(u64::MAX));
    let object = gateway.read(key, ReadOptions::default()).await;
    let Ok(object) = object else { return None };
    let seen = object.map(|object| {
        let value = u64::from_le_bytes((&object.value[..]).try_into().unwrap());
        (value, object.head.version)
    });
    let version = seen.map_or(0, |(_, version)| version.as_u64());
    end(calls, time, key, number, What::Read(seen.map_or(0, |(value, _)| value)), version);
    seen
}

async fn client(
    gateway: Rc<PlacedBackend>,
    env: Arc<SimEnv>,
    mut random: SeededRandom,
    time: Rc<AtomicU64>,
    calls: Calls,
    outages: Vec<Outage>,
) {
    for _ in 0..OPERATIONS {
        if !outages.is_empty() {
            let at = (random.next_u64() % 8) as usize;
            outages.get(at).into_iter().for_each(|outage| outage.set(true));
            let at = (random.next_u64() % 6) as usize;
            outages.get(at).into_iter().for_each(|outage| outage.set(false));
        }
        // Versions are told apart by the clock first, so it must not stand still.
        env.advance_ms(random.next_u64() % 2);
        let key = KEYS[(random.next_u64() % 2) as usize];
        let value = time.load(Ordering::Relaxed) << 20 | random.next_u64() >> 48 << 4 | 1;
        let bytes = bytes::Bytes::copy_from_slice(&value.to_le_bytes());
        match random.next_u64() % 9 {
            0 | 1 => drop(read(&gateway, key, &time, &calls).await),
            2 | 3 => {
                let number = begin(&calls, &time, key, What::Write(value));
                let result = gateway.put(key, bytes, StorageOptions::default()).await;
                finish(result.map(Version::as_u64), &calls, &time, key, number, What::Write(value));
            }
            4 | 5 => {
                let Some((held, version)) = read(&gateway, key, &time, &calls).await else {
                    continue;
                };
                let swap = What::Swap(held, value);
                let number = begin(&calls, &time, key, swap);
                let condition = Condition::IfMatch(version);
                let options = StorageOptions { condition, ..StorageOptions::default() };
                let result = gateway.put(key, bytes, options).await;
                finish(result.map(Version::as_u64), &calls, &time, key, number, swap);
            }
            6 => {
                let number = begin(&calls, &time, key, What::Delete);
                let result = gateway.delete(key).await.map(|_| 0);
                finish(result, &calls, &time, key, number, What::Delete);
            }
            7 => drop(gateway.mend(key).await),
            _ => {
                let to = BACKENDS[(random.next_u64() % 3) as usize];
                let _ = gateway.relocate(key, to).await;
            }
        }
    }
}

fn finish(
    result: Result<u64, StorageError>,
    calls: &Calls,
    time: &AtomicU64,
    key: &'static str,
    number: usize,
    what: What,
) {
    match result {
        Ok(version) => end(calls, time, key, number, what, version),
        Err(error) if error.retry() == Retry::Ambiguous => {}
        Err(_) => forget(calls, key, number),
    }
}

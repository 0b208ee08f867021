//! Histories of transactions over three stores, by processes that die in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

use super::env;
use super::process::Process;
use crate::backend::StorageBackend;
use crate::client::{NamespacePolicy, StoragePlan};
use crate::conformance::history::{self, Committed};
use crate::env::SeededRandom;
use crate::error::StorageError;
use crate::memory::MemoryBackend;
use crate::options::StorageOptions;
use crate::transaction::{Transaction, TransactionLog};
use crate::{Result, StorageClient};

/// Namespaces, each on a store of its own; the first is that of the log.
const NAMESPACES: [&str; 3] = ["here", "there", "yonder"];

/// Lists in each.
const LISTS: usize = 2;

const PROCESSES: u64 = 4;
const CLIENTS: u64 = 3;

/// What outlives a process.
struct World {
    stores: BTreeMap<&'static str, Arc<MemoryBackend>>,
    clock: Arc<AtomicU64>,
    numbers: Arc<AtomicU32>,
}

/// A transaction, and whether it is known to have been committed.
type Known = (Committed, bool);

impl World {
    fn new(seed: u64) -> Self {
        let store = |name| (name, Arc::new(MemoryBackend::with_env(1 << 20, env(seed))));
        Self {
            stores: NAMESPACES.map(store).into(),
            clock: Arc::default(),
            numbers: Arc::default(),
        }
    }

    /// The client of a process, unless that dies while it starts.
    async fn client(&self, process: &Process, seed: u64) -> Result<StorageClient> {
        let mut plan = StoragePlan::default();
        for (name, store) in &self.stores {
            let store = Arc::clone(store) as Arc<dyn StorageBackend>;
            plan.backends.insert((*name).to_owned(), process.uses(store, *name == "here"));
            plan.namespaces.insert((*name).to_owned(), NamespacePolicy::on(*name));
        }
        let home = Arc::clone(&plan.backends["here"]);
        plan.transaction_log = Some(TransactionLog::open(home, env(seed)).await?);
        let client = StorageClient::new();
        client.apply(plan)?;
        client.settle_transactions().await?;
        Ok(client)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Transactions of one client of a process, until that dies or they are enough.
    async fn transactions(
        &self,
        client: StorageClient,
        process: &Process,
        seed: u64,
    ) -> Vec<Known> {
        let mut random = SeededRandom::new(seed);
        let mut known = Vec::new();
        for _ in 0..12 {
            let number = self.numbers.fetch_add(1, Ordering::SeqCst) + 1;
            let mut of = Committed { number, begun: self.tick(), ..Committed::default() };
            let began = client.namespace("here").begin().await;
            let outcome = match began {
                Ok(transaction) => attempt(transaction, &mut of, &mut random).await,
                Err(error) => Err(error),
            };
            of.ended = self.tick();
            match outcome {
                Ok(()) => known.push((of, true)),
                Err(StorageError::Conflict(_)) => {}
                Err(error) => {
                    assert!(process.is_dead(), "{error}");
                    // Nobody was told that it had ended.
                    of.ended = u64::MAX;
                    known.push((of, false));
                    return known;
                }
            }
        }
        known
    }
}

fn list(at: usize) -> (&'static str, String) {
    (NAMESPACES[at % NAMESPACES.len()], format!("list{}", at / NAMESPACES.len()))
}

fn numbers(held: Option<&Bytes>) -> Vec<u32> {
    let four = |four: &[u8]| u32::from_be_bytes(four.try_into().unwrap());
    held.map_or_else(Vec::new, |held| held.chunks(4).map(four).collect())
}

async fn attempt(
    mut transaction: Transaction,
    of: &mut Committed,
    random: &mut SeededRandom,
) -> Result<()> {
    let appends = !random.next_u64().is_multiple_of(4);
    for _ in 0..1 + random.next_u64() % 4 {
        let at = (random.next_u64() % (LISTS * NAMESPACES.len()) as u64) as usize;
        if of.read.contains_key(&at) {
            continue;
        }
        let (namespace, key) = list(at);
        let scope = transaction.namespace(namespace).await?;
        let held = scope.get(&key).await?;
        of.read.insert(at, numbers(held.as_ref()));
        if appends && random.next_u64().is_multiple_of(2) {
            let mut value = held.map_or_else(Vec::new, |held| held.to_vec());
            value.extend_from_slice(&of.number.to_be_bytes());
            scope.put(&key, value, StorageOptions::default())?;
            of.appended.insert(at);
        }
    }
    transaction.commit().await.map(|_| ())
}

async fn run(seed: u64) -> std::result::Result<usize, String> {
    let world = Arc::new(World::new(seed));
    let mut random = SeededRandom::new(seed);
    let mut known: Vec<Known> = Vec::new();
    for _ in 0..PROCESSES {
        let seed = random.next_u64();
        let process = Process::new(seed, 20 + (random.next_u64() % 250) as i64);
        let Ok(client) = world.client(&process, seed).await else { continue };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (world, client) = (Arc::clone(&world), client.clone());
                let process = process.clone();
                tokio::spawn(
                    async move { world.transactions(client, &process, seed ^ number).await },
                )
            })
            .collect();
        for client in clients {
            known.extend(client.await.map_err(|error| error.to_string())?);
        }
    }
    // The last one lives on.
    let process = Process::new(seed, i64::MAX);
    let client = world.client(&process, seed).await.map_err(|error| error.to_string())?;
    let log = client.plan().transaction_log.clone();
    let mut lists = BTreeMap::new();
    let mut raw = BTreeMap::new();
    for at in 0..LISTS * NAMESPACES.len() {
        let (namespace, key) = list(at);
        let held = client.namespace(namespace).retrieve(&key).await;
        lists.insert(at, numbers(held.map_err(|error| error.to_string())?.as_ref()));
    }
    while log.as_ref().is_some_and(|log| log.figures().pending > 0) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for at in lists.keys() {
        let (namespace, key) = list(*at);
        let store: &dyn StorageBackend = &*world.stores[namespace];
        let space = store.namespace(namespace).await.map_err(|error| error.to_string())?;
        let held = space.get(&key).await.map_err(|error| error.to_string())?;
        raw.insert(*at, numbers(held.as_ref()));
    }
    if raw != lists {
        return Err(format!("the stores hold {raw:?}, and readers saw {lists:?}"));
    }
    let mut committed = Vec::new();
    for (of, sure) in known {
        let holds = |at: &usize| lists.get(at).is_some_and(|held| held.contains(&of.number));
        let found: BTreeSet<usize> = lists.keys().copied().filter(holds).collect();
        if found == of.appended && (sure || !found.is_empty()) {
            committed.push(of);
        } else if sure || !found.is_empty() {
            return Err(format!(
                "transaction {} appended to {:?} and is found in {found:?}",
                of.number, of.appended
            ));
        }
    }
    history::check(&committed, &lists)?;
    Ok(committed.len())
}

#[test]
fn histories_with_crashes_are_serializable() {
    let mut committed = 0;
    for seed in 0..2_000 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        match runtime.unwrap().block_on(run(seed)) {
            Ok(some) => committed += some,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(committed > 2_000 * 10, "{committed} transactions were committed");
}

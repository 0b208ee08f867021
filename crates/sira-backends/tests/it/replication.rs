//! A replicated namespace on three real engines, of which one at a time is cut off, slow or emptied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sira_store::conformance::{self, ConformanceOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::layers::{Layers, MetricsCollector};
use sira_store::placement::{
    Acknowledge, Catalog, Consistency, CopyFigures, PlacedBackend, PlacementPolicy,
    PlacementRequest, RepairOptions, Replication,
};
use sira_store::router::Route;
use sira_store::{Bytes, Condition, Retry, StorageBackend, StorageOptions, Version};
use tokio::sync::RwLock;

use crate::layers::{minio, postgres, redis};
use crate::redis::clean;
use crate::support::{env, unique};
use crate::toxiproxy::{Proxy, host_of};

const NAMES: [&str; 3] = ["postgres", "redis", "minio"];
const WRITERS: u64 = 6;
const KEYS: u64 = 5;

/// How long the mixed load goes on; `SIRA_SOAK_SECONDS` asks for another time.
const SECONDS: u64 = 12;

#[derive(Debug)]
struct Unasked;

impl PlacementPolicy for Unasked {
    fn choose(&self, _: &PlacementRequest<'_>) -> Route {
        unreachable!("replicated objects are placed by no policy")
    }
}

/// The engines, straight and over a way that can be made worse.
struct Engines {
    prefix: String,
    table: String,
    straight: [Arc<dyn StorageBackend>; 3],
    spoiled: [Arc<dyn StorageBackend>; 3],
    proxies: [Proxy; 3],
}

impl Engines {
    async fn open() -> Self {
        let (prefix, table) = (format!("{}:", unique("sira")), unique("sira"));
        let urls = [
            env("SIRA_TEST_POSTGRES_URL"),
            env("SIRA_TEST_REDIS_URL"),
            env("SIRA_TEST_MINIO_ENDPOINT"),
        ];
        let folder = prefix.replace(':', "/");
        let proxies = [
            Proxy::to(host_of(&urls[0])),
            Proxy::to(host_of(&urls[1])),
            Proxy::to(host_of(&urls[2])),
        ];
        let through = [
            proxies[0].through(&urls[0]),
            proxies[1].through(&urls[1]),
            proxies[2].through(&urls[2]),
        ];
        let straight: [Arc<dyn StorageBackend>; 3] = [
            postgres(&urls[0], &table).await,
            redis(&urls[1], &prefix, 4).await,
            minio(&urls[2], &folder).await,
        ];
        let spoiled: [Arc<dyn StorageBackend>; 3] = [
            postgres(&through[0], &table).await,
            redis(&through[1], &prefix, 8).await,
            minio(&through[2], &folder).await,
        ];
        Self { prefix, table, straight, spoiled, proxies }
    }

    /// Nothing of it is left.
    async fn close(self) {
        clean(&self.prefix).await;
        let (client, connection) =
            tokio_postgres::connect(&env("SIRA_TEST_POSTGRES_URL"), tokio_postgres::NoTls)
                .await
                .expect("connect");
        tokio::spawn(connection);
        let table = &self.table;
        client.batch_execute(&format!("DROP TABLE IF EXISTS \"{table}\"")).await.expect("dropped");
        for key in self.straight[2].list_keys("", usize::MAX).await.expect("listed") {
            self.straight[2].delete(&key).await.expect("removed");
        }
    }
}

/// A replicated namespace with the catalog on an embedded engine.
async fn replicated(
    backends: &[Arc<dyn StorageBackend>; 3],
    folder: &tempfile::TempDir,
    consistency: Consistency,
    figures: &Arc<CopyFigures>,
) -> Arc<PlacedBackend> {
    let engine = Engine::open(folder.path(), EngineOptions::default()).expect("an engine");
    let catalog = Catalog::new(Arc::new(EmbeddedBackend::new(engine))).expect("a catalog");
    let names = NAMES.map(str::to_owned);
    let backends = names.iter().cloned().zip(backends.iter().cloned()).collect();
    let (policy, env) = (Arc::new(Unasked), Arc::new(SystemEnv));
    let placed = PlacedBackend::open(&catalog, "n", NAMES[0], backends, policy, env).await;
    let placed = placed.expect("opened").with_figures(Arc::clone(figures));
    let acknowledge = Acknowledge::Quorum;
    let replication = Replication { replicas: names.to_vec(), consistency, acknowledge };
    let placed = Arc::new(placed.replicated(replication).await.expect("replicated"));
    placed.keep_mended();
    placed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_engines_conform_as_one() {
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        let engines = Engines::open().await;
        let folder = tempfile::tempdir().expect("a folder");
        let placed = replicated(&engines.straight, &folder, consistency, &Arc::default()).await;
        let report = conformance::run(placed, ConformanceOptions::default()).await;
        let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
        assert!(report.passed.len() > 50, "{report}");
        engines.close().await;
    }
}

/// What a key may hold, as its one writer knows: a number, or nothing.
type Possible = BTreeSet<Option<u64>>;

#[derive(Debug, Default)]
struct Figures {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    reads: AtomicU64,
    unread: AtomicU64,
    slowest_write_ms: AtomicU64,
}

impl Figures {
    fn add(count: &AtomicU64) -> u64 {
        count.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What writers share.
#[derive(Debug, Default)]
struct Load {
    ended: AtomicBool,
    figures: Figures,
    /// Shut while nothing is to be written.
    gate: RwLock<()>,
}

/// Writes to its own keys and reads them, and sees nothing but what it may.
async fn writes(
    placed: Arc<PlacedBackend>,
    writer: u64,
    load: Arc<Load>,
) -> BTreeMap<String, Possible> {
    let figures = &load.figures;
    let mut random = SeededRandom::new(writer);
    let mut known: BTreeMap<String, (Possible, Option<Version>)> = BTreeMap::new();
    let mut number = 0;
    while !load.ended.load(Ordering::Relaxed) {
        let _pass = load.gate.read().await;
        let key = format!("w{writer}/{}", random.next_u64() % KEYS);
        let (possible, version) =
            known.entry(key.clone()).or_insert_with(|| (Possible::from([None]), None));
        number += 1;
        let value = Bytes::copy_from_slice(&u64::to_le_bytes(number));
        let begun = SystemEnv.monotonic();
        let kind = random.next_u64() % 8;
        let (written, result) = match (kind, *version) {
            (0..3, _) => {
                let put = placed.put(&key, value, StorageOptions::default()).await;
                (Some(number), put.map(Some))
            }
            (3..5, Some(held)) => {
                let condition = Condition::IfMatch(held);
                let options = StorageOptions { condition, ..StorageOptions::default() };
                (Some(number), placed.put(&key, value, options).await.map(Some))
            }
            (5, _) => (None, placed.delete(&key).await.map(|_| None)),
            _ => {
                match placed.get(&key).await {
                    Ok(seen) => {
                        Figures::add(&figures.reads);
                        let seen = seen.map(|seen| {
                            u64::from_le_bytes(seen[..].try_into().expect("eight bytes"))
                        });
                        assert!(possible.contains(&seen), "{key} is {seen:?}, not {possible:?}");
                    }
                    Err(error) => {
                        assert_ne!(error.retry(), Retry::Permanent, "{key}: {error}");
                        Figures::add(&figures.unread);
                    }
                }
                continue;
            }
        };
        match result {
            Ok(drawn) => {
                let took = (SystemEnv.monotonic() - begun).as_millis() as u64;
                figures.slowest_write_ms.fetch_max(took, Ordering::Relaxed);
                Figures::add(&figures.acknowledged);
                (*possible, *version) = (Possible::from([written]), drawn);
            }
            Err(error) if error.code() == "precondition_failed" => {
                // An earlier write whose outcome was not known has taken effect.
                assert!(possible.len() > 1, "{key}: {error}");
                *version = None;
            }
            Err(error) => {
                assert_ne!(error.retry(), Retry::Permanent, "{key}: {error}");
                if error.retry() == Retry::Ambiguous {
                    Figures::add(&figures.unknown);
                    possible.insert(written);
                } else {
                    Figures::add(&figures.refused);
                }
            }
        }
    }
    known.into_iter().map(|(key, (possible, _))| (key, possible)).collect()
}

/// Waits until no replica is known to be behind.
async fn level(placed: &PlacedBackend) {
    for _ in 0..600 {
        if placed.behind().objects == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("replicas stay behind: {:?}", placed.behind());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whichever_engine_fails() {
    let engines = Engines::open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let collector = MetricsCollector::default();
    let layered = [0, 1, 2].map(|at: usize| {
        Layers::standard(Arc::clone(&engines.spoiled[at]), NAMES[at], &collector).build()
    });
    let counted = Arc::new(CopyFigures::default());
    let placed = replicated(&layered, &folder, Consistency::Strong, &counted).await;
    let load = Arc::new(Load::default());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(writes(Arc::clone(&placed), writer, Arc::clone(&load)));
    }

    let seconds = std::env::var("SIRA_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = SystemEnv.monotonic() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let seed = std::env::var("SIRA_SOAK_SEED").ok().and_then(|text| text.parse().ok());
    let mut random = SeededRandom::new(seed.unwrap_or(7));
    let (mut cuts, mut slow, mut emptied) = (0, 0, 0);
    let proxies = &engines.proxies;
    while SystemEnv.monotonic() < end && writers.try_join_next().is_none() {
        let proxy = &proxies[(random.next_u64() % 3) as usize];
        let time = Duration::from_millis(100 + random.next_u64() % 900);
        match random.next_u64() % 8 {
            0..5 => {
                cuts += 1;
                tokio::task::block_in_place(|| proxy.enable(false));
                tokio::time::sleep(time).await;
                tokio::task::block_in_place(|| proxy.enable(true));
            }
            5 | 6 => {
                slow += 1;
                tokio::task::block_in_place(|| proxy.poison("latency", 1.0, r#""latency":400"#));
                tokio::time::sleep(time).await;
                tokio::task::block_in_place(|| proxy.cure("latency"));
            }
            _ => {
                // A replica that is lost while another one is behind is one too many.
                let _shut = load.gate.write().await;
                level(&placed).await;
                emptied += 1;
                clean(&engines.prefix).await;
                let report = placed.repair_all(&RepairOptions::default()).await.expect("repaired");
                assert!(report.is_level(), "{report:?}");
            }
        }
        tokio::time::sleep(time / 2).await;
    }
    load.ended.store(true, Ordering::Relaxed);
    let mut possible = BTreeMap::new();
    while let Some(writer) = writers.join_next().await {
        possible.extend(writer.expect("a writer that saw nothing wrong"));
    }

    let report = placed.repair_all(&RepairOptions::default()).await.expect("repaired");
    assert!(report.is_level() && !report.unsound, "{report:?}");
    for (key, possible) in &possible {
        let number = |bytes: Bytes| u64::from_le_bytes(bytes[..].try_into().expect("eight bytes"));
        let seen = placed.get(key).await.expect("read").map(number);
        assert!(possible.contains(&seen), "{key} is {seen:?}, not {possible:?}");
        for (name, backend) in NAMES.iter().zip(&engines.straight) {
            assert_eq!(backend.get(key).await.expect("read").map(number), seen, "{key} on {name}");
        }
    }
    let counts = counted.counts();
    let figures = &load.figures;
    println!("{cuts} cuts, {slow} slow ways, {emptied} times emptied\n{figures:?}\n{counts:?}");
    assert!(figures.acknowledged.load(Ordering::Relaxed) > 100, "{figures:?}");
    assert!(counts.failed_over > 0 && counts.returned > 0, "{counts:?}");
    drop(placed);
    engines.close().await;
}

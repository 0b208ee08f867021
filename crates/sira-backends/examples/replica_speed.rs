//! What it costs to write to replicas, beside writing to each of them alone.
//!
//! `SIRA_TEST_POSTGRES_URL` and `SIRA_TEST_REDIS_URL` name the servers. Rounds take turns: PostgreSQL
//! alone, Redis alone, both as replicas of which all acknowledge. The catalog is on an embedded
//! engine in a temporary folder, which syncs what it acknowledges.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that measures and tells")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sira_backends::postgres::{PostgresBackend, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::placement::{
    Acknowledge, Catalog, Consistency, PlacedBackend, PlacementPolicy, PlacementRequest,
    Replication,
};
use sira_store::router::Route;
use sira_store::{StorageBackend, StorageOptions};

const ROUNDS: usize = 5;
const VALUE_BYTES: usize = 1024;
const KEYS: u64 = 10_000;

#[derive(Debug)]
struct Unasked;

impl PlacementPolicy for Unasked {
    fn choose(&self, _: &PlacementRequest<'_>) -> Route {
        Route::default()
    }
}

/// Time of one write, with so many at a time.
async fn time_of(
    backend: &Arc<dyn StorageBackend>,
    writers: u64,
    writes: u64,
) -> Result<Duration, Box<dyn Error>> {
    let value = SeededRandom::new(1).bytes(VALUE_BYTES);
    let next = Arc::new(AtomicU64::new(0));
    let begun = SystemEnv.monotonic();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let (backend, value, next) = (Arc::clone(backend), value.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= writes {
                    return Ok(());
                }
                let key = format!("key/{}", number.wrapping_mul(7919) % KEYS);
                backend.put(&key, value.clone(), StorageOptions::default()).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let ended: Result<(), sira_store::StorageError> = ended?;
        ended?;
    }
    Ok((SystemEnv.monotonic() - begun) / u32::try_from(writes)?)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path(), EngineOptions::default())?;
    let catalog = Catalog::new(Arc::new(EmbeddedBackend::new(engine)))?;
    let run = SystemEnv.random_u64();
    let postgres = PostgresOptions::new(
        std::env::var("SIRA_TEST_POSTGRES_URL")?,
        format!("replica_speed_{run:x}"),
    );
    let postgres: Arc<dyn StorageBackend> = Arc::new(PostgresBackend::connect(postgres).await?);
    let redis =
        RedisOptions::new(std::env::var("SIRA_TEST_REDIS_URL")?, format!("replica_speed_{run:x}:"));
    let redis: Arc<dyn StorageBackend> = Arc::new(RedisBackend::connect(redis).await?);
    let names = ["postgres".to_owned(), "redis".to_owned()];
    let inside = [postgres.namespace("n").await?, redis.namespace("n").await?];
    let backends = names.iter().cloned().zip(inside).collect();
    let (policy, env) = (Arc::new(Unasked), Arc::new(SystemEnv));
    let placed = PlacedBackend::open(&catalog, "n", &names[0], backends, policy, env).await?;
    let (consistency, acknowledge) = (Consistency::Strong, Acknowledge::All);
    let replication = Replication { replicas: names.to_vec(), consistency, acknowledge };
    let both: Arc<dyn StorageBackend> = Arc::new(placed.replicated(replication).await?);

    println!("| writers | postgres, µs | redis, µs | both as replicas, µs | over the slower |");
    println!("|---|---|---|---|---|");
    for (writers, writes) in [(1, 1_000), (4, 4_000), (16, 8_000)] {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        let mut ratios = Vec::new();
        for round in 0..=ROUNDS {
            let mut took = [0.0; 3];
            for (at, backend) in [&postgres, &redis, &both].into_iter().enumerate() {
                took[at] = time_of(backend, writers, writes).await?.as_secs_f64() * 1e6;
            }
            // The first one warms up.
            if round > 0 {
                times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
                ratios.push(took[2] / took[0].max(took[1]));
            }
        }
        let [postgres, redis, both] = times.map(median);
        let ratio = median(ratios);
        println!("| {writers} | {postgres:.0} | {redis:.0} | {both:.0} | {ratio:.2} |");
    }
    Ok(())
}

//! What backends and the client add to engines: the same requests by the same client library, by the
//! simplest good program, by the backend, and by the client over the backend. Rounds take turns.
//!
//! The servers are those of `scripts/services`:
//! `eval "$(scripts/services env)"; cargo run --release -p sira-backends --features all --example
//! driver_speed [ENGINE...]`

mod bare;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bare::Bare;
use sira_backends::mysql::{MySqlBackend, MySqlOptions};
use sira_backends::object_store::{ObjectStoreOptions, S3Backend, S3Options};
use sira_backends::postgres::{PostgresBackend, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_backends::sqlite::{SqliteBackend, SqliteOptions};
use sira_store::client::StoragePlan;
use sira_store::env::{Env, SystemEnv};
use sira_store::{Bytes, StorageBackend, StorageClient, StorageOptions};
use tokio::task::JoinSet;

const KEYS: usize = 2_000;
const VALUE_BYTES: usize = 1024;
const ROUNDS: usize = 7;

/// Whatever fails.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What the programs answer.
pub type Result<T> = std::result::Result<T, Error>;

/// One of the three ways.
#[derive(Clone)]
enum Way {
    Bare(Arc<dyn Bare>),
    Backend(Arc<dyn StorageBackend>),
    Client(StorageClient),
}

impl Way {
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let options = StorageOptions::default();
        match self {
            Self::Bare(bare) => bare.put(key, value).await?,
            Self::Backend(backend) => drop(backend.put(key, Bytes::from(value), options).await?),
            Self::Client(client) => drop(client.store(key, value, options).await?),
        }
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        Ok(match self {
            Self::Bare(bare) => bare.get(key).await?,
            Self::Backend(backend) => backend.get(key).await?.map_or(0, |value| value.len()),
            Self::Client(client) => client.retrieve(key).await?.map_or(0, |value| value.len()),
        })
    }
}

/// Operations a second of so many tasks.
async fn rate(way: &Way, writes: bool, tasks: usize, operations: usize) -> Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = SystemEnv.monotonic();
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (way, next) = (way.clone(), Arc::clone(&next));
        running.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= operations {
                    return Ok::<_, Error>(());
                }
                let key = format!("key:{:08}", at.wrapping_mul(7919) % KEYS);
                if writes {
                    way.put(&key, vec![at as u8; VALUE_BYTES]).await?;
                } else if way.get(&key).await? != VALUE_BYTES {
                    return Err("another value".into());
                }
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(operations as f64 / (SystemEnv.monotonic() - begun).as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn compare(
    engine: &str,
    bare: impl Bare + 'static,
    backend: impl StorageBackend + 'static,
    round: usize,
) -> Result<()> {
    let backend: Arc<dyn StorageBackend> = Arc::new(backend);
    let client = StorageClient::new();
    client.apply(StoragePlan {
        backends: BTreeMap::from([("one".to_owned(), Arc::clone(&backend))]),
        default_backend: Some("one".to_owned()),
        ..StoragePlan::default()
    })?;
    let ways = [Way::Bare(Arc::new(bare)), Way::Backend(backend), Way::Client(client)];
    for way in &ways {
        rate(way, true, 16, KEYS).await?;
    }
    for (writes, tasks) in [(true, 1), (true, 64), (false, 1), (false, 64)] {
        let operations = if tasks == 1 { round.div_ceil(8) } else { round };
        let mut figures: [Vec<f64>; 3] = Default::default();
        let (mut backends, mut clients) = (Vec::new(), Vec::new());
        for number in 0..ROUNDS {
            let mut rates = [0.0; 3];
            for turn in 0..3 {
                let at = (number + turn) % 3;
                rates[at] = rate(&ways[at], writes, tasks, operations).await?;
                figures[at].push(rates[at]);
            }
            backends.push(rates[1] / rates[0]);
            clients.push(rates[2] / rates[1]);
        }
        let [bare, ours, client] = figures.map(median);
        writeln!(
            std::io::stdout(),
            "{engine} {} x{tasks}: bare {bare:.0} ops/s, backend {ours:.0}, {:.2}x; client {client:.0}, \
             {:.3}x of the backend",
            if writes { "put" } else { "get" },
            median(backends),
            median(clients),
        )?;
    }
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: scripts/services up").into())
}

#[tokio::main]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |engine: &str| wanted.is_empty() || wanted.iter().any(|name| name == engine);
    let unique = format!("speed{:x}", SystemEnv.random_u64());
    if wants("redis") {
        let url = variable("SIRA_TEST_REDIS_URL")?;
        let options = RedisOptions::new(&url, format!("{unique}:"));
        let bare = bare::Redis::connect(&url, options.pool_size).await?;
        compare("redis", bare, RedisBackend::connect(options).await?, 40_000).await?;
    }
    if wants("postgres") {
        let url = variable("SIRA_TEST_POSTGRES_URL")?;
        let options = PostgresOptions::new(&url, &unique);
        let bare = bare::Postgres::connect(&url, options.pool_size).await?;
        compare("postgres", bare, PostgresBackend::connect(options).await?, 8_000).await?;
    }
    if wants("mysql") {
        let url = variable("SIRA_TEST_MYSQL_URL")?;
        let options = MySqlOptions::new(&url, &unique);
        let bare = bare::MySql::connect(&url, options.pool_size).await?;
        compare("mysql", bare, MySqlBackend::connect(options).await?, 6_000).await?;
    }
    if wants("sqlite") {
        let folder = tempfile::tempdir()?;
        let bare = bare::Sqlite::open(&folder.path().join("bare.db"))?;
        let options = SqliteOptions::new(folder.path().join("ours.db"));
        compare("sqlite", bare, SqliteBackend::open(options).await?, 8_000).await?;
    }
    if wants("s3") {
        let of = |name: &str| variable(&format!("SIRA_TEST_S3_{name}"));
        let options = S3Options::new(of("BUCKET")?, of("REGION")?)
            .with_endpoint(of("ENDPOINT")?)
            .with_access_key(of("ACCESS_KEY_ID")?, of("SECRET_ACCESS_KEY")?)
            .with_common(ObjectStoreOptions::with_prefix(&unique));
        compare("s3", bare::S3::connect(of)?, S3Backend::new(options).await?, 4_000).await?;
    }
    Ok(())
}

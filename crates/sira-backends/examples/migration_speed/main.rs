//! How fast a migration fills an engine, beside the engine's own way to take many values at once, and
//! from a folder to S3 beside rclone. The migration keeps versions, checksums and conditions, and
//! goes beside writers; the others just write. Rounds take turns.
//!
//! The servers are those of `scripts/services`:
//! `eval "$(scripts/services env)"; cargo run --release -p sira-backends --features all --example
//! migration_speed [ENGINE...]`; `rclone` needs the program of that name.

mod bulk;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use sira_backends::mysql::{MySqlBackend, MySqlOptions};
use sira_backends::object_store::{ObjectStoreOptions, S3Backend, S3Options};
use sira_backends::postgres::{PostgresBackend, PostgresOptions};
use sira_backends::redis::{RedisBackend, RedisOptions};
use sira_backends::sqlite::{SqliteBackend, SqliteOptions};
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::migration::{Migration, MigrationOptions};
use sira_store::{
    Bytes, Durability, EmbeddedBackend, FilesystemBackend, StorageBackend, StorageOptions,
};

const ROUNDS: usize = 3;
/// Requests that are under way at once.
const TRANSFERS: usize = 32;

/// Whatever fails.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What the programs answer.
pub type Result<T> = std::result::Result<T, Error>;

fn key(number: usize) -> String {
    format!("object:{number:09}")
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: scripts/services up").into())
}

fn unique(name: &str) -> String {
    format!("{name}{:x}", SystemEnv.random_u64())
}

fn values(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut random = SeededRandom::new(1);
    let words = bytes / 8;
    let mut value = || (0..words).flat_map(|_| random.next_u64().to_le_bytes()).collect();
    (0..count).map(|_| value()).collect()
}

async fn filled(target: &dyn StorageBackend, values: &[Vec<u8>]) -> Result<()> {
    let options =
        StorageOptions { durability: Some(Durability::None), ..StorageOptions::default() };
    for (number, value) in values.iter().enumerate() {
        target.put(&key(number), Bytes::from(value.clone()), options.clone()).await?;
    }
    Ok(())
}

/// Seconds that a migration takes.
async fn migrate(
    source: &Arc<dyn StorageBackend>,
    target: Arc<dyn StorageBackend>,
    count: usize,
) -> Result<f64> {
    let options = MigrationOptions { concurrency: TRANSFERS, ..MigrationOptions::default() };
    let migration = Migration::new(Arc::clone(source), target, options)?;
    let begun = SystemEnv.monotonic();
    let report = migration.run().await?;
    if report.copied != count as u64 {
        return Err(format!("{} of {count} were copied", report.copied).into());
    }
    Ok((SystemEnv.monotonic() - begun).as_secs_f64())
}

async fn target(engine: &str, folder: &Path) -> Result<Arc<dyn StorageBackend>> {
    let name = unique("speed");
    Ok(match engine {
        "redis" => {
            let options = RedisOptions::new(variable("SIRA_TEST_REDIS_URL")?, format!("{name}:"));
            Arc::new(RedisBackend::connect(options).await?)
        }
        "postgres" => {
            let options = PostgresOptions::new(variable("SIRA_TEST_POSTGRES_URL")?, name);
            Arc::new(PostgresBackend::connect(options).await?)
        }
        "mysql" => {
            let options = MySqlOptions::new(variable("SIRA_TEST_MYSQL_URL")?, name);
            Arc::new(MySqlBackend::connect(options).await?)
        }
        "sqlite" => Arc::new(SqliteBackend::open(SqliteOptions::new(folder.join(name))).await?),
        _ => {
            let of = |name: &str| variable(&format!("SIRA_TEST_S3_{name}"));
            let options = S3Options::new(of("BUCKET")?, of("REGION")?)
                .with_endpoint(of("ENDPOINT")?)
                .with_access_key(of("ACCESS_KEY_ID")?, of("SECRET_ACCESS_KEY")?)
                .with_common(ObjectStoreOptions::with_prefix(&name));
            Arc::new(S3Backend::new(options).await?)
        }
    })
}

async fn compare(engine: &str, count: usize, bytes: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let values = Arc::new(values(count, bytes));
    let plain = folder.path().join("plain");
    let source: Arc<dyn StorageBackend> = if engine == "rclone" {
        std::fs::create_dir(&plain)?;
        for (number, value) in values.iter().enumerate() {
            std::fs::write(plain.join(key(number)), value)?;
        }
        Arc::new(FilesystemBackend::new(folder.path().join("stored"))?)
    } else {
        let engine = Engine::open(&folder.path().join("engine"), EngineOptions::default())?;
        Arc::new(EmbeddedBackend::new(engine))
    };
    filled(&*source, &values).await?;
    for round in 0..ROUNDS {
        let target = target(engine, folder.path()).await?;
        let ours = migrate(&source, target, count).await?;
        let begun = SystemEnv.monotonic();
        match engine {
            "redis" => bulk::redis(&unique("bulk"), &values).await?,
            "postgres" => bulk::postgres(&unique("bulk"), &values).await?,
            "mysql" => bulk::mysql(&unique("bulk"), &values).await?,
            "sqlite" => bulk::sqlite(&folder.path().join(unique("bulk")), &values)?,
            "rclone" => bulk::rclone(&plain, &unique("bulk"))?,
            _ => bulk::s3(&unique("bulk"), &values).await?,
        }
        let bare = (SystemEnv.monotonic() - begun).as_secs_f64();
        writeln!(
            std::io::stdout(),
            "{engine} round {round}: {count} objects of {bytes} bytes: {:.0} a second, its own way \
             {:.0}, {:.2}x",
            count as f64 / ours,
            count as f64 / bare,
            bare / ours
        )?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let engines = [
        ("redis", 100_000, 1024),
        ("postgres", 50_000, 1024),
        ("mysql", 50_000, 1024),
        ("sqlite", 50_000, 1024),
        ("s3", 5_000, 16 << 10),
        ("rclone", 5_000, 16 << 10),
    ];
    for (engine, count, bytes) in engines {
        if wanted.is_empty() || wanted.iter().any(|name| name == engine) {
            compare(engine, count, bytes).await?;
        }
    }
    Ok(())
}

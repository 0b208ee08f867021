//! What keeping earlier versions costs: overwriting keys of the embedded engine with and without.
//!
//! `cargo run --release -p sira-store --example version_speed [SECONDS]`
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures and prints")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::version_history::KeepVersions;
use sira_store::{Durability, StorageClient, StorageOptions};

const KEYS: usize = 1_000;
const ROUNDS: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes a second of so many writers, each to keys of its own.
async fn run(
    client: &StorageClient,
    namespace: &str,
    writers: usize,
    bytes: usize,
    time: Duration,
) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let space = client.namespace(namespace);
        tasks.push(tokio::spawn(async move {
            let mut written = 0_usize;
            while began.elapsed() < time {
                let key = format!("{writer}/{}", written % KEYS);
                let value = vec![written as u8; bytes];
                space.store(&key, value, StorageOptions::default()).await?;
                written += 1;
            }
            Ok::<usize, Failure>(written)
        }));
    }
    let mut written = 0;
    for task in tasks {
        written += task.await??;
    }
    Ok(written as f64 / began.elapsed().as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    println!("durability  bytes writers     without        with   ratio");
    for (name, durability) in [("none", Durability::None), ("sync", Durability::Sync)] {
        let folder = tempfile::tempdir()?;
        let options = EngineOptions { durability, ..EngineOptions::default() };
        let engine = Engine::open(folder.path(), options)?;
        let keep_versions = Some(KeepVersions { count: Some(3), age: None });
        let kept = NamespacePolicy { keep_versions, ..NamespacePolicy::default() };
        let mut plan = StoragePlan::default();
        plan.backends.insert("embedded".to_owned(), Arc::new(EmbeddedBackend::new(engine)));
        plan.default_backend = Some("embedded".to_owned());
        plan.namespaces = BTreeMap::from([("kept".to_owned(), kept)]);
        let client = StorageClient::new();
        client.apply(plan)?;
        for (bytes, writers) in [(1024, 1), (1024, 16), (65_536, 1)] {
            let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let one = run(&client, "plain", writers, bytes, time).await?;
                let other = run(&client, "kept", writers, bytes, time).await?;
                without.push(one);
                with.push(other);
                ratios.push(other / one);
            }
            println!(
                "{name:<10} {bytes:>6} {writers:>7} {:>9.0}/s {:>9.0}/s {:>7.2}",
                median(without),
                median(with),
                median(ratios)
            );
        }
    }
    Ok(())
}

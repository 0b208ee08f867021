//! What the client adds to an operation of the backend underneath, by plan: nothing said, and with a
//! catalog and a router. Rounds of bare backend and client take turns.
//! `cargo run --release -p sira-store --example client_overhead`

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use sira_store::client::StoragePlan;
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::env::{Env, SystemEnv};
use sira_store::placement::Catalog;
use sira_store::router::{DataPattern, StorageRouter};
use sira_store::{
    Bytes, Durability, EmbeddedBackend, MemoryBackend, StorageBackend, StorageClient,
    StorageOptions,
};

const KEYS: usize = 10_000;
const OPERATIONS: usize = 200_000;
const ROUNDS: usize = 9;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn client(backend: &Arc<dyn StorageBackend>, routed: bool) -> Result<StorageClient> {
    let mut plan = StoragePlan {
        backends: BTreeMap::from([("one".to_owned(), Arc::clone(backend))]),
        default_backend: Some("one".to_owned()),
        ..StoragePlan::default()
    };
    if routed {
        plan.catalog = Some(Catalog::new(Arc::new(MemoryBackend::new(64 << 20)))?);
        let mut router = StorageRouter::new();
        router.add_data_pattern("other:*", DataPattern::to("one"))?;
        router.set_default_backend("one");
        plan.router = Some(Arc::new(router));
    }
    let client = StorageClient::new();
    client.apply(plan)?;
    Ok(client)
}

fn nanos(begun: std::time::Duration) -> f64 {
    (SystemEnv.monotonic() - begun).as_nanos() as f64 / OPERATIONS as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn compare(
    out: &mut impl Write,
    title: &str,
    backend: Arc<dyn StorageBackend>,
    options: &StorageOptions,
) -> Result<()> {
    let clients = [client(&backend, false)?, client(&backend, true)?];
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key:{number:08}")).collect();
    let value = Bytes::from(vec![7; 100]);
    let key = |at: usize| &keys[at.wrapping_mul(7919) % KEYS];
    let mut figures: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        let begun = SystemEnv.monotonic();
        for at in 0..OPERATIONS {
            backend.put(key(at), value.clone(), options.clone()).await?;
        }
        figures[0].push(nanos(begun));
        for (number, client) in clients.iter().enumerate() {
            let begun = SystemEnv.monotonic();
            for at in 0..OPERATIONS {
                client.store(key(at), value.clone(), options.clone()).await?;
            }
            figures[1 + number].push(nanos(begun));
        }
        let begun = SystemEnv.monotonic();
        for at in 0..OPERATIONS {
            backend.get(key(at)).await?;
        }
        figures[3].push(nanos(begun));
        for (number, client) in clients.iter().enumerate() {
            let begun = SystemEnv.monotonic();
            for at in 0..OPERATIONS {
                client.retrieve(key(at)).await?;
            }
            figures[4 + number].push(nanos(begun));
        }
    }
    let [put, put_client, put_routed, get, get_client, get_routed] = figures.map(median);
    writeln!(
        out,
        "{title}: put {put:.0} ns, client +{:.0}, routed +{:.0}; get {get:.0} ns, client +{:.0}, \
         routed +{:.0}",
        put_client - put,
        put_routed - put,
        get_client - get,
        get_routed - get,
    )?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    let plain = StorageOptions::default();
    compare(&mut out, "memory", Arc::new(MemoryBackend::new(256 << 20)), &plain).await?;
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path(), EngineOptions::default())?;
    let quick = StorageOptions { durability: Some(Durability::None), ..plain };
    compare(&mut out, "embedded", Arc::new(EmbeddedBackend::new(engine)), &quick).await
}

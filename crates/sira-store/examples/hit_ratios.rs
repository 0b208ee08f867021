//! How often reads through a cache hit, by policy: reads by Zipf's law, and those of a real trace,
//! with memory for a tenth of all that they touch.
//! `cargo run --release -p sira-store --example hit_ratios -- conversation_trace.jsonl`

use std::io::Write;
use std::sync::Arc;

use sira_store::cache::{CacheBackend, CacheOptions, CachePolicy, EvictionPolicy};
use sira_store::env::SeededRandom;
use sira_store::router::simulate::from_prefix_trace;
use sira_store::{MemoryBackend, StorageBackend, StorageOptions};

const POLICIES: [EvictionPolicy; 6] = [
    EvictionPolicy::S3Fifo,
    EvictionPolicy::WTinyLfu,
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Ttl,
    EvictionPolicy::Adaptive,
];

/// Bytes of each value.
const VALUE_BYTES: usize = 256;

/// `count` reads of `keys` keys, with this exponent.
fn zipf(count: usize, keys: u32, exponent: f64, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    let mut random = SeededRandom::new(seed);
    let mut draw = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
    (0..count).map(|_| draw()).map(|at| sums.partition_point(|sum| *sum < at) as u64).collect()
}

fn name(key: u64) -> String {
    format!("{key:016x}")
}

/// Reads each key in turn through a cache of this many bytes: the share of hits, and the bytes that
/// the cache holds in the end.
async fn run(
    primary: &Arc<dyn StorageBackend>,
    eviction: EvictionPolicy,
    memory_bytes: u64,
    reads: &[u64],
) -> sira_store::Result<(f64, u64)> {
    let policy = CachePolicy { eviction, exclusive: true, ..CachePolicy::default() };
    let options = CacheOptions { memory_bytes, policy, ..CacheOptions::default() };
    let cache = CacheBackend::new(Arc::clone(primary), options)?;
    for key in reads {
        cache.get(&name(*key)).await?;
    }
    let stats = cache.cache_stats();
    Ok((stats.memory_hits as f64 / reads.len() as f64, stats.memory_bytes))
}

async fn table(title: &str, reads: &[u64]) -> Result<(), Box<dyn std::error::Error>> {
    let primary: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(4 << 30));
    let mut keys = reads.to_vec();
    keys.sort_unstable();
    keys.dedup();
    for key in &keys {
        let value = vec![0; VALUE_BYTES].into();
        primary.put(&name(*key), value, StorageOptions::default()).await?;
    }
    let (most, footprint) = run(&primary, EvictionPolicy::Lru, 4 << 30, reads).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{title}: {} reads of {} keys, {footprint} bytes", reads.len(), keys.len())?;
    writeln!(out, "  {:<12} {:>6.2} %", "no eviction", most * 100.0)?;
    for policy in POLICIES {
        let (ratio, bytes) = run(&primary, policy, footprint / 10, reads).await?;
        let part = bytes as f64 * 100.0 / footprint as f64;
        let label = format!("{policy:?}");
        writeln!(out, "  {label:<12} {:>6.2} %  with {part:.1} % of the bytes", ratio * 100.0)?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for seed in [7, 8, 9] {
        let reads = zipf(2_000_000, 100_000, 0.9, seed);
        table(&format!("Zipf 0.9, seed {seed}"), &reads).await?;
    }
    let Some(path) = std::env::args().nth(1) else { return Ok(()) };
    let log = from_prefix_trace(&std::fs::read_to_string(path)?, VALUE_BYTES as u64)?;
    let block = |key: &str| key.trim_start_matches("block:").parse();
    let reads: Result<Vec<u64>, _> = log.iter().map(|access| block(&access.key)).collect();
    table("trace", &reads?).await
}

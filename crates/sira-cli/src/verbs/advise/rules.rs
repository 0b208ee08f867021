//! From figures to advice. Each rule wants enough evidence, and names the figure that it rests on.

use sira_store::CompressionType;

use super::Advice;
use super::facts::Facts;
use crate::config::storage::StorageConfig;
use crate::units::human_size;

/// A server that has run for less says nothing of its caches.
const UPTIME_S_MIN: f64 = 3600.0;

/// Reads without which a hit ratio says nothing.
const READS_MIN: f64 = 1000.0;

/// Objects without which a sample says nothing.
const OBJECTS_MIN: u64 = 10;

/// Part of the bytes that compression must save to be worth its time.
const SAVED_MIN: f64 = 0.2;

/// Age from which an object is cold.
const COLD_MS: u64 = 30 * 24 * 3600 * 1000;

/// Part of the bytes that must be cold to speak of it.
const COLD_MIN: f64 = 0.5;

/// Mean size from which values are large for engines of rows and of memory.
const LARGE_BYTES: f64 = 1_048_576.0;

/// Mean size below which a request to an object store costs more than its bytes.
const SMALL_BYTES: f64 = 16_384.0;

/// Writes without which a mean size says nothing.
const WRITES_MIN: f64 = 100.0;

/// Engines that keep objects cheaply and answer slowly.
const OBJECT_STORES: [&str; 4] = ["s3", "minio", "azure", "gcs"];

/// Engines that large values do harm.
const SMALL_VALUE_ENGINES: [&str; 8] =
    ["redis", "etcd", "postgres", "mysql", "sqlite", "mongodb", "cassandra", "opensearch"];

/// All advice that the facts give, for a server that is configured like this.
pub fn all(facts: &Facts, config: &StorageConfig) -> Vec<Advice> {
    let mut advice = Vec::new();
    caches(facts, &mut advice);
    compression(facts, config, &mut advice);
    tiering(facts, &mut advice);
    engines(facts, &mut advice);
    space(facts, &mut advice);
    advice
}

fn caches(facts: &Facts, advice: &mut Vec<Advice>) {
    for namespace in facts.values("sira_cache_memory_bytes_max", "namespace") {
        let of = |name: &str| facts.sum(name, &[("namespace", &namespace)]);
        let (used, most) = (of("sira_cache_memory_bytes"), of("sira_cache_memory_bytes_max"));
        let (hits, misses) = (of("sira_cache_hits_total"), of("sira_cache_misses_total"));
        let evicted = of("sira_cache_evictions_total");
        let reads = hits + misses;
        if facts.uptime_s < UPTIME_S_MIN || reads < READS_MIN {
            continue;
        }
        let percent = hits / reads * 100.0;
        let lines = |memory: f64| {
            let mib = (memory / 1_048_576.0).ceil().max(1.0);
            format!("[namespaces.{namespace}.cache]\nmemory = \"{mib:.0}MiB\"")
        };
        let (used_text, most_text) = (human_size(used as u64), human_size(most as u64));
        let (found, apply) = if evicted == 0.0 && used < most / 4.0 {
            let found = format!(
                "its cache has {used_text} of {most_text} in use, and has never \
                                 had to make room: half as much again is enough"
            );
            (found, lines(used * 1.5))
        } else if percent < 10.0 {
            let found = format!(
                "its cache answered {percent:.1}% of {reads:.0} reads: it costs \
                                 memory and saves next to nothing"
            );
            (found, format!("remove the section [namespaces.{namespace}.cache]"))
        } else if percent < 80.0 && evicted > misses / 2.0 && used > most * 0.9 {
            let found = format!(
                "its cache of {most_text} is full, answered {percent:.1}% of the \
                                 reads and threw out {evicted:.0} entries: more memory would \
                                 keep them"
            );
            (found, lines(most * 2.0))
        } else {
            continue;
        };
        advice.push(Advice { topic: "cache", about: namespace, found, apply });
    }
}

fn compression(facts: &Facts, config: &StorageConfig, advice: &mut Vec<Advice>) {
    for (namespace, sample) in &facts.samples {
        let own = config.namespaces.get(namespace);
        let set = own.and_then(|own| own.compression).unwrap_or(config.compression);
        let is_direct = own.is_some_and(|own| own.direct || own.plain);
        if set != CompressionType::None || is_direct || sample.objects < OBJECTS_MIN {
            continue;
        }
        let saved = 1.0 - sample.zstd_bytes as f64 / sample.bytes.max(1) as f64;
        if saved < SAVED_MIN {
            continue;
        }
        let found = format!(
            "Zstandard saves {:.0}% of {} sampled in {} objects",
            saved * 100.0,
            human_size(sample.bytes),
            sample.objects
        );
        let apply = format!("[namespaces.{namespace}]\ncompression = \"zstd\"");
        advice.push(Advice { topic: "compression", about: namespace.clone(), found, apply });
    }
}

fn tiering(facts: &Facts, advice: &mut Vec<Advice>) {
    let store = facts.engines.iter().find(|(_, engine)| OBJECT_STORES.contains(&engine.as_str()));
    let Some((store, _)) = store else { return };
    for (namespace, sample) in &facts.samples {
        if sample.objects < OBJECTS_MIN {
            continue;
        }
        let all: u64 = sample.written.iter().map(|(_, size)| size).sum();
        let is_cold = |at: u64| facts.now_ms.saturating_sub(at) >= COLD_MS;
        let cold: u64 =
            sample.written.iter().filter(|(at, _)| is_cold(*at)).map(|(_, size)| size).sum();
        let part = cold as f64 / all.max(1) as f64;
        if part < COLD_MIN {
            continue;
        }
        let found = format!(
            "{:.0}% of {} sampled in {} objects were written more than 30 days ago",
            part * 100.0,
            human_size(all),
            sample.objects
        );
        let apply =
            format!("sira -N {namespace} migrate embedded {store} 'PATTERN OF WHAT IS COLD'");
        advice.push(Advice { topic: "tiering", about: namespace.clone(), found, apply });
    }
}

fn engines(facts: &Facts, advice: &mut Vec<Advice>) {
    for (backend, engine) in &facts.engines {
        let of = |operation: &str| {
            let labels =
                [("backend", backend.as_str()), ("operation", operation), ("outcome", "success")];
            facts.sum("sira_backend_operations_total", &labels)
        };
        let writes = of("put") + of("put_stream");
        if writes < WRITES_MIN {
            continue;
        }
        let labels = [("backend", backend.as_str()), ("direction", "in")];
        let mean = facts.sum("sira_backend_value_bytes_total", &labels) / writes;
        let size = human_size(mean as u64);
        let (found, apply) = if mean >= LARGE_BYTES
            && SMALL_VALUE_ENGINES.contains(&engine.as_str())
        {
            let found = format!(
                "values written to {engine} are {size} in the mean, over {writes:.0} \
                                 writes: the embedded engine and object stores take them better"
            );
            (found, "[namespaces.NAMESPACE]\nbackends = [\"embedded\"]".to_owned())
        } else if mean < SMALL_BYTES && OBJECT_STORES.contains(&engine.as_str()) {
            let found = format!(
                "values written to {engine} are {size} in the mean, over {writes:.0} \
                                 writes: each costs a request; the embedded engine takes them better"
            );
            (found, "[namespaces.NAMESPACE]\nbackends = [\"embedded\"]".to_owned())
        } else {
            continue;
        };
        advice.push(Advice { topic: "engine", about: backend.clone(), found, apply });
    }
}

fn space(facts: &Facts, advice: &mut Vec<Advice>) {
    let (live, dead) =
        (facts.sum("sira_store_live_bytes", &[]), facts.sum("sira_store_dead_bytes", &[]));
    // A segment with less dead than alive is left as it is; so is what the last segments hold.
    if dead < live || dead < 1e9 || facts.uptime_s < UPTIME_S_MIN {
        return;
    }
    let found = format!(
        "{} of the data folder are dead, and {} alive: space is not reclaimed as it should be",
        human_size(dead as u64),
        human_size(live as u64)
    );
    let apply = "sira doctor, and look in the server's log for failed maintenance".to_owned();
    advice.push(Advice { topic: "space", about: "embedded".to_owned(), found, apply });
}

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::super::facts::{Facts, read_line};
use super::super::sample::Sample;
use super::*;
use crate::config::storage::NamespaceConfig;

fn facts(lines: &str) -> Facts {
    Facts {
        uptime_s: 7200.0,
        metrics: lines.lines().filter_map(read_line).collect(),
        now_ms: 2 * COLD_MS,
        ..Facts::default()
    }
}

fn topics(facts: &Facts, config: &StorageConfig) -> Vec<(&'static str, String)> {
    all(facts, config).into_iter().map(|it| (it.topic, it.apply)).collect()
}

fn cache(used: u64, hits: u64, misses: u64, evicted: u64) -> Facts {
    facts(&format!(
        "sira_cache_memory_bytes{{namespace=\"n\"}} {used}\n\
         sira_cache_memory_bytes_max{{namespace=\"n\"}} 104857600\n\
         sira_cache_hits_total{{namespace=\"n\",tier=\"memory\"}} {hits}\n\
         sira_cache_hits_total{{namespace=\"n\",tier=\"disk\"}} 1\n\
         sira_cache_misses_total{{namespace=\"n\"}} {misses}\n\
         sira_cache_evictions_total{{namespace=\"n\"}} {evicted}\n"
    ))
}

#[test]
fn caches_are_to_be_as_large_as_they_are_used() {
    let config = StorageConfig::default();
    let one = |facts: &Facts| topics(facts, &config).pop().map(|(_, apply)| apply);
    let smaller = one(&cache(10 << 20, 9000, 1000, 0)).unwrap();
    assert_eq!(smaller, "[namespaces.n.cache]\nmemory = \"15MiB\"");
    let larger = one(&cache(100 << 20, 5000, 5000, 4000)).unwrap();
    assert_eq!(larger, "[namespaces.n.cache]\nmemory = \"200MiB\"");
    assert!(one(&cache(100 << 20, 10, 5000, 4000)).unwrap().starts_with("remove the section"));
    assert_eq!(one(&cache(90 << 20, 9000, 1000, 500)), None);
    assert_eq!(one(&cache(10 << 20, 90, 10, 0)), None, "too few reads");
    let young = Facts { uptime_s: 60.0, ..cache(10 << 20, 9000, 1000, 0) };
    assert_eq!(one(&young), None);
}

#[test]
fn compression_is_worth_its_time_where_it_saves() {
    let with = |zstd_bytes| Facts {
        samples: BTreeMap::from([(
            "n".to_owned(),
            Sample { objects: 50, bytes: 1000, zstd_bytes, written: Vec::new() },
        )]),
        ..facts("")
    };
    let mut config = StorageConfig::default();
    let found = all(&with(390), &config);
    assert!(found[0].found.contains("saves 61%"), "{}", found[0].found);
    assert_eq!(found[0].apply, "[namespaces.n]\ncompression = \"zstd\"");
    assert_eq!(all(&with(900), &config), []);
    config.compression = CompressionType::Auto;
    assert_eq!(all(&with(390), &config), []);
    let direct = NamespaceConfig { direct: true, ..NamespaceConfig::default() };
    config = StorageConfig { namespaces: [("n".to_owned(), direct)].into(), ..Default::default() };
    assert_eq!(all(&with(390), &config), []);
}

#[test]
fn what_is_cold_belongs_on_an_object_store_if_there_is_one() {
    let written = (0..20).map(|n| (if n < 15 { 0 } else { 2 * COLD_MS }, 100)).collect();
    let sample = Sample { objects: 20, bytes: 10, zstd_bytes: 10, written };
    let mut facts = Facts { samples: [("n".to_owned(), sample)].into(), ..facts("") };
    let config = StorageConfig::default();
    assert_eq!(all(&facts, &config), []);
    facts.engines = [("archive".to_owned(), "s3".to_owned())].into();
    let found = all(&facts, &config);
    assert!(found[0].found.contains("75%") && found[0].apply.contains("archive"), "{found:?}");
}

#[test]
fn engines_hold_values_of_their_size() {
    let engine = |engine: &str, mean: u64| {
        let bytes = mean * 200;
        let mut facts = facts(&format!(
            "sira_backend_operations_total{{backend=\"b\",operation=\"put\",outcome=\"success\"}} 200\n\
             sira_backend_operations_total{{backend=\"b\",operation=\"put\",outcome=\"timeout\"}} 9\n\
             sira_backend_value_bytes_total{{backend=\"b\",direction=\"in\"}} {bytes}\n"
        ));
        facts.engines = [("b".to_owned(), engine.to_owned())].into();
        topics(&facts, &StorageConfig::default()).len()
    };
    assert_eq!(engine("redis", 3 << 20), 1);
    assert_eq!(engine("redis", 3 << 10), 0);
    assert_eq!(engine("s3", 3 << 10), 1);
    assert_eq!(engine("s3", 3 << 20), 0);
    assert_eq!(engine("embedded", 3 << 20), 0);
}

#[test]
fn space_that_is_not_given_back_is_told() {
    let with =
        |dead: u64| facts(&format!("sira_store_live_bytes 2e9\nsira_store_dead_bytes {dead}\n"));
    let config = StorageConfig::default();
    assert_eq!(topics(&with(3_000_000_000), &config)[0].0, "space");
    assert!(topics(&with(1_000_000_000), &config).is_empty());
}

#[test]
fn lines_of_metrics_are_read() {
    assert_eq!(read_line("# TYPE a counter"), None);
    let facts = facts("a{x=\"q\\\"u\\\\o,te}\",y=\"2\"} 1.5\na{x=\"z\",y=\"2\"} 2\nb 7");
    assert_eq!(facts.sum("a", &[("y", "2")]), 3.5);
    assert_eq!(facts.sum("a", &[("x", "q\"u\\o,te}")]), 1.5);
    assert_eq!(facts.sum("b", &[]), 7.0);
    assert_eq!(facts.values("a", "x"), ["q\"u\\o,te}", "z"]);
}

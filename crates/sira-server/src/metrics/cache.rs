//! Figures of the namespaces' caches.

use std::collections::BTreeMap;

use sira_store::cache::CacheStats;

use super::{Kind, MetricFamilies};

/// A family: name, kind, help, and what it tells of one cache.
type Family = (&'static str, Kind, &'static str, fn(&CacheStats) -> u64);

const FAMILIES: [Family; 6] = [
    (
        "sira_cache_misses_total",
        Kind::Counter,
        "Reads that no tier of a namespace's cache answered.",
        |stats| stats.loads + stats.passed,
    ),
    (
        "sira_cache_evictions_total",
        Kind::Counter,
        "Entries that went from memory to make room.",
        |stats| stats.evictions,
    ),
    ("sira_cache_memory_bytes", Kind::Gauge, "Bytes of the entries in memory.", |stats| {
        stats.memory_bytes
    }),
    ("sira_cache_memory_bytes_max", Kind::Gauge, "Most bytes that they may take.", |stats| {
        stats.memory_bytes_max
    }),
    ("sira_cache_write_back_bytes", Kind::Gauge, "Bytes of writes that are kept back.", |stats| {
        stats.write_back_bytes
    }),
    (
        "sira_cache_write_back_lost_total",
        Kind::Counter,
        "Writes that were answered and never reached the backend, because it refused them.",
        |stats| stats.write_back_lost,
    ),
];

/// Writes the figures, by namespace.
pub fn write(caches: &BTreeMap<String, CacheStats>, out: &mut MetricFamilies) {
    if caches.is_empty() {
        return;
    }
    let help = "Reads that a namespace's cache answered, by tier; `validated` ones after the backend \
                confirmed the version.";
    out.family("sira_cache_hits_total", Kind::Counter, help);
    for (namespace, stats) in caches {
        for (tier, hits) in [
            ("memory", stats.memory_hits),
            ("disk", stats.disk_hits),
            ("remote", stats.remote_hits),
            ("validated", stats.validated_hits),
        ] {
            out.sample(&[("namespace", namespace), ("tier", tier)], hits as f64);
        }
    }
    for (name, kind, help, value) in FAMILIES {
        out.family(name, kind, help);
        for (namespace, stats) in caches {
            out.sample(&[("namespace", namespace)], value(stats) as f64);
        }
    }
}

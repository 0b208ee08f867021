//! How far replicated namespaces are behind.

use std::collections::BTreeMap;

use sira_store::placement::Behind;

use super::{Kind, MetricFamilies};

/// Writes the figures of every replicated namespace.
pub fn write(behind: &BTreeMap<String, Behind>, out: &mut MetricFamilies) {
    out.family(
        "sira_replicas_behind_objects",
        Kind::Gauge,
        "Objects of which a replica is known to be behind.",
    );
    for (namespace, behind) in behind {
        out.sample(&[("namespace", namespace)], behind.objects as f64);
    }
    out.family(
        "sira_replica_lag_seconds",
        Kind::Gauge,
        "For how long the first of the objects that are behind on a replica has been so.",
    );
    for (namespace, behind) in behind {
        out.sample(&[("namespace", namespace)], behind.lag.as_secs_f64());
    }
}

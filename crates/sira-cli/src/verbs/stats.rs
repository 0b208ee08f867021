//! `sira stats`: figures of every backend of a server.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::human_size;

/// What the server tells.
#[derive(Debug, Serialize, Deserialize)]
struct Stats {
    uptime_s: f64,
    default_backend: Option<String>,
    backends: BTreeMap<String, Value>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server.
pub fn run(config: &Config, output: Output) -> Outcome {
    let stats: Stats = HttpTarget::new(config)?.ask("/stats")?;
    output.result(&stats, || table(&stats))
}

fn table(stats: &Stats) -> String {
    let mut out = format!(
        "{:<18} {:<12} {:<9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>8}",
        "BACKEND", "ENGINE", "HEALTH", "KEYS", "USED", "OPS", "P50 ms", "P99 ms", "FAILED"
    );
    for (name, report) in &stats.backends {
        let text = |path: &str| report.pointer(path).and_then(Value::as_str).unwrap_or("-");
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64);
        let count = |path: &str| number(path).map_or("-".to_owned(), |count| count.to_string());
        let time = |path: &str| {
            let ms = report.pointer(path).and_then(Value::as_f64);
            ms.map_or("-".to_owned(), |ms| format!("{ms:.3}"))
        };
        let default = if stats.default_backend.as_ref() == Some(name) { "*" } else { "" };
        let _ = write!(
            out,
            "\n{:<18} {:<12} {:<9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>8}",
            format!("{}{default}", printable(name)),
            text("/engine"),
            text("/status"),
            count("/storage/keys"),
            number("/storage/used_bytes").map_or("-".to_owned(), human_size),
            count("/operations/operations_total"),
            time("/operations/p50_response_time"),
            time("/operations/p99_response_time"),
            count("/operations/operations_failed"),
        );
        if let Some(reason) = report.get("reason").and_then(Value::as_str) {
            let _ = write!(out, "\n  {}", printable(reason));
        }
    }
    out
}

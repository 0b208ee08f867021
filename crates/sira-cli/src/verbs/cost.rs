//! `sira cost`: what storage and operations of a server cost, by backend and namespace.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::human_size;
use crate::verbs::capacity::span;

/// What the server tells.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    currency: Option<String>,
    backends: BTreeMap<String, Line>,
    namespaces: BTreeMap<String, BTreeMap<String, Line>>,
    total: Bill,
    unpriced: Vec<String>,
}

/// A backend, or a namespace on one.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prices: Option<serde_json::Value>,
    measured: Measured,
    bill: Option<Bill>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_bytes: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    stored_bytes: u64,
    reads: u64,
    writes: u64,
    read_bytes: u64,
    counted_seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bill {
    storage_per_month: f64,
    operations_counted: f64,
    operations_per_month: Option<f64>,
    total_per_month: Option<f64>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server.
pub fn run(config: &Config, output: Output) -> Outcome {
    let report: Report = HttpTarget::new(config)?.ask("/cost")?;
    if !report.unpriced.is_empty() {
        let names = report.unpriced.join(", ");
        output
            .note(&format!("no prices for {}: see [cost] of the configuration", printable(&names)));
    }
    output.result(&report, || table(&report))
}

fn table(report: &Report) -> String {
    let unit = report.currency.as_deref().map(printable).unwrap_or_default();
    let heading = |first: &str| {
        format!(
            "{first:<36} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12}",
            "STORED", "READS", "WRITES", "READ", "STORAGE/MON", "OPS/MON", "TOTAL/MON"
        )
    };
    let mut out = heading("BACKEND");
    for (name, line) in &report.backends {
        let _ = write!(out, "\n{}", row(&printable(name), line));
    }
    let total = &report.total;
    let _ = write!(
        out,
        "\n{:<36} {:>43} {:>12} {:>12} {:>12} {unit}",
        "total",
        "",
        money(Some(total.storage_per_month)),
        money(total.operations_per_month),
        money(total.total_per_month),
    );
    if !report.namespaces.is_empty() {
        let _ = write!(out, "\n\n{}", heading("NAMESPACE"));
        for (name, on) in &report.namespaces {
            for (backend, line) in on {
                let name = format!("{} on {}", printable(name), printable(backend));
                let _ = write!(out, "\n{}", row(&name, line));
            }
        }
    }
    let counted = report.backends.values().map(|line| line.measured.counted_seconds);
    let counted = span(counted.fold(0.0, f64::max) / 86_400.0);
    let _ = write!(
        out,
        "\n\nmeasured: what is stored now, and operations of the last {counted}, since the start of \
         the server\nreckoned: a month of 30 days with as much stored, and operations at that rate \
         (after 1 h)"
    );
    out
}

fn row(name: &str, line: &Line) -> String {
    let Measured { stored_bytes, reads, writes, read_bytes, .. } = line.measured;
    let bill = line.bill.as_ref();
    format!(
        "{name:<36} {:>10} {reads:>10} {writes:>10} {:>10} {:>12} {:>12} {:>12}",
        human_size(stored_bytes),
        human_size(read_bytes),
        money(bill.map(|bill| bill.storage_per_month)),
        money(bill.and_then(|bill| bill.operations_per_month)),
        money(bill.and_then(|bill| bill.total_per_month)),
    )
}

/// An amount of money; small ones with more digits.
fn money(amount: Option<f64>) -> String {
    match amount {
        None => "-".to_owned(),
        Some(amount) if amount != 0.0 && amount.abs() < 0.1 => format!("{amount:.6}"),
        Some(amount) => format!("{amount:.2}"),
    }
}

//! What was measured.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::BenchArgs;
use super::histogram::Histogram;
use super::workload::Op;
use crate::failure::Outcome;
use crate::output::Output;
use crate::units::{human_duration, human_size};

/// What one run did.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Length, from the first operation to the last answer.
    pub elapsed: Duration,
    /// Latencies, by kind of operation.
    pub latencies: [Histogram; 3],
    /// Reads that found nothing, which a mix with deletes expects.
    pub misses: u64,
}

impl Run {
    /// Counts an operation.
    pub fn add(&mut self, op: Op, latency: Duration) {
        self.latencies[op as usize].add(latency, 1);
    }

    /// Adds what another client did in the same run.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.merge(theirs);
        }
        self.misses += other.misses;
    }
}

/// All runs.
#[derive(Debug)]
pub struct Report {
    target: String,
    value_bytes: u64,
    keys: u64,
    clients: u32,
    pipeline: u32,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct ReportRecord<'a> {
    verb: &'static str,
    target: &'a str,
    value_bytes: u64,
    keys: u64,
    clients: u32,
    pipeline: u32,
    runs: usize,
    seconds: f64,
    misses: u64,
    operations: Vec<OpRecord>,
}

#[derive(Serialize)]
struct OpRecord {
    operation: &'static str,
    count: u64,
    /// Median of the runs.
    per_second: f64,
    per_second_min: f64,
    per_second_max: f64,
    /// (max - min) / median, in percent.
    spread_percent: f64,
    bytes_per_second: f64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
    max_us: f64,
}

impl Report {
    /// No run yet.
    pub fn new(args: &BenchArgs, target: String) -> Self {
        Self {
            target,
            value_bytes: args.value_size,
            keys: args.keys,
            clients: args.clients,
            pipeline: args.pipeline,
            runs: Vec::new(),
        }
    }

    /// Adds a run.
    pub fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show(&self, output: Output) -> Outcome {
        let mut operations: Vec<OpRecord> =
            Op::ALL.iter().filter_map(|op| self.operation(op.name(), &[*op])).collect();
        if operations.len() > 1 {
            operations.extend(self.operation("all", &Op::ALL));
        }
        let record = ReportRecord {
            verb: "bench",
            target: &self.target,
            value_bytes: self.value_bytes,
            keys: self.keys,
            clients: self.clients,
            pipeline: self.pipeline,
            runs: self.runs.len(),
            seconds: self.runs.iter().map(|run| run.elapsed.as_secs_f64()).sum(),
            misses: self.runs.iter().map(|run| run.misses).sum(),
            operations,
        };
        output.result(&record, || text(&record))
    }

    fn operation(&self, name: &'static str, ops: &[Op]) -> Option<OpRecord> {
        let mut all = Histogram::default();
        let mut rates = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let count: u64 = ops.iter().map(|op| run.latencies[*op as usize].total()).sum();
            rates.push(count as f64 / run.elapsed.as_secs_f64().max(1e-9));
            for op in ops {
                all.merge(&run.latencies[*op as usize]);
            }
        }
        rates.sort_by(f64::total_cmp);
        let (min, max) = (*rates.first()?, *rates.last()?);
        let median = median(&rates)?;
        if all.total() == 0 {
            return None;
        }
        let us = |duration: Duration| (duration.as_secs_f64() * 1e7).round() / 10.0;
        let moves_bytes = name != Op::Delete.name() && name != "all";
        Some(OpRecord {
            operation: name,
            count: all.total(),
            per_second: median.round(),
            per_second_min: min.round(),
            per_second_max: max.round(),
            spread_percent: ((max - min) / median * 1000.0).round() / 10.0,
            bytes_per_second: if moves_bytes {
                (median * self.value_bytes as f64).round()
            } else {
                0.0
            },
            p50_us: us(all.quantile(0.50)),
            p95_us: us(all.quantile(0.95)),
            p99_us: us(all.quantile(0.99)),
            max_us: us(all.max()),
        })
    }
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(*upper) } else { Some((sorted.get(middle - 1)? + upper) / 2.0) }
}

fn text(record: &ReportRecord<'_>) -> String {
    let mut out = format!(
        "{:8} {:>12} {:>8} {:>13} {:>10} {:>10} {:>10} {:>10}",
        "", "ops/s", "spread", "bytes/s", "p50", "p95", "p99", "max"
    );
    for op in &record.operations {
        let time = |us: f64| human_duration(Duration::from_secs_f64(us / 1e6));
        let bytes = if op.bytes_per_second > 0.0 {
            human_size(op.bytes_per_second as u64)
        } else {
            "-".to_owned()
        };
        let _ = write!(
            out,
            "\n{:8} {:>12} {:>7}% {bytes:>13} {:>10} {:>10} {:>10} {:>10}",
            op.operation,
            op.per_second,
            op.spread_percent,
            time(op.p50_us),
            time(op.p95_us),
            time(op.p99_us),
            time(op.max_us),
        );
    }
    if record.misses > 0 {
        let _ = write!(out, "\n{} reads found nothing", record.misses);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[]), None);
    }
}

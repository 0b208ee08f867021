//! Replays an access log against policies that learn and against the best choice that does not
//! change, over models of two backends.
//! `cargo run --release -p sira-store --example route_replay -- conversation_trace.jsonl`
//!
//! The log is a trace of prompts in the Mooncake format; without one, a generated load.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use sira_store::StorageError;
use sira_store::env::SimEnv;
use sira_store::router::simulate::{
    Access, BackendModel, Reads, Report, Simulation, SkewedLoad, Slowdown, from_prefix_trace,
};
use sira_store::router::{
    Adaptive, BackendProfile, PerformanceBased, Predictive, RoutingStrategy, Weighted,
};

/// Bytes of a block of the trace.
const BLOCK_BYTES: u64 = 16 << 10;
/// Milliseconds between two times that the trace tells apart.
const STEP_MS: u64 = 3000;
/// Weights of the fast backend that the best static choice is taken from, in hundredths.
const STATIC_STEP: usize = 5;

type Strategies = Vec<Box<dyn RoutingStrategy>>;
type Make<'a> = &'a dyn Fn(&Arc<SimEnv>) -> Strategies;

fn generated(seed: u64) -> Vec<Access> {
    let load = SkewedLoad {
        seed,
        length_ms: 240_000,
        per_second: 500.0,
        swing: 0.8,
        period_ms: 60_000,
        keys: 10_000,
        drift_ms: 40_000,
        writes: 0.3,
        sizes: (100, 20_000),
    };
    load.accesses()
}

/// A backend that is quick until it is full, and one that is slow and wide. For an eighth of the
/// time, past the middle, the quick one may take eight times as long.
fn simulation(seed: u64, length_ms: u64, slowed: bool) -> Simulation {
    let model = |service_ms, workers, operations_per_s| BackendModel {
        profile: BackendProfile {
            latency_ms: service_ms,
            operations_per_s_max: Some(operations_per_s),
            ..BackendProfile::default()
        },
        service_ms,
        workers,
        ..BackendModel::default()
    };
    let mut fast = model(2.0, 2, 900.0);
    if slowed {
        let from_ms = length_ms / 2;
        fast.slow = vec![Slowdown { from_ms, to_ms: from_ms + length_ms / 8, factor: 8.0 }];
    }
    let backends = [("fast".to_owned(), fast), ("wide".to_owned(), model(8.0, 16, 1800.0))];
    Simulation { backends: backends.into(), reads: Reads::Anywhere, seed }
}

/// The trace has the time of its prompts in steps of 3 s only: spreads those of a step over it.
fn spread(text: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut steps = BTreeMap::<u64, Vec<serde_json::Value>>::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let prompt: serde_json::Value = serde_json::from_str(line)?;
        let time_ms = prompt["timestamp"].as_u64().ok_or("a prompt without a time")?;
        steps.entry((time_ms + 1) / STEP_MS).or_default().push(prompt);
    }
    let mut spread = String::new();
    for (step, prompts) in steps {
        let count = prompts.len() as u64;
        for (at, mut prompt) in (0..).zip(prompts) {
            prompt["timestamp"] = (step * STEP_MS + STEP_MS * at / count).into();
            spread += &format!("{prompt}\n");
        }
    }
    Ok(spread)
}

fn compare(
    out: &mut impl Write,
    title: &str,
    simulation: &Simulation,
    log: &[Access],
    season: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let run = |name: &str, make: Make<'_>| -> Result<Report, StorageError> {
        simulation.run(name, log, make)
    };
    let mut best: Option<Report> = None;
    for hundredths in (0..=100).step_by(STATIC_STEP) {
        let fast = hundredths as f64 / 100.0;
        let weights = vec![("fast".to_owned(), fast), ("wide".to_owned(), 1.0 - fast)];
        let name = format!("static, {hundredths}% to fast");
        let report = run(&name, &|_| vec![Box::new(Weighted(weights.clone()))])?;
        if best.as_ref().is_none_or(|best| report.mean_ms < best.mean_ms) {
            best = Some(report);
        }
    }
    let best = best.ok_or("no static choice")?;
    writeln!(out, "{title}\n  best {best}")?;
    let learners: [(&str, Make<'_>); 3] = [
        ("performance", &|env| vec![Box::new(PerformanceBased::new(&**env))]),
        ("adaptive", &|env| vec![Box::new(Adaptive::new(&**env))]),
        ("predictive", &|env| vec![Box::new(Predictive::new(&**env).with_season(1000, season))]),
    ];
    for (name, make) in learners {
        let report = run(name, make)?;
        let (mean, p99) = (best.mean_ms / report.mean_ms, best.p99_ms / report.p99_ms);
        writeln!(out, "  {report}\n    {mean:.2}x by the mean, {p99:.2}x by the p99")?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let Some(path) = std::env::args().nth(1) else {
        for seed in 31..34 {
            for slowed in [false, true] {
                let log = generated(seed);
                let title = format!("generated load, seed {seed}, slowed {slowed}");
                let simulation = simulation(seed, 240_000, slowed);
                compare(&mut out, &title, &simulation, &log, 60)?;
            }
        }
        return Ok(());
    };
    let text = std::fs::read_to_string(path)?;
    let spread = spread(&text)?;
    for (title, text) in [("trace", &text), ("trace, spread within 3 s", &spread)] {
        for speed in [1, 4, 8] {
            let mut log = from_prefix_trace(text, BLOCK_BYTES)?;
            log.iter_mut().for_each(|access| access.time_ms /= speed);
            let length_ms = log.last().map_or(0, |access| access.time_ms);
            for slowed in [false, true] {
                let title = format!("{title}, {speed} times as fast, slowed {slowed}");
                // The trace is known to have no season.
                compare(&mut out, &title, &simulation(31, length_ms, slowed), &log, 1)?;
            }
        }
    }
    Ok(())
}

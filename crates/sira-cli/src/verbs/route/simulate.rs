//! `sira route simulate`: what routing would cost, and how long callers would wait.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use sira_store::env::SimEnv;
use sira_store::router::simulate::{
    Access, BackendModel, Reads, Report, Simulation, from_prefix_trace, read_log,
};
use sira_store::router::{RoutingStrategy, Weighted};

use crate::config::Config;
use crate::config::storage::{EMBEDDED, RoutingConfig, StorageConfig, Strategy};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::units::parse_size;

/// Flags of `route simulate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The log has one JSON object a line:
  {\"time_ms\": 0, \"operation\": \"write\", \"key\": \"user:1\", \"size\": 512}
Backends, rules and prices are those of the configuration (--config FILE). Beside the configured
routing, every backend alone is replayed.")]
pub struct SimulateArgs {
    /// Access log
    log: PathBuf,
    /// How backends behave: a TOML table a backend, with service_ms, spread, ms_per_mb, workers,
    /// failures; without, the latency_ms of its profile
    #[arg(long, value_name = "FILE")]
    models: Option<PathBuf>,
    /// Another strategy to replay in the place of the configured one; may be given again
    #[arg(long = "strategy", value_name = "NAME")]
    strategies: Vec<Strategy>,
    /// Reads go where the routing says, as every backend has a copy
    #[arg(long)]
    anywhere: bool,
    /// The log is a trace of prompts (timestamp, hash_ids), with blocks of this size
    #[arg(long, value_name = "SIZE")]
    block_size: Option<String>,
    /// Seed of what is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Record<'a> {
    operations: usize,
    policies: &'a [Report],
}

/// Runs the verb.
///
/// # Errors
/// For a log or models that cannot be read, and models that cannot be right.
pub fn run(config: &Config, output: Output, args: &SimulateArgs) -> Outcome {
    let storage = config.storage();
    let log = access_log(args)?;
    let simulation = Simulation {
        backends: models(storage, args.models.as_deref())?,
        reads: if args.anywhere { Reads::Anywhere } else { Reads::WhereWritten },
        seed: args.seed,
    };
    let mut reports = vec![replay(&simulation, "configured", &log, storage, &storage.routing)?];
    for strategy in &args.strategies {
        let routing =
            RoutingConfig { strategy: *strategy, composed: None, ..storage.routing.clone() };
        let name = format!("strategy {strategy:?}").to_lowercase();
        reports.push(replay(&simulation, &name, &log, storage, &routing)?);
    }
    for name in simulation.backends.keys() {
        let only = || -> Vec<Box<dyn RoutingStrategy>> { vec![always(name)] };
        reports.push(simulation.run(&format!("all on {name}"), &log, &|_| only())?);
    }
    let record = Record { operations: log.len(), policies: &reports };
    output.result(&record, || table(&reports))
}

fn always(name: &str) -> Box<dyn RoutingStrategy> {
    Box::new(Weighted(vec![(name.to_owned(), 1.0)]))
}

fn replay(
    simulation: &Simulation,
    name: &str,
    log: &[Access],
    storage: &StorageConfig,
    routing: &RoutingConfig,
) -> Outcome<Report> {
    let make = |env: &Arc<SimEnv>| {
        // The configuration's check has built every rule before.
        let mut strategies = routing.strategies(&**env).unwrap_or_default();
        strategies.push(always(&storage.default_backend));
        strategies
    };
    Ok(simulation.run(name, log, &make)?)
}

fn access_log(args: &SimulateArgs) -> Outcome<Vec<Access>> {
    let text = load(&args.log)?;
    let log = match &args.block_size {
        Some(size) => {
            let bytes = parse_size(size)
                .map_err(|wrong| Failure::usage(format!("--block-size: {wrong}")))?;
            from_prefix_trace(&text, bytes)?
        }
        None => read_log(&text)?,
    };
    if log.is_empty() {
        return Err(Failure::usage(format!("the log {} has no access", args.log.display())));
    }
    Ok(log)
}

/// The models of a file, and of the backends that it does not name.
fn models(storage: &StorageConfig, file: Option<&Path>) -> Outcome<BTreeMap<String, BackendModel>> {
    let mut models: BTreeMap<String, BackendModel> = match file {
        Some(path) => toml::from_str(&load(path)?)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        None => BTreeMap::new(),
    };
    for name in storage.backends.keys().map(String::as_str).chain([EMBEDDED]) {
        let profile = storage.routing.profiles.get(name).cloned().unwrap_or_default();
        let model = models.entry(name.to_owned()).or_insert_with(|| BackendModel {
            service_ms: profile.latency_ms,
            ..BackendModel::default()
        });
        if storage.routing.profiles.contains_key(name) {
            model.profile = profile;
        }
    }
    Ok(models)
}

fn load(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::io(format_args!("cannot read {}", path.display()), &error))
}

fn table(reports: &[Report]) -> String {
    let mut out = format!(
        "{:<24} {:>9} {:>8} {:>10} {:>10} {:>10} {:>12}  WHERE",
        "POLICY", "OPS", "FAILED", "MEAN ms", "P95 ms", "P99 ms", "COST"
    );
    for report in reports {
        let total = report.operations.max(1) as f64;
        let shares = report.backends.iter().filter(|(_, count)| **count > 0);
        let shares: Vec<_> = shares
            .map(|(name, count)| format!("{name} {:.1}%", *count as f64 * 100.0 / total))
            .collect();
        let _ = write!(
            out,
            "\n{:<24} {:>9} {:>8} {:>10.3} {:>10.3} {:>10.3} {:>12.6}  {}",
            printable(&report.policy),
            report.operations,
            report.failures,
            report.mean_ms,
            report.p95_ms,
            report.p99_ms,
            report.cost,
            printable(&shares.join(", ")),
        );
    }
    out
}

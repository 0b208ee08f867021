//! `sira bench`: throughput and latency of a server, or of the engine in a folder.

mod folder;
mod histogram;
mod http;
mod report;
mod resp;
mod wire;
mod workload;

use std::time::Duration;

use clap::Args;
use sira_store::Durability;

use crate::config::{Config, Setting, Source};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::units::{human_size, parse_durability, parse_duration, parse_size};

use report::Report;
use workload::{Mix, Workload};

/// Namespace of the objects that a measurement writes over HTTP and in a folder, and how their
/// keys begin over RESP.
pub const BENCH_NAMESPACE: &str = "sira-bench";

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Measures the server of --server over HTTP; with --resp over RESP; with --root DIR the engine in a
folder, in this process. Objects go to the namespace sira-bench (over RESP: to keys that begin with
sira-bench:) and are removed afterwards. Each run is repeated; shown are the median of the runs and
their spread, and the latencies of all runs together.")]
pub struct BenchArgs {
    /// Measure the RESP door at this address
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9096")]
    resp: Option<String>,
    /// Shares of the operations
    #[arg(long, value_name = "get=N,put=N,delete=N", default_value = "get=50,put=50")]
    mix: Mix,
    /// Bytes of a value
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    value_size: u64,
    /// Different keys
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,
    /// Clients at once: connections, or threads on a folder
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    clients: u32,
    /// Operations that a client sends before it waits for the answers
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
    /// Length of a run
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Runs
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Threads of the load generator against a server
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Durability of the writes (HTTP and folder) [default: the store's]
    #[arg(long, value_name = "sync|interval:MS|none", value_parser = parse_durability)]
    durability: Option<Durability>,
    /// Where the random keys and values start
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Runs the verb.
///
/// # Errors
/// When the store cannot be reached or answers with an error.
pub fn run(config: &Config, output: Output, args: BenchArgs) -> Outcome {
    const VALUE_BYTES_MAX: u64 = 256 << 20;
    if args.value_size > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "--value-size is at most {}",
            human_size(VALUE_BYTES_MAX)
        )));
    }
    if args.duration.is_zero() {
        return Err(Failure::usage("--duration must be longer than zero"));
    }
    let workload = Workload::new(
        args.mix,
        args.keys,
        usize::try_from(args.value_size).unwrap_or_default(),
        args.pipeline as usize,
        args.seed,
    );
    super::serve::raise_open_files();
    let on_folder = matches!(config.get(Setting::Root).source, Source::Flag(_));
    if on_folder && args.resp.is_some() {
        return Err(Failure::usage(
            "--root measures a folder in this process, --resp a server; give one of them",
        ));
    }
    let driver: Box<dyn Driver> = if on_folder {
        Box::new(folder::FolderDriver::open(config, args.durability)?)
    } else if let Some(address) = &args.resp {
        if args.durability.is_some() {
            return Err(Failure::usage(
                "RESP carries no durability; set it with `sira serve --durability`",
            ));
        }
        let protocol = resp::Resp::new(config.token()?);
        Box::new(wire::WireDriver::new(address, protocol, args.threads)?)
    } else {
        let protocol = http::Http::new(config, args.durability)?;
        let address = protocol.address().to_owned();
        Box::new(wire::WireDriver::new(&address, protocol, args.threads)?)
    };
    output.note(&format!(
        "{}: {} keys of {}, {} clients, pipeline {}, {} runs of {} s",
        driver.describe(),
        args.keys,
        human_size(args.value_size),
        args.clients,
        args.pipeline,
        args.runs,
        args.duration.as_secs_f64()
    ));
    driver.fill(&workload, args.clients)?;
    let mut report = Report::new(&args, driver.describe());
    let measured = (0..args.runs).try_for_each(|run| {
        output.progress(&format!("run {} of {}", run + 1, args.runs));
        report.add(driver.run(&workload, args.clients, args.duration, u64::from(run))?);
        Ok(())
    });
    output.progress("");
    let cleaned = driver.clean(&workload, args.clients);
    measured.and(cleaned)?;
    report.show(output)
}

/// Something that is measured.
trait Driver {
    /// What it is, for people.
    fn describe(&self) -> String;
    /// Writes every key once.
    fn fill(&self, workload: &Workload, clients: u32) -> Outcome;
    /// Works for `duration` and reports what was done. Runs of different numbers take different
    /// keys.
    fn run(
        &self,
        workload: &Workload,
        clients: u32,
        duration: Duration,
        number: u64,
    ) -> Outcome<report::Run>;
    /// Removes every key.
    fn clean(&self, workload: &Workload, clients: u32) -> Outcome;
}

//! `sira replicas`: namespaces that several backends hold alike.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use sira_store::placement::{RepairReport, RepairRule};

use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;

/// Keys of one part of a repair.
const PART: usize = 1_000;

/// Verbs of replicas.
#[derive(Debug, Subcommand)]
pub enum ReplicasVerb {
    /// List replicated namespaces, and how far replicas are behind
    Ls,
    /// Compare a namespace on all its replicas, and make them alike
    Repair(RepairArgs),
}

/// Flags of `replicas repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
The namespace is that of --namespace. Replicas are compared by the versions that they list; with
--deep every copy is read, and those whose checksum does not hold are replaced. Objects that were on
the first replica before there were others are copied. It exits with 1 when something is left behind,
and can be run again at any time.
  sira replicas repair --namespace ledger --deep")]
pub struct RepairArgs {
    /// Read every copy and verify its checksums
    #[arg(long)]
    deep: bool,
    /// What becomes of objects on a replica of which the catalog knows nothing: primary leaves them
    /// alone, newest makes the newest version on any replica the object
    #[arg(long, default_value = "primary", value_name = "RULE")]
    rule: RepairRule,
    /// Begin after this key
    #[arg(long, value_name = "KEY")]
    start_after: Option<String>,
}

#[derive(Serialize)]
struct Ask<'a> {
    namespace: &'a str,
    deep: bool,
    rule: RepairRule,
    start_after: Option<&'a str>,
    limit: usize,
    sound_before: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Replicas {
    namespaces: BTreeMap<String, Namespace>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Namespace {
    replicas: Vec<String>,
    consistency: String,
    acknowledge: String,
    behind: u64,
    more: bool,
    lag_seconds: f64,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; exit code 1 when a repair leaves something behind.
pub fn run(config: &Config, output: Output, verb: &ReplicasVerb) -> Outcome {
    let target = HttpTarget::new(config)?;
    match verb {
        ReplicasVerb::Ls => {
            let replicas: Replicas = target.ask("/replicas")?;
            output.result(&replicas, || table(&replicas.namespaces))
        }
        ReplicasVerb::Repair(args) => repair(config, &target, output, args),
    }
}

fn repair(config: &Config, target: &HttpTarget, output: Output, args: &RepairArgs) -> Outcome {
    let mut report = RepairReport {
        next: args.start_after.clone(),
        // What comes before that key is not looked at.
        unsound: args.start_after.is_some(),
        ..RepairReport::default()
    };
    loop {
        let ask = Ask {
            namespace: config.text(Setting::Namespace),
            deep: args.deep,
            rule: args.rule,
            start_after: report.next.as_deref(),
            limit: PART,
            sound_before: !report.unsound,
        };
        report.add(target.tell("/replicas/repair", &ask)?);
        match &report.next {
            Some(next) => {
                output.progress(&format!("{} looked at, to {}", report.objects, printable(next)))
            }
            None => break,
        }
    }
    output.result(&report, || text(&report))?;
    match report.behind {
        0 => Ok(()),
        behind => Err(Failure::other(format!("{behind} objects are behind on a replica"))
            .hint("sira health; what is behind is tried again by itself")),
    }
}

fn text(report: &RepairReport) -> String {
    let RepairReport { objects, repaired, damaged, strays, behind, failures, .. } = report;
    let mut out = format!(
        "{objects} objects looked at: {repaired} repaired ({damaged} damaged copies), {behind} behind, \
         {strays} unknown to the catalog"
    );
    for (key, why) in failures {
        let _ = write!(out, "\n  {}: {}", printable(key), printable(why));
    }
    out
}

fn table(namespaces: &BTreeMap<String, Namespace>) -> String {
    let mut out = format!(
        "{:<20} {:<12} {:<12} {:>9} {:>9} REPLICAS",
        "NAMESPACE", "CONSISTENCY", "ACKNOWLEDGE", "BEHIND", "LAG"
    );
    for (name, namespace) in namespaces {
        let acknowledge = match namespace.consistency.as_str() {
            "strong" => namespace.acknowledge.as_str(),
            _ => "one",
        };
        let behind = format!("{}{}", namespace.behind, if namespace.more { "+" } else { "" });
        let _ = write!(
            out,
            "\n{:<20} {:<12} {acknowledge:<12} {behind:>9} {:>8.1}s {}",
            printable(name),
            printable(&namespace.consistency),
            namespace.lag_seconds,
            printable(&namespace.replicas.join(", ")),
        );
    }
    out
}

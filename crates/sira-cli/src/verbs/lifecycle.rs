//! `sira lifecycle`: rules about objects that grow old.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use sira_store::lifecycle::{LifecycleCursor, LifecycleReport};

use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::timestamp;

/// Objects of one part of a run.
const PART: usize = 1_000;

/// Verbs of the lifecycle.
#[derive(Debug, Subcommand)]
pub enum LifecycleVerb {
    /// List the rules, and what the last run did
    Ls,
    /// Look to the rules now
    Run(RunArgs),
}

/// Flags of `lifecycle run`.
#[derive(Debug, Args)]
#[command(after_help = "\
For each object the first rule that it fits decides. It exits with 1 when something failed, and can
be run again at any time.
  sira lifecycle run --dry-run")]
pub struct RunArgs {
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rule {
    name: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<i32>,
    about: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastRun {
    began_at_ms: u64,
    ended_at_ms: u64,
    report: LifecycleReport,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rules {
    rules: Vec<Rule>,
    interval_seconds: f64,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastRun>,
}

#[derive(Serialize)]
struct Ask {
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<LifecycleCursor>,
    limit: usize,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; exit code 1 when a run fails with some objects.
pub fn run(config: &Config, output: Output, verb: &LifecycleVerb) -> Outcome {
    let target = HttpTarget::new(config)?;
    match verb {
        LifecycleVerb::Ls => {
            let rules: Rules = target.ask("/lifecycle")?;
            output.result(&rules, || table(&rules))
        }
        LifecycleVerb::Run(args) => look(&target, output, args.dry_run),
    }
}

fn look(target: &HttpTarget, output: Output, dry_run: bool) -> Outcome {
    let mut report = LifecycleReport::default();
    loop {
        let ask = Ask { dry_run, from: report.next.clone(), limit: PART };
        report.add(target.tell("/lifecycle/run", &ask)?);
        match &report.next {
            Some(next) => output.progress(&format!(
                "{} looked at, to {}",
                report.objects,
                printable(&next.namespace)
            )),
            None => break,
        }
    }
    output.result(&report, || text(&report, dry_run))?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Failure::other(format!("the rules failed with {failed} objects"))),
    }
}

fn text(report: &LifecycleReport, dry_run: bool) -> String {
    let would = if dry_run { ", nothing was changed" } else { "" };
    let mut out = format!("{} objects looked at{would}", report.objects);
    for (name, figures) in &report.rules {
        let _ = write!(
            out,
            "\n  {:<24} {:<10} {:>10} objects {:>16} bytes {:>8} failed",
            printable(name),
            figures.action,
            figures.objects,
            figures.bytes,
            figures.failed
        );
    }
    for (object, why) in &report.failures {
        let _ = write!(out, "\n  {}: {}", printable(object), printable(why));
    }
    out
}

fn table(rules: &Rules) -> String {
    let mut out = format!("{:<24} {:<10} {:<16} ABOUT", "RULE", "ACTION", "TO");
    for rule in &rules.rules {
        let to = match (&rule.to, rule.level) {
            (Some(to), _) => to.clone(),
            (None, Some(level)) => format!("level {level}"),
            (None, None) => "-".to_owned(),
        };
        let _ = write!(
            out,
            "\n{:<24} {:<10} {:<16} {}",
            printable(&rule.name),
            rule.action,
            printable(&to),
            printable(&rule.about)
        );
    }
    match &rules.last {
        Some(last) => {
            let _ = write!(
                out,
                "\n\nlast run {} to {}: {}",
                timestamp(last.began_at_ms),
                timestamp(last.ended_at_ms),
                text(&last.report, false)
            );
        }
        None => out.push_str("\n\nno run yet"),
    }
    out
}

//! `sira migrate`: move objects between the backends of a server while they are in use.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sira_store::env::{Env, SystemEnv};

use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::human_size;

/// Time between two questions for the progress.
const POLL: Duration = Duration::from_millis(200);

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Backend that the objects are to leave
    from: String,
    /// Backend that they are to lie on
    to: String,
    /// Keys, such as cache:*
    #[arg(default_value = "*")]
    pattern: String,
    /// Count what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Read every copy back, where the server has no catalog and copies
    #[arg(long)]
    verify: bool,
    /// Most bytes of values a second, where the server has no catalog and copies
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
    /// Begin, print the number of the migration, and leave it to the server
    #[arg(long)]
    detach: bool,
}

#[derive(Serialize)]
struct Ask<'a> {
    namespace: &'a str,
    from: &'a str,
    to: &'a str,
    pattern: &'a str,
    dry_run: bool,
    verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second_max: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Status {
    id: u64,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    report: Report,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    scanned: u64,
    copied: u64,
    copied_bytes: u64,
    skipped: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; and when the migration failed.
pub fn run(config: &Config, output: Output, args: MigrateArgs) -> Outcome {
    let target = HttpTarget::new(config)?;
    let ask = Ask {
        namespace: config.text(Setting::Namespace),
        from: &args.from,
        to: &args.to,
        pattern: &args.pattern,
        dry_run: args.dry_run,
        verify: args.verify,
        bytes_per_second_max: args.bytes_per_second,
    };
    let mut status: Status = target.tell("/migrations", &ask)?;
    let path = format!("/migrations/{}", status.id);
    while status.state == "running" && !args.detach {
        SystemEnv.sleep(POLL);
        status = target.ask(&path)?;
    }
    output.result(&status, || text(&status, args.dry_run))?;
    match status.error {
        Some(error) => Err(Failure::other(format!("the migration failed: {error}"))
            .hint("what was moved stays moved; the same command goes on")),
        None => Ok(()),
    }
}

fn text(status: &Status, dry_run: bool) -> String {
    let Report { scanned, copied, copied_bytes, skipped, .. } = &status.report;
    let moved = if dry_run { "would move" } else { "moved" };
    format!(
        "migration {} {}: {moved} {copied} objects ({}), {skipped} were there already, {scanned} \
         looked at",
        status.id,
        printable(&status.state),
        human_size(*copied_bytes),
    )
}

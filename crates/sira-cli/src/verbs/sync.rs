//! `sira sync`: keep two places of a server level while they are in use.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sira_store::env::{Env, SystemEnv};

use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::{human_duration, human_size};

/// Time between two questions for the progress.
const POLL: Duration = Duration::from_millis(200);

/// Flags of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
A place is BACKEND, BACKEND:NAMESPACE, or :NAMESPACE for a namespace wherever its objects lie; the
namespace is that of --namespace where none is named.
  sira sync embedded copies                   copies becomes as embedded is: what it has more is removed
  sira sync embedded copies --follow          and stays so, until `sira sync --end ID`
  sira sync west east 'cfg:*' --two-way       changes and removals of either go to the other
It runs on the server: interrupted here, it goes on there.")]
pub struct SyncArgs {
    /// One place
    #[arg(required_unless_present = "end")]
    from: Option<String>,
    /// The other place
    #[arg(required_unless_present = "end")]
    to: Option<String>,
    /// Keys, such as cache:*
    #[arg(default_value = "*")]
    pattern: String,
    /// Bring to each place what the other one has changed or removed since the last time
    #[arg(long)]
    two_way: bool,
    /// Go on until it is ended
    #[arg(long)]
    follow: bool,
    /// What wins where both places have changed an object
    #[arg(long, value_enum, default_value_t = Conflict::Newest)]
    conflict: Conflict,
    /// What is read back after it was copied
    #[arg(long, value_enum, default_value_t = Verify::None)]
    verify: Verify,
    /// Count what would be done, and do nothing
    #[arg(short = 'n', long, conflicts_with = "follow")]
    dry_run: bool,
    /// Go on although one place has lost every key that both had
    #[arg(long)]
    may_empty: bool,
    /// Most bytes of values a second
    #[arg(long, value_name = "BYTES")]
    bandwidth: Option<u64>,
    /// Begin, print the number of the sync, and leave it to the server
    #[arg(long)]
    detach: bool,
    /// End the sync of this number
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to"])]
    end: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Conflict {
    /// The newer version
    Newest,
    /// What the first place has
    Source,
    /// What the second place has
    Target,
    /// Both: the older one under its key, .conflict- and its version
    KeepBoth,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verify {
    /// Nothing
    None,
    /// One of a hundred objects
    Sample,
    /// Every object
    All,
}

#[derive(Serialize)]
struct Place<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    namespace: &'a str,
}

impl<'a> Place<'a> {
    fn parse(text: &'a str, namespace: &'a str) -> Self {
        let (backend, namespace) = text.split_once(':').unwrap_or((text, namespace));
        Self { backend: Some(backend).filter(|name| !name.is_empty()), namespace }
    }
}

#[derive(Serialize)]
struct Ask<'a> {
    from: Place<'a>,
    to: Place<'a>,
    pattern: &'a str,
    two_way: bool,
    follow: bool,
    conflict: Conflict,
    verify: Verify,
    dry_run: bool,
    may_empty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second_max: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Status {
    id: u64,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    progress: Progress,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// As the server tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Progress(Value);

impl Progress {
    fn mode(&self) -> &str {
        self.0["mode"].as_str().unwrap_or_default()
    }

    /// A figure of the report, or of the progress itself.
    fn count(&self, name: &str) -> u64 {
        [&self.0["report"][name], &self.0[name]].into_iter().find_map(Value::as_u64).unwrap_or(0)
    }

    fn rate(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or(0.0)
    }
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; and when the sync failed.
pub fn run(config: &Config, output: Output, args: SyncArgs) -> Outcome {
    let target = HttpTarget::new(config)?;
    if let Some(id) = args.end {
        return Ok(target.end(&format!("/syncs/{id}"))?);
    }
    let namespace = config.text(Setting::Namespace);
    let (Some(from), Some(to)) = (&args.from, &args.to) else {
        return Err(Failure::usage("name two places"));
    };
    let ask = Ask {
        from: Place::parse(from, namespace),
        to: Place::parse(to, namespace),
        pattern: &args.pattern,
        two_way: args.two_way,
        follow: args.follow,
        conflict: args.conflict,
        verify: args.verify,
        dry_run: args.dry_run,
        may_empty: args.may_empty,
        bytes_per_second_max: args.bandwidth,
    };
    let mut status: Status = target.tell("/syncs", &ask)?;
    let path = format!("/syncs/{}", status.id);
    let total = match args.pattern.as_str() {
        "*" if output.shows_progress() => keys(&target, ask.from.namespace),
        _ => None,
    };
    while status.state == "running" && !args.detach {
        output.progress(&line(&status.progress, total));
        SystemEnv.sleep(POLL);
        status = target.ask(&path)?;
    }
    output.progress("");
    output.result(&status, || text(&status, args.dry_run))?;
    match status.error {
        Some(error) => Err(Failure::other(format!("the sync failed: {error}"))
            .hint("what was done is done; the same command goes on")),
        None => Ok(()),
    }
}

/// Keys of a namespace, where the server knows how many there are.
fn keys(target: &HttpTarget, namespace: &str) -> Option<u64> {
    let list: Value = target.ask("/v1").ok()?;
    let names = list["namespaces"].as_array()?;
    names.iter().find(|found| found["name"] == namespace)?["keys"].as_u64()
}

/// How far it has come, in one line.
fn line(progress: &Progress, total: Option<u64>) -> String {
    if progress.mode() == "follow" {
        let lag = match progress.0["lag_ms"].as_u64() {
            Some(ms) => format!("{} behind", human_duration(Duration::from_millis(ms))),
            None => "first pass".to_owned(),
        };
        let failure =
            progress.0["failure"].as_str().map(|why| format!(", waits: {}", printable(why)));
        return format!(
            "{} copied ({}), {} removed, {lag}{}",
            progress.count("copied"),
            human_size(progress.count("copied_bytes")),
            progress.count("removed"),
            failure.unwrap_or_default(),
        );
    }
    let scanned = progress.count("scanned");
    let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
    let rate = progress.rate("objects_per_s").max(progress.rate("keys_per_s"));
    let left = total.filter(|total| *total > scanned && rate > 0.0);
    let left = left.map(|total| Duration::from_secs_f64((total - scanned) as f64 / rate));
    format!(
        "{scanned}{of} keys, {} copied, {}/s{}",
        human_size(progress.count("copied_bytes")),
        human_size(progress.rate("bytes_per_s") as u64),
        left.map(|left| format!(", {} left", human_duration(left))).unwrap_or_default(),
    )
}

fn text(status: &Status, dry_run: bool) -> String {
    let progress = &status.progress;
    let (id, state) = (status.id, printable(&status.state));
    let would = if dry_run { "would have " } else { "" };
    let count = |name: &str| progress.count(name);
    match progress.mode() {
        "two_way" => format!(
            "sync {id} {state}: {would}copied {} there and {} back ({}), removed {} there and {} \
             here, {} conflicts, {} keys looked at",
            count("copied_to_target"),
            count("copied_to_source"),
            human_size(count("copied_bytes")),
            count("removed_from_target"),
            count("removed_from_source"),
            count("conflicts"),
            count("scanned"),
        ),
        "follow" => format!("sync {id} {state}: {}", line(progress, None)),
        _ => format!(
            "sync {id} {state}: {would}copied {} objects ({}), removed {}, {} were there already, {} \
             looked at",
            count("copied"),
            human_size(count("copied_bytes")),
            count("extraneous"),
            count("skipped"),
            count("scanned"),
        ),
    }
}

#[cfg(test)]
mod tests;

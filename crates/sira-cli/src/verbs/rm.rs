//! `sira rm`: remove objects.

use clap::Args;
use serde::Serialize;
use sira_store::{Condition, ListOptions, Version};

use super::get::missing;
use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::path::Location;
use crate::target::{self, Access, Target};

/// Flags of `rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Objects: KEY or sira://NAMESPACE/KEY; with -r, prefixes
    #[arg(required = true)]
    keys: Vec<String>,
    /// Remove every key that begins with the name; sira://NAMESPACE is all of it
    #[arg(short, long)]
    recursive: bool,
    /// Show what would be removed and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Ask before each removal
    #[arg(short, long)]
    interactive: bool,
    /// Count a missing object as removed
    #[arg(short, long)]
    force: bool,
    /// Remove only if the key holds this version
    #[arg(long, value_name = "VERSION", conflicts_with = "recursive")]
    if_match: Option<Version>,
}

#[derive(Serialize)]
struct Removed<'a> {
    verb: &'static str,
    namespace: &'a str,
    key: &'a str,
    removed: bool,
    dry_run: bool,
}

/// Runs the verb.
///
/// # Errors
/// Exit code 3 when an object is not there and `--force` is not given, after the others are
/// removed.
pub fn run(config: &Config, output: Output, args: RmArgs) -> Outcome {
    let namespace = config.text(Setting::Namespace);
    let parse = if args.recursive { Location::parse_prefix } else { Location::parse_key };
    let locations: Vec<Location> =
        args.keys.iter().map(|key| parse(key, namespace)).collect::<Outcome<_>>()?;
    if args.recursive && args.keys.iter().any(String::is_empty) {
        return Err(Failure::usage("an empty prefix names the whole namespace")
            .hint(format!("sira rm -r sira://{namespace}")));
    }
    let target = target::open(config, Access::Read)?;
    let run = Run { target: &*target, output, args: &args };
    let mut failed = None;
    for at in &locations {
        if args.recursive {
            run.remove_below(at)?;
        } else if !run.remove(at)? && !args.force {
            failed.get_or_insert_with(|| missing(at));
        }
    }
    target.close()?;
    failed.map_or(Ok(()), Err)
}

struct Run<'a> {
    target: &'a dyn Target,
    output: Output,
    args: &'a RmArgs,
}

impl Run<'_> {
    fn remove_below(&self, at: &Location) -> Outcome {
        let options = ListOptions { prefix: at.key.clone(), ..ListOptions::default() };
        target::each_page(self.target, &at.namespace, options, false, |page| {
            let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
            if self.args.interactive || self.args.dry_run {
                for key in keys {
                    self.remove(&at.with_key(key))?;
                }
                return Ok(true);
            }
            self.target.remove_all(&at.namespace, keys.clone())?;
            for key in keys {
                self.report(&at.with_key(key))?;
            }
            Ok(true)
        })
    }

    /// Says whether the object was there, or was left at the user's wish.
    fn remove(&self, at: &Location) -> Outcome<bool> {
        if self.args.interactive && !self.output.confirm(&format!("remove {at}?"))? {
            return Ok(true);
        }
        let condition = self.args.if_match.map_or(Condition::Always, Condition::IfMatch);
        let there = if self.args.dry_run {
            let current = self.target.head(at)?.map(|head| head.version);
            condition.require(current)?;
            current.is_some()
        } else {
            self.target.remove(at, condition)?
        };
        if there {
            self.report(at)?;
        }
        Ok(there)
    }

    fn report(&self, at: &Location) -> Outcome {
        let dry_run = self.args.dry_run;
        let record = Removed {
            verb: "rm",
            namespace: &at.namespace,
            key: &at.key,
            removed: !dry_run,
            dry_run,
        };
        // A dry run is asked for to see this, so `--quiet` does not hide it.
        if dry_run {
            self.output.result(&record, || format!("would remove {at}"))
        } else {
            self.output.done(&record, || format!("removed {at}"))
        }
    }
}

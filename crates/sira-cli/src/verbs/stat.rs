//! `sira stat`: what is known about objects.

use std::fmt::Write;

use clap::Args;
use sira_store::ObjectHead;

use super::get::missing;
use super::record::{ObjectRecord, modified};
use crate::config::{Config, Setting};
use crate::failure::Outcome;
use crate::output::{Output, printable};
use crate::path::Location;
use crate::target::{self, Access};
use crate::units::{human_size, timestamp};

/// Flags of `stat`.
#[derive(Debug, Args)]
pub struct StatArgs {
    /// Objects: KEY or sira://NAMESPACE/KEY
    #[arg(required = true)]
    keys: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// Exit code 3 when an object is not there.
pub fn run(config: &Config, output: Output, args: StatArgs) -> Outcome {
    let namespace = config.text(Setting::Namespace);
    let locations: Vec<Location> =
        args.keys.iter().map(|key| Location::parse_key(key, namespace)).collect::<Outcome<_>>()?;
    let target = target::open(config, Access::Read)?;
    for at in &locations {
        let head = target.head(at)?.ok_or_else(|| missing(at))?;
        output.result(&ObjectRecord::of_head(at, &head), || text(at, &head))?;
    }
    target.close()?;
    Ok(())
}

fn text(at: &Location, head: &ObjectHead) -> String {
    let mut out = format!(
        "object    {at}\nsize      {} bytes ({})\nversion   {}\nmodified  {}",
        head.size,
        human_size(head.size),
        head.version,
        modified(head.version),
    );
    if let Some(ms) = head.expires_at_ms {
        let _ = write!(out, "\nexpires   {}", timestamp(ms));
    }
    if let Some(content_type) = &head.metadata.content_type {
        let _ = write!(out, "\ntype      {}", printable(content_type));
    }
    for (name, value) in &head.metadata.user {
        let _ = write!(out, "\nmeta      {name}={}", printable(value));
    }
    out
}

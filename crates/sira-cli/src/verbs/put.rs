//! `sira put`: store an object.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use sira_store::{Condition, Durability, Metadata, StorageOptions, Version};

use super::local;
use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::path::Location;
use crate::target::{self, Access};
use crate::units::{parse_durability, parse_duration};

/// What a write stores beside the bytes, and when it is answered.
#[derive(Debug, Clone, Args)]
pub struct WriteArgs {
    /// Remove the object after this time: 90, 500ms, 15m, 12h, 7d
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    ttl: Option<Duration>,
    /// Media type to keep beside the bytes
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Name and value to keep beside the bytes; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_meta)]
    meta: Vec<(String, String)>,
    /// Answer after an fsync, within MS milliseconds of one, or at once [default: the store's]
    #[arg(long, value_parser = parse_durability, value_name = "sync|interval:MS|none")]
    durability: Option<Durability>,
}

impl WriteArgs {
    /// The options of a write under `condition`.
    pub fn options(&self, condition: Condition) -> StorageOptions {
        StorageOptions {
            ttl: self.ttl,
            condition,
            metadata: Metadata {
                content_type: self.content_type.clone(),
                user: self.meta.iter().cloned().collect(),
                ..Metadata::default()
            },
            durability: self.durability,
            ..StorageOptions::default()
        }
    }

    /// Whether nothing was asked for beside the bytes.
    pub fn keeps_metadata_of_source(&self) -> bool {
        self.content_type.is_none() && self.meta.is_empty()
    }
}

fn parse_meta(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Flags of `put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Object to write: KEY or sira://NAMESPACE/KEY
    key: String,
    /// File with the bytes; `-` or nothing reads standard input
    #[arg(default_value = "-")]
    file: String,
    #[command(flatten)]
    write: WriteArgs,
    /// Write only if the key holds nothing
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,
    /// Write only if the key holds this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<Version>,
}

#[derive(Serialize)]
struct Written<'a> {
    verb: &'static str,
    namespace: &'a str,
    key: &'a str,
    version: String,
}

/// Runs the verb.
///
/// # Errors
/// As the store's; exit code 4 when the condition does not hold.
pub fn run(config: &Config, output: Output, args: PutArgs) -> Outcome {
    let at = Location::parse_key(&args.key, config.text(Setting::Namespace))?;
    let condition = match (args.if_absent, args.if_match) {
        (true, _) => Condition::IfAbsent,
        (false, Some(version)) => Condition::IfMatch(version),
        (false, None) => Condition::Always,
    };
    let options = args.write.options(condition);
    options.metadata.encode().map_err(Failure::from)?;
    // Opened before the store is, so that a wrong name makes no folder.
    let body = local::open_body(&args.file)?;
    let target = target::open(config, Access::Write)?;
    let version = target.put(&at, body, &options)?;
    target.close()?;
    let record = Written {
        verb: "put",
        namespace: &at.namespace,
        key: &at.key,
        version: version.to_string(),
    };
    output.done(&record, || format!("{at}  version {version}"))
}

//! `sira versions`: earlier versions of objects.

use std::fmt::Write;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sira_store::Version;

use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::path::Location;
use crate::target::HttpTarget;
use crate::units::{parse_time, timestamp};

/// Versions that are asked for at a time.
const PAGE: usize = 1_000;

/// Verbs of earlier versions.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A namespace keeps versions where its configuration says keep_versions or keep_versions_for.
`sira get KEY --version-id VERSION` and `--at TIME` read one.")]
pub enum VersionsVerb {
    /// List the versions of an object, newest first
    Ls(LsArgs),
    /// List objects that were removed and can be restored
    Removed(RemovedArgs),
    /// Make an earlier version the object again
    Restore(RestoreArgs),
    /// Erase earlier versions of an object; the object itself stays
    Rm(RmArgs),
}

/// Flags of `versions ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Object: KEY or sira://NAMESPACE/KEY
    key: String,
}

/// Flags of `versions removed`.
#[derive(Debug, Args)]
pub struct RemovedArgs {
    /// Keys begin with this
    #[arg(default_value = "")]
    prefix: String,
}

/// Flags of `versions restore`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct RestoreArgs {
    /// Object: KEY or sira://NAMESPACE/KEY
    key: String,
    /// This version
    #[arg(long, value_name = "VERSION", group = "which")]
    version_id: Option<Version>,
    /// The version of this moment, such as 2026-11-22T09:30:00Z
    #[arg(long, value_parser = parse_time, value_name = "TIME", group = "which")]
    at: Option<u64>,
}

/// Flags of `versions rm`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct RmArgs {
    /// Object: KEY or sira://NAMESPACE/KEY
    key: String,
    /// This version
    #[arg(long, value_name = "VERSION", group = "which")]
    version_id: Option<Version>,
    /// All of them
    #[arg(long, group = "which")]
    all: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    version: String,
    size: u64,
    written_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    versions: Vec<Entry>,
    has_more: bool,
}

#[derive(Deserialize)]
struct RemovedPage {
    objects: Vec<Entry>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Ask<'a> {
    namespace: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Restored {
    namespace: String,
    key: String,
    version: String,
    restored: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Erased {
    erased: u64,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; exit code 3 when a version is not kept.
pub fn run(config: &Config, output: Output, verb: &VersionsVerb) -> Outcome {
    let target = HttpTarget::new(config)?;
    let namespace = config.text(Setting::Namespace);
    match verb {
        VersionsVerb::Ls(args) => {
            let at = Location::parse_key(&args.key, namespace)?;
            list(&target, output, &at)
        }
        VersionsVerb::Removed(args) => removed(&target, output, namespace, &args.prefix),
        VersionsVerb::Restore(args) => {
            let at = Location::parse_key(&args.key, namespace)?;
            let ask = Ask {
                namespace: &at.namespace,
                key: &at.key,
                version: args.version_id.map(|version| version.to_string()),
                at_ms: args.at,
            };
            let restored: Restored = target.tell("/versions/restore", &ask)?;
            output.done(&restored, || {
                format!("{at} is version {} again, now as {}", restored.restored, restored.version)
            })
        }
        VersionsVerb::Rm(args) => {
            let at = Location::parse_key(&args.key, namespace)?;
            let which = match args.version_id {
                Some(version) => format!("version={version}"),
                None => "all=true".to_owned(),
            };
            let erased: Erased = target.erase(&format!("{}&{which}", path(&at)))?;
            if erased.erased == 0 {
                return Err(Failure::not_found(format!("no such version of {at} is kept")));
            }
            output.done(&erased, || format!("erased {} versions of {at}", erased.erased))
        }
    }
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn path(at: &Location) -> String {
    format!("/versions?namespace={}&key={}", encode(&at.namespace), encode(&at.key))
}

fn list(target: &HttpTarget, output: Output, at: &Location) -> Outcome {
    let mut before = None;
    let mut any = false;
    loop {
        let mut path = format!("{}&limit={PAGE}", path(at));
        if let Some(before) = &before {
            let _ = write!(path, "&before={before}");
        }
        let page: Page = target.ask(&path)?;
        for entry in &page.versions {
            let state = match entry.ended_at_ms {
                Some(ended_at_ms) => format!("until {}", timestamp(ended_at_ms)),
                None => "current".to_owned(),
            };
            any = true;
            output.result(entry, || {
                let written = timestamp(entry.written_at_ms);
                format!("{}  {written}  {:>12}  {state}", entry.version, entry.size)
            })?;
        }
        before = page.versions.into_iter().next_back().map(|entry| entry.version);
        if !page.has_more || before.is_none() {
            break;
        }
    }
    if any { Ok(()) } else { Err(Failure::not_found(format!("there is no version of {at}"))) }
}

fn removed(target: &HttpTarget, output: Output, namespace: &str, prefix: &str) -> Outcome {
    let mut start_after = None::<String>;
    loop {
        let mut path = format!(
            "/versions/removed?namespace={}&prefix={}&limit={PAGE}",
            encode(namespace),
            encode(prefix)
        );
        if let Some(after) = &start_after {
            let _ = write!(path, "&start_after={}", encode(after));
        }
        let page: RemovedPage = target.ask(&path)?;
        for entry in &page.objects {
            output.result(entry, || {
                let ended = entry.ended_at_ms.map(timestamp).unwrap_or_default();
                let key = printable(&entry.key);
                format!("{}  {ended}  {:>12}  {key}", entry.version, entry.size)
            })?;
        }
        match page.next {
            Some(next) => start_after = Some(next),
            None => return Ok(()),
        }
    }
}

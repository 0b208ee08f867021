//! `sira get` and `sira cat`: read objects.

use std::ops::Range;
use std::path::PathBuf;

use base64::Engine as _;
use clap::Args;
use serde::Serialize;
use sira_store::Version;

use super::local;
use super::record::ObjectRecord;
use crate::config::{Config, Setting, Source};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::path::Location;
use crate::target::{self, Access, Download, HttpTarget, Target};
use crate::units::parse_time;

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Object to read: KEY or sira://NAMESPACE/KEY
    key: String,
    /// File to write, whole or not at all; `-` or nothing is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bytes to read: FIRST-LAST (both included) or FIRST-
    #[arg(long, value_parser = parse_range, value_name = "FIRST-LAST")]
    range: Option<Range<u64>>,
    /// This version, which `sira versions ls` shows
    #[arg(long, value_name = "VERSION", conflicts_with = "at")]
    version_id: Option<Version>,
    /// The version of this moment, such as 2026-11-22T09:30:00Z
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    at: Option<u64>,
}

/// Flags of `cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// Objects to read: KEY or sira://NAMESPACE/KEY
    #[arg(required = true)]
    keys: Vec<String>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    const HOW: &str = "write FIRST-LAST, such as 0-99, or FIRST-";
    let (first, last) = text.split_once('-').ok_or(HOW)?;
    let start = first.parse::<u64>().map_err(|_| HOW)?;
    let end = match last {
        "" => u64::MAX,
        last => last.parse::<u64>().ok().and_then(|last| last.checked_add(1)).ok_or(HOW)?,
    };
    if start < end { Ok(start..end) } else { Err(HOW.to_owned()) }
}

/// An object with its bytes: as text where they are UTF-8, else in Base64.
#[derive(Serialize)]
struct Read<'a> {
    #[serde(flatten)]
    object: ObjectRecord<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// Runs `get`.
///
/// # Errors
/// Exit code 3 when the object is not there.
pub fn run(config: &Config, output: Output, args: GetArgs) -> Outcome {
    let at = Location::parse_key(&args.key, config.text(Setting::Namespace))?;
    if args.version_id.is_some() || args.at.is_some() {
        return earlier(config, output, &at, args);
    }
    let target = target::open(config, Access::Read)?;
    let download = open(&*target, &at, args.range)?;
    write(output, &at, download, args.output)?;
    target.close()?;
    Ok(())
}

/// Reads an earlier version, which servers keep.
fn earlier(config: &Config, output: Output, at: &Location, args: GetArgs) -> Outcome {
    if matches!(config.get(Setting::Root).source, Source::Flag(_)) {
        return Err(Failure::usage("versions are read from a server: leave out --root"));
    }
    let asked = match (args.version_id, args.at) {
        (Some(version), _) => format!("version={version}"),
        (None, at_ms) => format!("at_ms={}", at_ms.unwrap_or_default()),
    };
    let target = HttpTarget::new(config)?;
    let download = target.get_asked(at, args.range, Some(&asked))?;
    let missing = || {
        Failure::not_found(format!("no such version of {at} is kept"))
            .hint(format!("sira versions ls {at}"))
    };
    write(output, at, download.ok_or_else(missing)?, args.output)
}

fn write(output: Output, at: &Location, download: Download, to: Option<PathBuf>) -> Outcome {
    match to.filter(|path| path.as_os_str() != "-") {
        None => show(output, at, download)?,
        Some(path) => {
            let head = download.head.clone();
            let len = local::save(download, &path, &mut |_| {})?;
            let file = path.display().to_string();
            let record = Read {
                object: ObjectRecord::of_head(at, &head),
                value: None,
                value_base64: None,
                file: Some(file.clone()),
            };
            output.done(&record, || format!("{at} -> {file}  {len} bytes"))?;
        }
    }
    Ok(())
}

/// Runs `cat`.
///
/// # Errors
/// Exit code 3 when an object is not there; the ones before it are written.
pub fn run_cat(config: &Config, output: Output, args: CatArgs) -> Outcome {
    let namespace = config.text(Setting::Namespace);
    let locations: Vec<Location> =
        args.keys.iter().map(|key| Location::parse_key(key, namespace)).collect::<Outcome<_>>()?;
    let target = target::open(config, Access::Read)?;
    for at in &locations {
        show(output, at, open(&*target, at, None)?)?;
    }
    target.close()?;
    Ok(())
}

fn open(target: &dyn Target, at: &Location, range: Option<Range<u64>>) -> Outcome<Download> {
    target.get(at, range)?.ok_or_else(|| missing(at))
}

/// The error for an object that is not there.
pub fn missing(at: &Location) -> Failure {
    Failure::not_found(format!("there is no object {at}"))
}

fn show(output: Output, at: &Location, download: Download) -> Outcome {
    if !output.json() {
        return local::pipe(download).map(drop);
    }
    let head = download.head.clone();
    let bytes = local::collect(download)?;
    let (value, value_base64) = match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(error.as_bytes());
            (None, Some(encoded))
        }
    };
    let record = Read { object: ObjectRecord::of_head(at, &head), value, value_base64, file: None };
    output.result(&record, String::new)
}

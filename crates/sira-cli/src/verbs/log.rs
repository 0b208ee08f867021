//! `sira log`: check, mend and read the log in a folder.

mod dump;
mod files;
mod import;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use sira_log::disk::OsDisk;
use sira_log::{ContentKind, LogError, log_stem};

use crate::config::{Config, Setting};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// First part of the names of the segment files of a store, whose records are not items.
const STORE_STEM: &str = "store";

/// Verbs of `log`.
#[derive(Debug, Subcommand)]
pub enum LogVerb {
    /// Read and check every byte of a log or a store that no process has open
    ///
    /// Opening the log recovers it: a write that a crash tore is saved aside and cut off.
    Verify(verify::VerifyArgs),
    /// Put damage back from a mirror, or give up what no copy has, so that writes go on
    Repair(verify::RepairArgs),
    /// Print the items of a log, or the records of a store; also while a process writes it
    Dump(dump::DumpArgs),
    /// Print the last items of a log, and then those that come
    Tail(dump::TailArgs),
    /// Append items from a file or standard input
    Import(import::ImportArgs),
}

/// Runs the verb on the log in the folder of `--root`.
///
/// # Errors
/// Exit code 7 for a damaged log, 4 for one that another process has open.
pub fn run(config: &Config, output: Output, verb: LogVerb) -> Outcome {
    let root = PathBuf::from(config.text(Setting::Root));
    match verb {
        LogVerb::Verify(args) => verify::verify(&root, output, &args),
        LogVerb::Repair(args) => verify::repair(&root, output, &args),
        LogVerb::Dump(args) => dump::dump(&root, output, &args),
        LogVerb::Tail(args) => dump::tail(&root, output, &args),
        LogVerb::Import(args) => import::run(&root, output, &args),
    }
}

/// First part of the file names of the log in a folder.
fn stem_of(root: &Path) -> Outcome<String> {
    if !root.is_dir() {
        return Err(Failure::not_found(format!("there is no folder {}", root.display()))
            .hint("name the folder of the log with --root DIR"));
    }
    log_stem(&OsDisk, root).map_err(|error| match error {
        LogError::Format { .. } => Failure::not_found(format!("{error}"))
            .hint("name the folder of the log with --root DIR"),
        error => log_failure(error),
    })
}

fn log_failure(error: LogError) -> Failure {
    let message = error.to_string();
    match error {
        LogError::Io { action, path, source } => {
            Failure::io(format_args!("cannot {action} {}", path.display()), &source)
        }
        LogError::OutOfSpace { .. } => Failure::other(message).exit(Exit::Retryable),
        LogError::Corrupt { .. } | LogError::Damaged { .. } | LogError::Poisoned { .. } => {
            Failure::fatal(message)
        }
        LogError::Locked { .. } => Failure::other(message)
            .exit(Exit::Conflict)
            .hint("stop that process first; `sira log dump` and `sira log tail` read meanwhile"),
        LogError::TooLarge { .. } | LogError::InvalidInput(_) | LogError::Format { .. } => {
            Failure::usage(message)
        }
        _ => Failure::other(message),
    }
}

/// Name of a kind of item, as it is shown and read.
const fn kind_name(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Text => "text",
        ContentKind::Json => "json",
        ContentKind::Binary => "binary",
        ContentKind::MetadataData => "metadata_data",
        ContentKind::Custom => "custom",
    }
}

fn parse_kind(text: &str) -> Result<ContentKind, String> {
    (0..=u8::MAX)
        .filter_map(ContentKind::from_u8)
        .find(|kind| kind_name(*kind) == text)
        .ok_or_else(|| "write text, json, binary, metadata_data or custom".to_owned())
}

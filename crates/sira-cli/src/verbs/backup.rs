//! `sira backup`: snapshots, on the target of a server or straight on a folder and a target.

mod place;

use clap::{Args, Subcommand};
use sira_server::backups::BackupWork;

use crate::config::Config;
use crate::failure::Outcome;
use crate::output::Output;
use crate::units::parse_time;
use place::{Need, Place};

/// Verbs of backups.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A server works on the target of its [storage.backup]. With --target, and --root for what reads or
writes objects, the command works by itself while no server has the folder:
  sira backup run --root ./sira-data --target /var/backups/sira
They exit with 7 when something is damaged or was left out, which the report names.")]
pub enum BackupVerb {
    /// Make a snapshot
    Run(RunArgs),
    /// List the snapshots
    Ls(LsArgs),
    /// Read what a snapshot has, and compare it with its SHA-256
    Verify(VerifyArgs),
    /// Bring objects back
    Restore(RestoreArgs),
    /// Remove snapshots that are not to be kept, and what nothing needs
    Prune(PruneArgs),
    /// Restore the newest snapshot where nobody looks, compare it, and drop it
    Drill(DrillArgs),
}

/// Where backups lie.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Folder of the backups, or name of a backend of the configuration file [default: the server's]
    #[arg(long, value_name = "DIR|BACKEND")]
    pub target: Option<String>,
}

/// Flags of `backup run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Read every object, also those that have not changed
    #[arg(long)]
    full: bool,
}

/// Flags of `backup ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Flags of `backup verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Snapshot to look at [default: the newest]
    snapshot: Option<String>,
    /// How many of its objects to read, in percent [default: 5]
    #[arg(long)]
    percent: Option<f64>,
    /// Read everything there is
    #[arg(long)]
    full: bool,
}

/// Flags of `backup restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Objects that are there in the same version are left alone, so the same command goes on after it was
stopped. Objects that are there in another version are a conflict, and then nothing is written.
  sira restore --at 2026-11-22T09:30:00Z --only tenant-7 --to tenant-7-before")]
pub struct RestoreArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Snapshot to restore [default: the newest]
    #[arg(conflicts_with = "at")]
    snapshot: Option<String>,
    /// Moment to restore, such as 2026-11-22T09:30:00Z
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    at: Option<u64>,
    /// Namespaces to restore, such as tenant-* [default: all]
    #[arg(long, value_name = "NAMES")]
    only: Vec<String>,
    /// Namespace to restore one into [default: its own]
    #[arg(long, value_name = "NAMESPACE")]
    to: Option<String>,
    /// Replace objects that are there in another version
    #[arg(long)]
    overwrite: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Flags of `backup prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is kept is what [storage.backup.retention] of the configuration file says, and all without it.")]
pub struct PruneArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Snapshot to remove, whatever is kept
    #[arg(long, value_name = "SNAPSHOT")]
    remove: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Flags of `backup drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs a verb.
///
/// # Errors
/// Those of the server or the folder and of the target; and when something is damaged or left out.
pub fn run(config: &Config, output: Output, verb: BackupVerb) -> Outcome {
    let (need, target, work) = match verb {
        BackupVerb::Restore(args) => return restore(config, output, args),
        BackupVerb::Ls(LsArgs { target }) => {
            return Place::open(config, target.target, Need::Backups)?.list(output);
        }
        BackupVerb::Run(RunArgs { target, full }) => (Need::Make, target, BackupWork::Run { full }),
        BackupVerb::Verify(VerifyArgs { target, snapshot, percent, full }) => {
            (Need::Backups, target, BackupWork::Verify { snapshot, percent, full })
        }
        BackupVerb::Prune(PruneArgs { target, remove, dry_run }) => {
            (Need::Backups, target, BackupWork::Prune { remove, dry_run })
        }
        BackupVerb::Drill(DrillArgs { target }) => (Need::Objects, target, BackupWork::Drill {}),
    };
    Place::open(config, target.target, need)?.perform(output, &work)
}

/// Restores.
///
/// # Errors
/// As [`run`].
pub fn restore(config: &Config, output: Output, args: RestoreArgs) -> Outcome {
    let RestoreArgs { target, snapshot, at, only, to, overwrite, dry_run } = args;
    let work =
        BackupWork::Restore { snapshot, at_ms: at, namespaces: only, to, overwrite, dry_run };
    Place::open(config, target.target, Need::Objects)?.perform(output, &work)
}

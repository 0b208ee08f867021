//! `sira cp`: copy files and folders to and from the store.

mod plan;
mod progress;
mod transfer;

use clap::Args;
use serde::Serialize;
use sira_log::env::{Env, SystemEnv};

use super::put::WriteArgs;
use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::target::{self, Access};
use crate::units::human_size;

use plan::Plan;

/// Flags of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
With -r, what lies below a source folder or prefix lands directly below DST:
  sira cp -r ./models sira://ns/models     ./models/a.bin -> sira://ns/models/a.bin
  sira cp -r sira://ns/models ./copy       sira://ns/models/a.bin -> ./copy/a.bin
A file goes to the name DST, or into it when DST ends with `/`, is a local folder or a whole
namespace. Symbolic links to files are followed, those to folders are not. Each file appears whole
or not at all; empty folders, owners and times are not kept.")]
pub struct CpArgs {
    /// Files, folders or sira://NAMESPACE/KEY
    #[arg(required = true, value_name = "SRC")]
    sources: Vec<String>,
    /// Where they go
    #[arg(value_name = "DST")]
    destination: String,
    /// Copy what lies below folders and prefixes
    #[arg(short, long)]
    recursive: bool,
    /// Show what would be copied and copy nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Files on their way at once
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
struct Summary {
    verb: &'static str,
    summary: bool,
    files: u64,
    bytes: u64,
    failed: u64,
    seconds: f64,
}

/// Runs the verb.
///
/// # Errors
/// The first file's error, after all others are copied.
pub fn run(config: &Config, output: Output, args: CpArgs) -> Outcome {
    let writes = crate::path::is_remote(&args.destination);
    let folder_made =
        writes && !args.dry_run && !args.sources.iter().all(|s| crate::path::is_remote(s));
    let access = if folder_made { Access::Write } else { Access::Read };
    plan::check_sides(&args.sources, &args.destination)?;
    let target = target::open(config, access)?;
    let plan = Plan::make(&*target, output, &args, config.text(Setting::Namespace))?;
    if args.dry_run {
        for job in &plan.jobs {
            output.result(&job.record(true), || format!("would copy {job}"))?;
        }
        return target.close().map_err(Failure::from);
    }
    let started = SystemEnv.monotonic();
    let (files, bytes) = (plan.jobs.len() as u64, plan.bytes());
    let refused = plan.refused;
    for failure in &refused {
        output.failure(failure);
    }
    let target: std::sync::Arc<dyn target::Target> = target.into();
    let report = transfer::run(std::sync::Arc::clone(&target), output, plan.jobs, &args)?;
    target.close()?;
    let failed = (refused.len() + report.failures.len()) as u64;
    let seconds = SystemEnv.monotonic().saturating_sub(started).as_secs_f64();
    let copied = files - report.failures.len() as u64;
    let summary =
        Summary { verb: "cp", summary: true, files: copied, bytes: report.bytes, failed, seconds };
    output.done(&summary, || {
        let rate = human_size((report.bytes as f64 / seconds.max(1e-9)) as u64);
        let size = human_size(report.bytes);
        format!("copied {copied} files, {size} in {seconds:.2} s ({rate}/s)")
    })?;
    match refused.into_iter().chain(report.failures).next() {
        None if report.bytes < bytes => Err(Failure::other("fewer bytes were copied than planned")),
        None => Ok(()),
        Some(first) => Err(Failure {
            message: format!(
                "{failed} of {} files were not copied",
                files + failed - report.failed
            ),
            hint: None,
            ..first
        }),
    }
}

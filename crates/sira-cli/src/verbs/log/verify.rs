//! `sira log verify` and `sira log repair`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use sira_log::disk::OsDisk;
use sira_log::env::SystemEnv;
use sira_log::log::{Damage, OpenReport, RepairReport, SegmentLog, SegmentLogOptions};
use sira_log::{LogStorage, LogStorageOptions, StorageVerifyReport};

use super::{STORE_STEM, log_failure, stem_of};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::units::human_size;

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Compare with this mirror
    #[arg(long, value_name = "DIR")]
    mirror: Option<PathBuf>,
}

/// Flags of `repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Put damage back from this mirror
    #[arg(long, value_name = "DIR")]
    mirror: Option<PathBuf>,
    /// Show what is damaged and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Range {
    segment: u32,
    start: u64,
    end: u64,
}

impl From<Damage> for Range {
    fn from(damage: Damage) -> Self {
        Self { segment: damage.segment, start: damage.start, end: damage.end }
    }
}

fn ranges(damage: Vec<Damage>) -> Vec<Range> {
    damage.into_iter().map(Range::from).collect()
}

#[derive(Serialize)]
struct Torn {
    segment: u32,
    offset: u64,
    bytes: u64,
    saved_to: String,
}

#[derive(Serialize)]
struct Verified {
    verb: &'static str,
    root: String,
    ok: bool,
    segments: u64,
    records: u64,
    bytes: u64,
    holes: u64,
    damage: Vec<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror_differences: Option<Vec<Range>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<Torn>,
}

#[derive(Serialize)]
struct Repaired {
    verb: &'static str,
    root: String,
    restored: Vec<Range>,
    lost: Vec<Range>,
    saved_to: Vec<String>,
}

/// A log of items, with its mirror, or the log of a store.
enum Opened {
    Items(Box<LogStorage>),
    Store(Box<SegmentLog>, OpenReport),
}

impl Opened {
    fn open(root: &Path, mirror: Option<&PathBuf>) -> Outcome<Self> {
        let stem = stem_of(root)?;
        if stem != STORE_STEM {
            let mut options = LogStorageOptions::new(root);
            options.stem = stem;
            options.mirror_path = mirror.cloned();
            options.background = false;
            let log = LogStorage::open(options).map_err(log_failure)?;
            return Ok(Self::Items(Box::new(log)));
        }
        if mirror.is_some() {
            return Err(Failure::usage(format!(
                "{} holds a store, which has no mirror",
                root.display()
            )));
        }
        let options = SegmentLogOptions { stem, background: false, ..SegmentLogOptions::default() };
        let (log, report) = SegmentLog::open(Arc::new(OsDisk), Arc::new(SystemEnv), root, options)
            .map_err(log_failure)?;
        Ok(Self::Store(Box::new(log), report))
    }

    fn report(&self) -> &OpenReport {
        match self {
            Self::Items(log) => log.open_report(),
            Self::Store(_, report) => report,
        }
    }

    fn verify(&self) -> Outcome<StorageVerifyReport> {
        match self {
            Self::Items(log) => log.verify(),
            Self::Store(log, _) => {
                log.verify().map(|primary| StorageVerifyReport { primary, mirror: None })
            }
        }
        .map_err(log_failure)
    }

    fn repair(&self) -> Outcome<RepairReport> {
        match self {
            Self::Items(log) => log.repair(),
            Self::Store(log, _) => log.repair(&()),
        }
        .map_err(log_failure)
    }

    fn close(&self) -> Outcome {
        match self {
            // Nothing was appended, so the mirror has nothing to catch up with.
            Self::Items(log) => log.segments().close(),
            Self::Store(log, _) => log.close(),
        }
        .map_err(log_failure)
    }
}

/// Checks the log.
///
/// # Errors
/// Exit code 7 when something is damaged.
pub fn verify(root: &Path, output: Output, args: &VerifyArgs) -> Outcome {
    check(root, output, args.mirror.as_ref())
}

fn check(root: &Path, output: Output, mirror: Option<&PathBuf>) -> Outcome {
    let log = Opened::open(root, mirror)?;
    let report = log.verify()?;
    let torn = torn_of(log.report());
    log.close()?;
    let mirror_differences = report.mirror.map(|mirror| ranges(mirror.differences));
    let ok =
        report.primary.damage.is_empty() && mirror_differences.as_ref().is_none_or(Vec::is_empty);
    let verified = Verified {
        verb: "log verify",
        root: root.display().to_string(),
        ok,
        segments: report.primary.segments,
        records: report.primary.records,
        bytes: report.primary.bytes,
        holes: report.primary.holes,
        damage: ranges(report.primary.damage),
        mirror_differences,
        torn,
    };
    output.result(&verified, || verified_text(&verified))?;
    if ok {
        return Ok(());
    }
    let mirror = mirror.map(|path| format!(" --mirror {}", path.display())).unwrap_or_default();
    Err(Failure::fatal(format!("{} is damaged", root.display()))
        .hint(format!("sira log repair --root {}{mirror}", root.display())))
}

fn torn_of(report: &OpenReport) -> Option<Torn> {
    report.torn.as_ref().map(|torn| Torn {
        segment: torn.segment,
        offset: torn.offset,
        bytes: torn.bytes,
        saved_to: torn.saved_to.display().to_string(),
    })
}

fn verified_text(verified: &Verified) -> String {
    let mut out = format!(
        "{}: {} segments, {} records, {}: {}",
        verified.root,
        verified.segments,
        verified.records,
        human_size(verified.bytes),
        if verified.ok { "all verify" } else { "DAMAGED" }
    );
    if verified.holes > 0 {
        let _ = write!(out, "\n  {} ranges were given up by earlier repairs", verified.holes);
    }
    if let Some(torn) = &verified.torn {
        let _ = write!(
            out,
            "\n  a torn write of {} bytes at segment {}, byte {} was cut off and saved to {}",
            torn.bytes, torn.segment, torn.offset, torn.saved_to
        );
    }
    let _ = write!(out, "{}", lines("damaged", &verified.damage));
    let _ = write!(
        out,
        "{}",
        lines(
            "differs from the mirror",
            verified.mirror_differences.as_deref().unwrap_or_default()
        )
    );
    out
}

fn lines(what: &str, ranges: &[Range]) -> String {
    ranges.iter().fold(String::new(), |mut out, range| {
        let Range { segment, start, end } = range;
        let _ = write!(out, "\n  {what}: segment {segment}, bytes {start} to {end}");
        out
    })
}

/// Mends the log.
///
/// # Errors
/// When it cannot be mended.
pub fn repair(root: &Path, output: Output, args: &RepairArgs) -> Outcome {
    if args.dry_run {
        return check(root, output, args.mirror.as_ref());
    }
    let log = Opened::open(root, args.mirror.as_ref())?;
    let report = log.repair()?;
    log.close()?;
    let repaired = Repaired {
        verb: "log repair",
        root: root.display().to_string(),
        restored: ranges(report.restored),
        lost: ranges(report.lost),
        saved_to: report.saved_to.iter().map(|path| path.display().to_string()).collect(),
    };
    output.result(&repaired, || {
        if repaired.restored.is_empty() && repaired.lost.is_empty() {
            return format!("{}: nothing to mend", repaired.root);
        }
        let mut out = format!(
            "{}: {} ranges put back, {} given up",
            repaired.root,
            repaired.restored.len(),
            repaired.lost.len()
        );
        out.push_str(&lines("put back", &repaired.restored));
        out.push_str(&lines("given up", &repaired.lost));
        for path in &repaired.saved_to {
            let _ = write!(out, "\n  the bytes that were given up: {path}");
        }
        out
    })
}

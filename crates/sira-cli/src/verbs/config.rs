//! `sira config`: what holds, and why.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::Global;
use crate::config::{self, Config, SETTINGS, Source, Sourced};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show every setting, its value and where it came from
    Show,
    /// Check a configuration file; errors name line and column
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a commented file with every default
    Example,
}

#[derive(Serialize)]
struct SettingRecord<'a> {
    setting: &'a str,
    value: Option<&'a str>,
    source: String,
    env: &'a str,
    flag: &'a str,
}

#[derive(Serialize)]
struct CheckRecord<'a> {
    file: String,
    ok: bool,
    errors: &'a [String],
}

/// Runs the verb.
///
/// # Errors
/// Exit code 2 for a file or a value that is wrong.
pub fn run(global: &Global, output: Output, verb: ConfigVerb) -> Outcome {
    match verb {
        ConfigVerb::Show => show(global, output),
        ConfigVerb::Check { file } => check(output, &file),
        ConfigVerb::Example => output.document(config::render_example().as_bytes()),
    }
}

fn show(global: &Global, output: Output) -> Outcome {
    let config = Config::resolve(&global.flags(), global.config.as_deref())?;
    for spec in SETTINGS {
        let value = config.get(spec.setting);
        let shown = match &value.text {
            Some(_) if spec.secret => Some("(hidden)"),
            text => text.as_deref(),
        };
        let source = value.source.to_string();
        let record = SettingRecord {
            setting: spec.key,
            value: shown,
            source: source.clone(),
            env: spec.env,
            flag: spec.flag,
        };
        output
            .result(&record, || format!("{:16} {:24} {source}", spec.key, shown.unwrap_or("-")))?;
    }
    let default = (
        "storage.default_backend".to_owned(),
        Sourced { text: Some(config.storage().default_backend.clone()), source: Source::Default },
    );
    let written = config.storage_shown();
    let left_out = written.iter().all(|(name, _)| *name != default.0).then_some(&default);
    for (name, value) in left_out.into_iter().chain(written) {
        let source = value.source.to_string();
        let shown = value.text.as_deref();
        let record = SettingRecord {
            setting: name,
            value: shown,
            source: source.clone(),
            env: "",
            flag: "",
        };
        output.result(&record, || format!("{name:32} {:24} {source}", shown.unwrap_or("-")))?;
    }
    Ok(())
}

fn check(output: Output, file: &std::path::Path) -> Outcome {
    let wrong = config::check_file(file)?;
    let errors: Vec<String> = wrong.iter().map(|failure| failure.message.clone()).collect();
    let record =
        CheckRecord { file: file.display().to_string(), ok: wrong.is_empty(), errors: &errors };
    if output.json() || wrong.is_empty() {
        output.result(&record, || format!("{}: all settings are right", file.display()))?;
    }
    let Some((last, before)) = wrong.split_last() else { return Ok(()) };
    if output.json() {
        let count = wrong.len();
        let message = format!("{} has {count} wrong settings", file.display());
        return Err(Failure::usage(message).exit(Exit::Usage));
    }
    for failure in before {
        output.failure(failure);
    }
    Err(last.clone())
}

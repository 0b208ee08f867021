//! `sira advise`: what could be better, by the figures of a running server, and the line that makes
//! it so.

mod facts;
mod rules;
mod sample;

use clap::Args;
use serde::Serialize;

use crate::config::Config;
use crate::failure::Outcome;
use crate::output::Output;
use crate::target::HttpTarget;

use facts::Facts;

/// Flags of `advise`.
#[derive(Debug, Args)]
pub struct AdviseArgs {
    /// Objects of each namespace that are read to see how they compress and how old they are; 0 for none
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    sample: usize,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What it is about: `cache`, `compression`, `tiering`, `engine` or `space`.
    pub topic: &'static str,
    /// The namespace or backend.
    pub about: String,
    /// What was seen, with the figures.
    pub found: String,
    /// What changes it: lines of the configuration, or a command.
    pub apply: String,
}

/// Runs the verb.
///
/// # Errors
/// Those of the server.
pub fn run(config: &Config, output: Output, args: &AdviseArgs) -> Outcome {
    let target = HttpTarget::new(config)?;
    let samples = sample::take(&target, args.sample)?;
    let facts = Facts::gather(&target, samples)?;
    let advice = rules::all(&facts, config.storage());
    if advice.is_empty() {
        output.note("nothing to advise: see sira stats and sira health");
    }
    for advice in &advice {
        output.result(advice, || text(advice))?;
    }
    Ok(())
}

fn text(advice: &Advice) -> String {
    let apply = advice.apply.replace('\n', "\n      ");
    format!("{} {}: {}\n      {apply}", advice.topic, advice.about, advice.found)
}

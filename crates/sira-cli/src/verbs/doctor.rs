//! `sira doctor`: checks of this machine, the data folder, and the backends of a running server, each
//! with the command that mends what it finds.

mod checks;
mod server;

use serde::Serialize;

use crate::config::Config;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It will not work.
    Error,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), mend: None }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

/// Runs the verb.
///
/// # Errors
/// Exit code 1 when a check says that something will not work.
pub fn run(config: &Config, output: Output) -> Outcome {
    let mut errors = 0;
    let findings = checks::ALL.iter().map(|check| check(config));
    for finding in findings.chain(server::findings(config)) {
        errors += usize::from(finding.verdict == Verdict::Error);
        output.result(&finding, || text(&finding))?;
    }
    if errors == 0 {
        return Ok(());
    }
    let checks = if errors == 1 { "check" } else { "checks" };
    Err(Failure::other(format!("{errors} {checks} failed")).exit(Exit::Other))
}

fn text(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warning => "warn",
        Verdict::Error => "FAIL",
    };
    let line = format!("{mark}  {:12} {}", finding.check, finding.found);
    match &finding.mend {
        Some(mend) => format!("{line}\n      {:12} try: {mend}", ""),
        None => line,
    }
}

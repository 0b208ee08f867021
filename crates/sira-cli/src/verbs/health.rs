//! `sira health`: the checks of every backend of a server.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sira_store::health::{Check, HealthState};

use crate::config::Config;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::HttpTarget;
use crate::units::timestamp;

/// What the server tells.
#[derive(Debug, Serialize, Deserialize)]
pub struct Health {
    /// The worst of all.
    pub state: HealthState,
    /// The backends by name.
    pub backends: BTreeMap<String, Backend>,
}

/// One backend.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backend {
    /// The worst of its checks.
    pub state: HealthState,
    /// Its checks.
    pub checks: BTreeMap<Check, Checked>,
    /// Where its use is heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<serde_json::Value>,
    /// When the last whole pass of the scrub ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrubbed_ms: Option<u64>,
}

/// One check.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checked {
    /// How it stands.
    pub state: HealthState,
    /// Since when.
    pub since_ms: u64,
    /// What the last look saw.
    pub message: String,
}

/// Asks a server how its backends do.
///
/// # Errors
/// Those of the server.
pub fn ask(config: &Config) -> Outcome<Health> {
    Ok(HttpTarget::new(config)?.ask("/health")?)
}

/// Runs the verb.
///
/// # Errors
/// Those of the server; exit code 1 when something is a warning, 7 when something is critical.
pub fn run(config: &Config, output: Output) -> Outcome {
    let health = ask(config)?;
    output.result(&health, || table(&health))?;
    let (exit, code) = match health.state {
        HealthState::Healthy => return Ok(()),
        HealthState::Warning => (Exit::Other, "warning"),
        HealthState::Critical => (Exit::Fatal, "critical"),
    };
    let failing = health.backends.values().flat_map(|backend| backend.checks.values());
    let failing = failing.filter(|check| check.state != HealthState::Healthy).count();
    let checks = if failing == 1 { "check is" } else { "checks are" };
    let mut failure =
        Failure::other(format!("{failing} {checks} not healthy, the worst is {code}"))
            .exit(exit)
            .hint("sira doctor");
    failure.code = code.to_owned();
    Err(failure)
}

fn table(health: &Health) -> String {
    let mut out = format!("{:<18} {:<12} {:<9} {:<25} FOUND", "BACKEND", "CHECK", "STATE", "SINCE");
    for (name, backend) in &health.backends {
        for (check, found) in &backend.checks {
            let _ = write!(
                out,
                "\n{:<18} {:<12} {:<9} {:<25} {}",
                printable(name),
                check.name(),
                found.state.name(),
                timestamp(found.since_ms),
                printable(&found.message),
            );
        }
    }
    out
}

//! What a running server says of its backends.

use sira_store::health::{Check, HealthState};

use super::{Finding, Verdict};
use crate::config::{Config, Setting};
use crate::output::printable;
use crate::verbs::health;

/// Name of the backend in the data folder.
const EMBEDDED: &str = "embedded";

/// One finding for each check that is not healthy, or one that says that all are.
pub fn findings(config: &Config) -> Vec<Finding> {
    const NAME: &str = "server";
    let server = config.text(Setting::Server);
    let health = match health::ask(config) {
        Ok(health) => health,
        // One that does not run is no fault: `doctor` comes before `serve`, too.
        Err(failure) if failure.code == "unavailable" => {
            return vec![Finding::new(NAME, Verdict::Ok, format!("none answers at {server}"))];
        }
        Err(failure) => {
            let finding = Finding::new(NAME, Verdict::Warning, failure.message);
            let mend = failure.hint.unwrap_or_else(|| "sira health".to_owned());
            return vec![finding.mend(mend)];
        }
    };
    let mut found = Vec::new();
    for (backend, report) in &health.backends {
        for (check, checked) in &report.checks {
            let verdict = match checked.state {
                HealthState::Healthy => continue,
                HealthState::Warning => Verdict::Warning,
                HealthState::Critical => Verdict::Error,
            };
            let text = format!("{}: {}", printable(backend), printable(&checked.message));
            found.push(
                Finding::new(check.name(), verdict, text).mend(mend(config, backend, *check)),
            );
        }
    }
    if found.is_empty() {
        let text = format!("{} backends at {server} are healthy", health.backends.len());
        found.push(Finding::new(NAME, Verdict::Ok, text));
    }
    found
}

/// The command or change that mends what a check found.
fn mend(config: &Config, backend: &str, check: Check) -> String {
    let is_embedded = backend == EMBEDDED;
    let root = config.text(Setting::Root);
    match check {
        Check::Connection if is_embedded => {
            format!("stop the server, then sira log verify --root {root}")
        }
        Check::Connection => {
            format!("start the engine, or mend its section [storage.backends.{backend}]")
        }
        Check::Performance => "sira stats, to see which operations; then look at the load of the \
                               engine's machine and at its disk"
            .to_owned(),
        Check::Capacity if is_embedded => {
            format!(
                "du -xh --max-depth=2 {root} | sort -h; free space, or sira rm what is not needed"
            )
        }
        Check::Capacity => {
            format!(
                "make {backend} larger, or sira migrate {backend} OTHER PATTERN to move what can lie elsewhere"
            )
        }
        Check::Integrity if is_embedded => format!(
            "stop the server, sira log verify --root {root}; then restore a backup, or sira log \
             repair --root {root} to give up what is damaged"
        ),
        Check::Integrity => {
            "restore the named objects from a backup or from their source, or sira rm them"
                .to_owned()
        }
        Check::Backup => "look in the server's log for why backups fail, then make one".to_owned(),
    }
}

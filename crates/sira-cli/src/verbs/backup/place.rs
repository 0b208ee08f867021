//! Where the work is done: on a server, or in this process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sira_server::backups::{BackupDefaults, BackupTask, BackupWork};
use sira_server::http::backups::SnapshotStatus;
use sira_store::backup::BackupSource;
use sira_store::client::StoragePlan;
use sira_store::embedded::Engine;
use sira_store::env::{Env, SystemEnv};
use sira_store::placement::Catalog;
use sira_store::{EmbeddedBackend, StorageBackend, StorageClient};
use tokio::runtime::Runtime;

use crate::backups::open_defaults;
use crate::config::storage::{BackupConfig, EMBEDDED, KeyringSource};
use crate::config::{Config, Setting, Source};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, printable};
use crate::target::{Access, HttpTarget, open_engine};
use crate::units::{human_size, timestamp};

/// Time between two looks at the progress.
const POLL: Duration = Duration::from_millis(200);

/// What the work needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Backups that are there.
    Backups,
    /// Those, and a folder of objects.
    Objects,
    /// A folder of objects; backups are made if there are none.
    Make,
}

/// Where the work is done.
pub enum Place {
    /// On a server.
    Server(Box<HttpTarget>),
    /// In this process.
    Here(Box<Here>),
}

/// A folder and a target that this process has open.
pub struct Here {
    runtime: Runtime,
    engine: Option<Arc<Engine>>,
    defaults: BackupDefaults,
}

/// Work of a server, as it tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    id: u64,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    report: Value,
}

/// What `--json` prints of work that has ended.
#[derive(Serialize)]
struct Done<'a> {
    work: &'static str,
    sound: bool,
    report: &'a Value,
}

#[derive(Serialize, Deserialize)]
struct Snapshots {
    snapshots: Vec<Value>,
}

impl Place {
    /// Opens what the flags name.
    ///
    /// # Errors
    /// When a folder is needed and none is named, or what is named cannot be opened.
    pub fn open(config: &Config, target: Option<String>, need: Need) -> Outcome<Self> {
        let root = matches!(config.get(Setting::Root).source, Source::Flag(_));
        if target.is_none() && !root {
            return Ok(Self::Server(Box::new(HttpTarget::new(config)?)));
        }
        let mut backup = config.storage().backup.clone();
        if let Some(target) = target {
            let base = backup.unwrap_or_else(|| BackupConfig::new(target.clone()));
            backup = Some(BackupConfig { target, ..base });
        }
        let Some(backup) = backup else {
            return Err(Failure::usage("there is no target of backups")
                .hint("name it with --target DIR, or in [storage.backup] of the configuration"));
        };
        if need != Need::Backups && !root {
            return Err(Failure::usage("this needs the folder of the objects")
                .hint("name it with --root DIR, or leave --target out and ask the server"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("sira-backup")
            .enable_all()
            .build()
            .map_err(|error| Failure::io("cannot start threads", &error))?;
        let keyring = config.storage().keyring.as_ref().map(KeyringSource::open).transpose()?;
        let keyring = Arc::new(keyring.unwrap_or_default());
        let client = StorageClient::new();
        let mut source = BackupSource::new(client.clone());
        let mut engine = None;
        // With the folder open, a lease that a process of it left behind is its own.
        if root {
            let access = if need == Need::Backups { Access::Read } else { Access::Write };
            let opened = open_engine(config, access)?;
            let backend = EmbeddedBackend::new(Arc::clone(&opened));
            if let Some(records) = backend.find_namespace(Catalog::RECORDS)?
                && !runtime.block_on(records.list_keys("", 1))?.is_empty()
            {
                return Err(Failure::usage("objects may lie on other backends than this folder")
                    .hint("start the server, and leave out --root and --target"));
            }
            let backend: Arc<dyn StorageBackend> = Arc::new(backend);
            client.apply(StoragePlan {
                backends: BTreeMap::from([(EMBEDDED.to_owned(), backend)]),
                default_backend: Some(EMBEDDED.to_owned()),
                keyring: Arc::clone(&keyring),
                ..StoragePlan::default()
            })?;
            source = runtime.block_on(source.with_engine(EMBEDDED, Arc::clone(&opened)))?;
            engine = Some(opened);
        }
        let opened = BTreeMap::new();
        let make = need == Need::Make;
        let defaults = open_defaults(config.storage(), &backup, &opened, keyring, source, make);
        let defaults = runtime.block_on(defaults)?;
        Ok(Self::Here(Box::new(Here { runtime, engine, defaults })))
    }

    /// Prints the snapshots.
    ///
    /// # Errors
    /// Those of the server or the target.
    pub fn list(self, output: Output) -> Outcome {
        let snapshots: Vec<Value> = match self {
            Self::Server(server) => server.ask::<Snapshots>("/backups")?.snapshots,
            Self::Here(here) => {
                let found = here.runtime.block_on(here.defaults.repository.snapshots())?;
                let found = found.iter().map(SnapshotStatus::from);
                found.map(|status| serde_json::to_value(status).unwrap_or(Value::Null)).collect()
            }
        };
        for snapshot in &snapshots {
            output.result(snapshot, || line(snapshot))?;
        }
        Ok(())
    }

    /// Does the work and prints what came of it.
    ///
    /// # Errors
    /// Those of the work; and when something is damaged or was left out.
    pub fn perform(self, output: Output, work: &BackupWork) -> Outcome {
        let (report, sound) = match self {
            Self::Server(server) => {
                let mut status: Status = server.tell("/backups/jobs", work)?;
                let path = format!("/backups/jobs/{}", status.id);
                while status.state == "running" {
                    output.progress(&progress(&status.report));
                    SystemEnv.sleep(POLL);
                    status = server.ask(&path)?;
                }
                output.progress("");
                if let Some(error) = status.error {
                    let failed = format!("{} failed: {error}", work.name());
                    return Err(Failure::other(failed));
                }
                (status.report, status.state == "done")
            }
            Self::Here(here) => here.perform(output, work)?,
        };
        let done = Done { work: work.name(), sound, report: &report };
        output.result(&done, || text(work.name(), &report))?;
        match sound {
            true => Ok(()),
            false => Err(Failure::other("something is damaged or was left out, see the report")
                .exit(Exit::Fatal)),
        }
    }
}

impl Here {
    fn perform(self, output: Output, work: &BackupWork) -> Outcome<(Value, bool)> {
        let task = BackupTask::new(work, &self.defaults)?;
        let outcome = self.runtime.block_on(async {
            let run = task.run();
            tokio::pin!(run);
            loop {
                tokio::select! {
                    outcome = &mut run => return outcome,
                    () = tokio::time::sleep(POLL) => output.progress(&progress(&task.report())),
                }
            }
        });
        output.progress("");
        drop(task);
        let Self { runtime, engine, defaults } = self;
        runtime.block_on(defaults.repository.settle());
        drop(defaults);
        runtime.shutdown_timeout(Duration::from_secs(5));
        if let Some(engine) = engine {
            engine.flush()?;
            engine.close()?;
        }
        let outcome = outcome?;
        Ok((outcome.report, outcome.sound))
    }
}

fn number(report: &Value, key: &str) -> u64 {
    report.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn progress(report: &Value) -> String {
    format!("{} objects, {}", number(report, "objects"), human_size(number(report, "bytes")))
}

fn line(snapshot: &Value) -> String {
    format!(
        "{}  {}  {} objects  {}",
        snapshot.get("id").and_then(Value::as_str).map(printable).unwrap_or_default(),
        timestamp(number(snapshot, "begun_ms")),
        number(snapshot, "objects"),
        human_size(number(snapshot, "bytes")),
    )
}

/// The report for people.
fn text(work: &str, report: &Value) -> String {
    let count = |key: &str| number(report, key);
    let size = |key: &str| human_size(number(report, key));
    let name = report.get("snapshot").and_then(Value::as_str).map(printable).unwrap_or_default();
    let mut out = match work {
        "run" => format!(
            "snapshot {name}: {} objects ({}), {} of them read ({}), {} added",
            count("objects"),
            size("bytes"),
            count("read"),
            size("read_bytes"),
            size("added_bytes"),
        ),
        "verify" => format!(
            "{} snapshots: {} of {} objects read ({})",
            count("snapshots"),
            count("verified"),
            count("objects"),
            size("verified_bytes"),
        ),
        "restore" => format!(
            "snapshot {name}, as of {}: {} of {} objects restored ({}), {} were there, {} have \
             expired, {} are there in another version",
            timestamp(count("as_of_ms")),
            count("restored"),
            count("objects"),
            size("restored_bytes"),
            count("present"),
            count("expired"),
            count("conflicts"),
        ),
        "prune" => format!(
            "{} snapshots removed, {} kept; {} packs removed, {} written anew, {} left behind; {} \
             freed",
            report.get("removed").and_then(Value::as_array).map_or(0, Vec::len),
            report.get("kept").and_then(Value::as_array).map_or(0, Vec::len),
            count("packs_removed"),
            count("packs_rewritten"),
            count("packs_left_behind"),
            size("freed_bytes"),
        ),
        _ => format!(
            "snapshot {name}: {} objects ({}) are as they should be",
            count("objects"),
            size("bytes")
        ),
    };
    for list in ["failed", "damaged", "wrong"] {
        for object in report.get(list).and_then(Value::as_array).into_iter().flatten() {
            let part = |key: &str| {
                object.get(key).and_then(Value::as_str).map(printable).unwrap_or_default()
            };
            let _ =
                write!(out, "\n{list}: {}/{}: {}", part("namespace"), part("key"), part("error"));
        }
    }
    for part in report.get("parts").and_then(Value::as_array).into_iter().flatten() {
        let _ = write!(out, "\ndamaged: {}", printable(part.as_str().unwrap_or_default()));
    }
    out
}

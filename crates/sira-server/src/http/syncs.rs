//! `/syncs`: keeping two places level while they are in use.

mod figures;
pub mod follow;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sira_store::client::{DataSync, DataSyncProgress, SyncPlace, SyncPlan};
use sira_store::migration::{ConflictRule, Verify};
use sira_store::{StorageBackend, StorageError};
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;
use crate::storage::EMBEDDED;

/// Ended syncs that are remembered.
const REMEMBERED: usize = 100;

/// Namespace of the embedded engine that keeps what syncs remember. Like the catalog's, it is shown
/// to nobody.
const STATE_NAMESPACE: &str = "sira.catalog.syncs";

/// What stands between the key and the version of an object that is kept beside another.
const KEEP_BOTH_SEPARATOR: &str = ".conflict-";

/// Objects of which one is read back, where some are.
const SAMPLE: u32 = 100;

/// Syncs that were begun on this server, by number.
#[derive(Debug, Default)]
pub struct Syncs {
    next: AtomicU64,
    known: Mutex<BTreeMap<u64, Job>>,
}

#[derive(Debug)]
struct Job {
    asked: SyncRequest,
    /// None while one that is to go on after a restart cannot begin.
    sync: Option<Arc<DataSync>>,
    /// Why it cannot.
    hindrance: Option<String>,
    outcome: Option<Result<(), StorageError>>,
    cancelled: bool,
    task: Option<JoinHandle<()>>,
}

/// A namespace as it lies on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Name of the backend. Left out for a namespace whose objects lie where the catalog says; else
    /// that is the namespace's own backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Name of the namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

/// What becomes of an object that both places have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// The newer version wins.
    #[default]
    Newest,
    /// What `from` has wins.
    Source,
    /// What `to` has wins.
    Target,
    /// Both are kept: the older one under its key, `.conflict-` and its version.
    KeepBoth,
}

/// What is read back after it was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Nothing: engines check what they are given.
    #[default]
    None,
    /// One of a hundred objects.
    Sample,
    /// Every object.
    All,
}

/// Which places are to be kept level, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// One place.
    pub from: Place,
    /// The other one.
    pub to: Place,
    /// What either place has changed since the last time goes to the other one. Else `to` becomes as
    /// `from` is.
    #[serde(default)]
    pub two_way: bool,
    /// Goes on until it is ended. One way, the change log of the embedded engine is followed.
    #[serde(default)]
    pub follow: bool,
    /// Keys, such as `cache:*`; all if left out.
    #[serde(default = "any")]
    pub pattern: String,
    /// What becomes of an object that both places have changed, where nothing is followed one way.
    #[serde(default)]
    pub conflict: Conflict,
    /// What is read back, where nothing is followed one way.
    #[serde(default)]
    pub verify: Check,
    /// Counts what would be done, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Goes on although one place has lost every key that both had.
    #[serde(default)]
    pub may_empty: bool,
    /// Most bytes of values a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second_max: Option<u64>,
    /// Milliseconds between two passes, where it goes on and no change log is followed.
    #[serde(default = "pass_interval_ms")]
    pub pass_interval_ms: u64,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn any() -> String {
    "*".to_owned()
}

fn pass_interval_ms() -> u64 {
    10_000
}

impl SyncRequest {
    fn plan(&self) -> Result<SyncPlan, StorageError> {
        let place = |place: &Place| SyncPlace {
            backend: place.backend.clone(),
            namespace: place.namespace.clone(),
        };
        Ok(SyncPlan {
            two_way: self.two_way,
            follow: self.follow,
            pattern: self.pattern.parse()?,
            conflict: match self.conflict {
                Conflict::Newest => ConflictRule::Newest,
                Conflict::Source => ConflictRule::Source,
                Conflict::Target => ConflictRule::Target,
                Conflict::KeepBoth => {
                    ConflictRule::KeepBoth { separator: KEEP_BOTH_SEPARATOR.to_owned() }
                }
            },
            verify: match self.verify {
                Check::None => Verify::None,
                Check::Sample => Verify::OneOf(SAMPLE),
                Check::All => Verify::All,
            },
            dry_run: self.dry_run,
            may_empty: self.may_empty,
            bytes_per_second_max: self.bytes_per_second_max,
            pass_interval: Duration::from_millis(self.pass_interval_ms.max(1)),
            ..SyncPlan::new(place(&self.from), place(&self.to))
        })
    }
}

/// A sync, and how far it has come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SyncStatus {
    /// Its number.
    pub id: u64,
    /// What was asked.
    #[serde(flatten)]
    pub request: SyncRequest,
    /// `running`, `done`, `failed`, `cancelled`, or `waiting`: one that goes on after a restart of
    /// the server and cannot begin yet.
    pub state: &'static str,
    /// Why it failed, or why it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was done so far; `mode` is `one_way`, `two_way` or `follow`. Left out while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub progress: Option<DataSyncProgress>,
}

/// Syncs that were begun here.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SyncList {
    /// The oldest first.
    pub syncs: Vec<SyncStatus>,
}

impl Job {
    fn status(&self, id: u64) -> SyncStatus {
        let (state, error) = match &self.outcome {
            _ if self.cancelled => ("cancelled", None),
            None if self.sync.is_none() => ("waiting", self.hindrance.clone()),
            None => ("running", None),
            Some(Ok(())) => ("done", None),
            Some(Err(error)) => ("failed", Some(error.to_string())),
        };
        let progress = self.sync.as_ref().map(|sync| sync.progress());
        SyncStatus { id, request: self.asked.clone(), state, error, progress }
    }

    fn is_running(&self) -> bool {
        self.outcome.is_none() && !self.cancelled
    }

    /// Both places, as they are asked for.
    fn places(&self) -> (&Place, &Place) {
        (&self.asked.from, &self.asked.to)
    }
}

impl Syncs {
    /// Adds a sync and runs it as a task: one that is ready, or one that is made ready there.
    fn begin(
        &self,
        asked: SyncRequest,
        sync: Option<DataSync>,
        app: &App,
    ) -> Result<SyncStatus, Problem> {
        let sync = sync.map(Arc::new);
        let mut known = self.known.lock();
        let twin = known
            .iter()
            .find(|(_, job)| job.is_running() && job.places() == (&asked.from, &asked.to));
        if let (Some((id, _)), false) = (twin, asked.dry_run) {
            return Err(StorageError::conflict(format!(
                "sync {id} of these places is running; end it first, or let it come to its end"
            ))
            .into());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let ended: Vec<u64> =
            known.iter().filter(|(_, job)| !job.is_running()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(REMEMBERED - 1)) {
            known.remove(id);
        }
        let (app, request, ready) = (app.clone(), asked.clone(), sync.clone());
        let task = tokio::spawn(async move {
            let running = match ready {
                Some(sync) => sync,
                None => follow::made_ready(&app, id, &request).await,
            };
            let outcome = running.run().await;
            if let Err(error) = &outcome {
                tracing::warn!(id, %error, "a sync failed");
            }
            if let Some(job) = app.syncs().known.lock().get_mut(&id) {
                job.outcome = Some(outcome);
            }
        });
        let task = Some(task);
        let job = Job { asked, sync, hindrance: None, outcome: None, cancelled: false, task };
        Ok(known.entry(id).or_insert(job).status(id))
    }

    /// Stops what is running, as the server does: what was done is done. Those that follow go on
    /// when it is started again.
    pub async fn close(&self) {
        let tasks: Vec<_> =
            self.known.lock().values_mut().filter_map(|job| job.task.take()).collect();
        for task in tasks {
            task.abort();
            // Ends with an error for having been stopped.
            let _ = task.await;
        }
    }

    /// What was asked of the sync of this number, if it is the last one of its places that follows.
    fn follows_last(&self, id: u64) -> Option<SyncRequest> {
        let known = self.known.lock();
        let job = known.get(&id).filter(|job| job.asked.follow)?;
        let mut later = known.range(id + 1..).filter(|(_, later)| later.asked.follow);
        let replaced = later.any(|(_, later)| later.places() == job.places());
        (!replaced).then(|| job.asked.clone())
    }

    /// Ends a sync: says whether there is one of this number.
    fn end(&self, id: u64) -> bool {
        let mut known = self.known.lock();
        let Some(job) = known.get_mut(&id) else { return false };
        if !job.is_running() {
            return true;
        }
        match (&job.sync, &job.task) {
            (Some(sync), _) if sync.follows() => sync.stop(),
            (_, Some(task)) => {
                task.abort();
                job.cancelled = true;
            }
            (_, None) => {}
        }
        true
    }
}

fn id_of(uri: &Uri) -> Result<u64, Problem> {
    let text = uri.path().strip_prefix("/syncs/").unwrap_or_default();
    text.parse().map_err(|_| unknown(text))
}

fn unknown(id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no sync {id} on this server; see /syncs"))
}

/// Begins to bring two places level, or to keep them so, and answers at once. The same request goes
/// on where an earlier one was ended. One that follows goes on by itself when the server is started
/// again.
#[utoipa::path(
    post,
    path = "/syncs",
    tag = "operations",
    request_body = SyncRequest,
    responses(
        (status = 202, description = "Begun", body = SyncStatus),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "There is no such namespace or backend", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 409, description = "A sync of these places is running", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn begin(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<SyncRequest>(&app, request).await?;
    let sync = prepare(&app, &asked).await?;
    let begun = app.syncs().begin(asked.clone(), Some(sync), &app)?;
    if asked.follow
        && let Err(error) = follow::remember(&app, &asked).await
    {
        app.syncs().end(begun.id);
        return Err(error.into());
    }
    json::answer(StatusCode::ACCEPTED, &begun)
}

/// Makes a sync ready to run.
async fn prepare(app: &App, asked: &SyncRequest) -> Result<DataSync, Problem> {
    let plan = asked.plan()?;
    for namespace in [&plan.from.namespace, &plan.to.namespace] {
        App::check_not_reserved(namespace)?;
    }
    if plan.from.backend.is_none() {
        // What is only read is not made.
        let _ = app.namespace(&plan.from.namespace).await?;
    }
    let state = StorageBackend::namespace(app.store(), STATE_NAMESPACE).await?;
    let sync = app.client().sync(&plan, state).await?;
    let (Some(EMBEDDED), namespace) = sync.source() else { return Ok(sync) };
    // The engine lies behind layers, which do not show its log.
    let log = StorageBackend::namespace(app.store(), namespace).await?.change_log();
    Ok(match log {
        Some(log) => sync.with_change_log(log),
        None => sync,
    })
}

/// Lists the syncs that were begun on this server.
#[utoipa::path(
    get,
    path = "/syncs",
    tag = "operations",
    responses((status = 200, description = "Syncs", body = SyncList))
)]
pub async fn list(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let syncs = app.syncs().known.lock().iter().map(|(id, job)| job.status(*id)).collect();
    json::answer(StatusCode::OK, &SyncList { syncs })
}

/// Shows how far a sync has come.
#[utoipa::path(
    get,
    path = "/syncs/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The sync", body = SyncStatus),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn show(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    let status = app.syncs().known.lock().get(&id).map(|job| job.status(id));
    json::answer(StatusCode::OK, &status.ok_or_else(|| unknown(id))?)
}

/// Ends a sync; what was done is done. One that follows ends after what is under way, and does not
/// begin again with the server.
#[utoipa::path(
    delete,
    path = "/syncs/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It ends"),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn end(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    // Forgotten first: one that is ended does not come again.
    if let Some(asked) = app.syncs().follows_last(id) {
        follow::forget(&app, &asked).await?;
    }
    match app.syncs().end(id) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(unknown(id)),
    }
}

//! `/backups`: snapshots, and the work that is done on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use sira_store::backup::Snapshot;
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use crate::backups::{BackupOutcome, BackupTask, BackupWork};
use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;

/// Ended jobs that are remembered.
const REMEMBERED: usize = 100;

/// Work on backups that was asked of this server, by number.
#[derive(Default)]
pub struct BackupJobs {
    next: AtomicU64,
    known: Mutex<BTreeMap<u64, Job>>,
}

struct Job {
    work: BackupWork,
    task: Arc<BackupTask>,
    outcome: Option<Result<BackupOutcome, String>>,
    cancelled: bool,
    handle: Option<AbortHandle>,
}

/// Work, and how far it has come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupJobStatus {
    /// Its number.
    pub id: u64,
    /// What was asked.
    #[serde(flatten)]
    pub work: BackupWork,
    /// `running`, `done`, `incomplete`, `failed` or `cancelled`. What is incomplete has found damage
    /// or left objects out, which the report names.
    pub state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was done so far.
    #[schema(value_type = Object)]
    pub report: Value,
}

/// Work that was asked here.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupJobList {
    /// The oldest first.
    pub jobs: Vec<BackupJobStatus>,
}

/// The snapshots that there are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SnapshotList {
    /// The oldest first, without their pages.
    pub snapshots: Vec<SnapshotStatus>,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SnapshotStatus {
    /// Its name.
    pub id: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
    /// When it was complete.
    pub ended_ms: u64,
    /// The moment that namespaces on the embedded engine are of.
    pub as_of_ms: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Objects that are missing, or older than they should be.
    pub failed: usize,
    /// Names of its namespaces, and whether each is as it was at one moment.
    pub namespaces: BTreeMap<String, bool>,
}

impl From<&Snapshot> for SnapshotStatus {
    fn from(snapshot: &Snapshot) -> Self {
        let namespaces = snapshot.namespaces.iter();
        Self {
            id: snapshot.id.to_string(),
            begun_ms: snapshot.id.begun_ms,
            ended_ms: snapshot.ended_ms,
            as_of_ms: snapshot.as_of_ms,
            objects: snapshot.objects(),
            bytes: snapshot.bytes(),
            failed: snapshot.failed.len(),
            namespaces: namespaces.map(|(name, own)| (name.clone(), own.exact)).collect(),
        }
    }
}

impl Job {
    fn status(&self, id: u64) -> BackupJobStatus {
        let (state, error) = match &self.outcome {
            _ if self.cancelled => ("cancelled", None),
            None => ("running", None),
            Some(Ok(outcome)) if outcome.sound => ("done", None),
            Some(Ok(_)) => ("incomplete", None),
            Some(Err(error)) => ("failed", Some(error.clone())),
        };
        let report = match &self.outcome {
            Some(Ok(outcome)) => outcome.report.clone(),
            _ => self.task.report(),
        };
        BackupJobStatus { id, work: self.work.clone(), state, error, report }
    }

    fn is_running(&self) -> bool {
        self.outcome.is_none() && !self.cancelled
    }
}

impl BackupJobs {
    fn begin(&self, work: BackupWork, task: BackupTask, app: &App) -> BackupJobStatus {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let task = Arc::new(task);
        let mut known = self.known.lock();
        let ended: Vec<u64> =
            known.iter().filter(|(_, job)| !job.is_running()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(REMEMBERED - 1)) {
            known.remove(id);
        }
        let name = work.name();
        let (running, shared) = (Arc::clone(&task), app.clone());
        let job = Job { work, task, outcome: None, cancelled: false, handle: None };
        let job = known.entry(id).or_insert(job);
        let handle = tokio::spawn(async move {
            let done = shared.backups().perform(name, &running, shared.env()).await;
            if let Some(job) = shared.backup_jobs().known.lock().get_mut(&id) {
                job.outcome = Some(done.map_err(|error| error.to_string()));
            }
        });
        job.handle = Some(handle.abort_handle());
        job.status(id)
    }
}

fn id_of(uri: &Uri) -> Result<u64, Problem> {
    let text = uri.path().strip_prefix("/backups/jobs/").unwrap_or_default();
    text.parse().map_err(|_| unknown(text))
}

fn unknown(id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no work {id} on this server; see /backups/jobs"))
}

/// Lists the snapshots.
#[utoipa::path(
    get,
    path = "/backups",
    tag = "operations",
    responses(
        (status = 200, description = "Snapshots", body = SnapshotList),
        (status = 404, description = "The server makes no backups", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn snapshots(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let snapshots = app.backups().defaults()?.repository.snapshots().await?;
    let snapshots = snapshots.iter().map(SnapshotStatus::from).collect();
    json::answer(StatusCode::OK, &SnapshotList { snapshots })
}

/// Begins a run, a verification, a restore, a prune or a drill, and answers at once.
#[utoipa::path(
    post,
    path = "/backups/jobs",
    tag = "operations",
    request_body = BackupWork,
    responses(
        (status = 202, description = "Begun", body = BackupJobStatus),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "The server makes no backups", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn begin(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (work, _share) = json::read::<BackupWork>(&app, request).await?;
    let task = BackupTask::new(&work, &app.backups().defaults()?)?;
    json::answer(StatusCode::ACCEPTED, &app.backup_jobs().begin(work, task, &app))
}

/// Lists the work on backups that was asked of this server.
#[utoipa::path(
    get,
    path = "/backups/jobs",
    tag = "operations",
    responses((status = 200, description = "Work", body = BackupJobList))
)]
pub async fn list(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let known = app.backup_jobs().known.lock();
    let jobs = known.iter().map(|(id, job)| job.status(*id)).collect();
    drop(known);
    json::answer(StatusCode::OK, &BackupJobList { jobs })
}

/// Shows how far work has come.
#[utoipa::path(
    get,
    path = "/backups/jobs/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The work", body = BackupJobStatus),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn show(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    let status = app.backup_jobs().known.lock().get(&id).map(|job| job.status(id));
    json::answer(StatusCode::OK, &status.ok_or_else(|| unknown(id))?)
}

/// Ends work; a run that is ended leaves no snapshot, a restore what it has restored.
#[utoipa::path(
    delete,
    path = "/backups/jobs/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn cancel(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    let mut known = app.backup_jobs().known.lock();
    let job = known.get_mut(&id).ok_or_else(|| unknown(id))?;
    if job.is_running() {
        job.cancelled = true;
        if let Some(handle) = &job.handle {
            handle.abort();
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

//! `/migrations`: moving objects between backends while they are in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sira_store::StorageError;
use sira_store::client::DataMovement;
use sira_store::migration::{MigrationOptions, MigrationReport, Verify};
use sira_store::version_history::is_kept_namespace;
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;

/// Ended migrations that are remembered.
const REMEMBERED: usize = 100;

/// Migrations that were begun on this server, by number.
#[derive(Debug, Default)]
pub struct Migrations {
    next: AtomicU64,
    known: Mutex<BTreeMap<u64, Job>>,
}

#[derive(Debug)]
struct Job {
    asked: MigrationRequest,
    movement: Arc<DataMovement>,
    outcome: Option<Result<(), StorageError>>,
    cancelled: bool,
    task: Option<AbortHandle>,
}

/// What is to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// Namespace of the objects.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Name of the backend that they are to leave.
    pub from: String,
    /// Name of the backend that they are to lie on.
    pub to: String,
    /// Keys, such as `cache:*`; all if left out.
    #[serde(default = "any")]
    pub pattern: String,
    /// Counts what would be moved, and moves nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Reads every copy back, where objects are copied.
    #[serde(default)]
    pub verify: bool,
    /// Most bytes of values a second, where objects are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second_max: Option<u64>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn any() -> String {
    "*".to_owned()
}

/// A migration, and how far it has come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MigrationStatus {
    /// Its number.
    pub id: u64,
    /// What was asked.
    #[serde(flatten)]
    pub request: MigrationRequest,
    /// `running`, `done`, `failed` or `cancelled`.
    pub state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was done so far.
    #[schema(value_type = Object)]
    pub report: MigrationReport,
}

/// Migrations that were begun here.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MigrationList {
    /// The oldest first.
    pub migrations: Vec<MigrationStatus>,
}

impl Job {
    fn status(&self, id: u64) -> MigrationStatus {
        let (state, error) = match &self.outcome {
            _ if self.cancelled => ("cancelled", None),
            None => ("running", None),
            Some(Ok(())) => ("done", None),
            Some(Err(error)) => ("failed", Some(error.to_string())),
        };
        let report = self.movement.report();
        MigrationStatus { id, request: self.asked.clone(), state, error, report }
    }

    fn is_running(&self) -> bool {
        self.outcome.is_none() && !self.cancelled
    }
}

impl Migrations {
    fn begin(&self, asked: MigrationRequest, movement: DataMovement, app: &App) -> MigrationStatus {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let movement = Arc::new(movement);
        let mut known = self.known.lock();
        let ended: Vec<u64> =
            known.iter().filter(|(_, job)| !job.is_running()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(REMEMBERED - 1)) {
            known.remove(id);
        }
        let job = Job {
            asked,
            movement: Arc::clone(&movement),
            outcome: None,
            cancelled: false,
            task: None,
        };
        let job = known.entry(id).or_insert(job);
        let app = app.clone();
        let task = tokio::spawn(async move {
            let outcome = movement.run().await.map(drop);
            if let Err(error) = &outcome {
                tracing::warn!(id, %error, "a migration failed");
            }
            if let Some(job) = app.migrations().known.lock().get_mut(&id) {
                job.outcome = Some(outcome);
            }
        });
        job.task = Some(task.abort_handle());
        job.status(id)
    }
}

fn id_of(uri: &Uri) -> Result<u64, Problem> {
    let text = uri.path().strip_prefix("/migrations/").unwrap_or_default();
    text.parse().map_err(|_| unknown(text))
}

fn unknown(id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no migration {id} on this server; see /migrations"))
}

/// Begins to move objects from one backend to another, and answers at once.
#[utoipa::path(
    post,
    path = "/migrations",
    tag = "operations",
    request_body = MigrationRequest,
    responses(
        (status = 202, description = "Begun", body = MigrationStatus),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "There is no such namespace or backend", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn begin(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<MigrationRequest>(&app, request).await?;
    // A migration makes no namespace. Earlier versions, which nobody else reads, can be moved too.
    if !is_kept_namespace(&asked.namespace) {
        let _ = app.namespace(&asked.namespace).await?;
    }
    let options = MigrationOptions {
        pattern: asked.pattern.parse()?,
        dry_run: asked.dry_run,
        verify: if asked.verify { Verify::All } else { Verify::None },
        bytes_per_second_max: asked.bytes_per_second_max,
        ..MigrationOptions::default()
    };
    let client = app.client().namespace(&asked.namespace);
    let movement = client.migration(&asked.from, &asked.to, options).await?;
    json::answer(StatusCode::ACCEPTED, &app.migrations().begin(asked, movement, &app))
}

/// Lists the migrations that were begun on this server.
#[utoipa::path(
    get,
    path = "/migrations",
    tag = "operations",
    responses((status = 200, description = "Migrations", body = MigrationList))
)]
pub async fn list(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let known = app.migrations().known.lock();
    let migrations = known.iter().map(|(id, job)| job.status(*id)).collect();
    drop(known);
    json::answer(StatusCode::OK, &MigrationList { migrations })
}

/// Shows how far a migration has come.
#[utoipa::path(
    get,
    path = "/migrations/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The migration", body = MigrationStatus),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn show(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    let status = app.migrations().known.lock().get(&id).map(|job| job.status(id));
    json::answer(StatusCode::OK, &status.ok_or_else(|| unknown(id))?)
}

/// Ends a migration; what was moved stays moved.
#[utoipa::path(
    delete,
    path = "/migrations/{id}",
    tag = "operations",
    params(("id" = u64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn cancel(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let id = id_of(request.uri())?;
    let mut known = app.migrations().known.lock();
    let job = known.get_mut(&id).ok_or_else(|| unknown(id))?;
    if job.is_running() {
        job.cancelled = true;
        if let Some(task) = &job.task {
            task.abort();
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

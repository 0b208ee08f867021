//! `/lifecycle`: rules about objects that grow old, and looking to them now.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sira_store::lifecycle::{LifecycleAction, LifecycleCursor, LifecycleRule};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::json;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::lifecycle::LastRun;
use crate::problem::Problem;

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// `keep`, `expire`, `move` or `compress`.
    pub action: String,
    /// Backend that objects are moved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How hard to compress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<i32>,
    /// Which objects it is about, in words.
    pub about: String,
}

/// The rules, and the last run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rules {
    /// In their order: the first that an object fits decides.
    pub rules: Vec<Rule>,
    /// How often they are looked to, in seconds; 0 is never by itself.
    pub interval_seconds: f64,
    /// Whether a run is under way.
    pub running: bool,
    /// The last run that the server made by itself: `began_at_ms`, `ended_at_ms`, `report`.
    #[schema(value_type = Object)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
}

/// A part of a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Only says what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// `next` of the part before: `namespace` and `after`.
    #[schema(value_type = Object)]
    pub from: Option<LifecycleCursor>,
    /// Most objects that are looked at; 1,000 if left out.
    #[serde(default)]
    pub limit: usize,
}

/// Tells the rules, and what the last run did.
#[utoipa::path(
    get,
    path = "/lifecycle",
    tag = "operations",
    responses((status = 200, description = "The rules", body = Rules))
)]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let lifecycle = app.lifecycle();
    let settings = lifecycle.settings();
    let (last, running) = lifecycle.last();
    let rules = Rules {
        rules: settings.rules.iter().map(shown).collect(),
        interval_seconds: settings.interval.as_secs_f64(),
        running,
        last,
    };
    json::answer(StatusCode::OK, &rules)
}

/// Looks at the next objects, and does what the rules say.
#[utoipa::path(
    post,
    path = "/lifecycle/run",
    tag = "operations",
    request_body = RunRequest,
    responses(
        (status = 200, description = "What came of it: `objects`, `rules` by name (`action`, `objects`, `bytes`, `failed`), `failures` by object, and `next`, where the next part begins", body = Object),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn run(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<RunRequest>(&app, request).await?;
    let RunRequest { dry_run, from, limit } = asked;
    let engine = app.store().engine();
    let part = app.lifecycle().part(app.client(), engine, from, limit, dry_run).await?;
    json::answer(StatusCode::OK, &part)
}

fn shown(rule: &LifecycleRule) -> Rule {
    let (to, level) = match &rule.action {
        LifecycleAction::Move { to } => (Some(to.clone()), None),
        LifecycleAction::Compress { level } => (None, Some(*level)),
        LifecycleAction::Keep | LifecycleAction::Expire => (None, None),
    };
    let mut about = Vec::new();
    if !rule.namespaces.is_empty() {
        let names: Vec<_> = rule.namespaces.iter().map(|name| name.as_str()).collect();
        about.push(format!("in {}", names.join(", ")));
    }
    about.extend(rule.keys.as_ref().map(|keys| format!("keys {}", keys.as_str())));
    about.extend(rule.metadata.iter().map(|(name, value)| format!("{name}={value}")));
    let age = rule.older_than.map(|age| format!("older than {} s", age.as_secs_f64()));
    about.extend(age);
    about.extend(rule.larger_than.map(|bytes| format!("over {bytes} bytes")));
    about.extend(rule.smaller_than.map(|bytes| format!("under {bytes} bytes")));
    Rule {
        name: rule.name.clone(),
        action: rule.action.name().to_owned(),
        to,
        level,
        about: if about.is_empty() { "every object".to_owned() } else { about.join(", ") },
    }
}

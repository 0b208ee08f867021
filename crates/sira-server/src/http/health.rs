//! `/livez`, `/readyz`, `/health`, `/metrics` and `/stats`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use sira_store::health::HealthState;
use sira_store::layers::StorageMetrics;
use sira_store::{HealthStatus, StorageBackend, StorageStats};
use utoipa::ToSchema;

use crate::health::HealthReport;
use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;
use crate::storage::EMBEDDED;

/// How the backends beside the embedded engine do. One that is down takes the gateway out of service
/// only where it is the default: other namespaces are served all the same.
async fn others(app: &App) -> Vec<(String, HealthStatus)> {
    let plan = app.client().plan();
    let mut checks = tokio::task::JoinSet::new();
    for (name, backend) in plan.backends.iter().filter(|(name, _)| *name != EMBEDDED) {
        let (name, backend) = (name.clone(), Arc::clone(backend));
        checks.spawn(async move { (name, backend.health_check().await) });
    }
    let mut found = checks.join_all().await;
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, status) in &mut found {
        if plan.default_backend.as_ref() != Some(name)
            && let HealthStatus::Critical(reason) = status
        {
            *status = HealthStatus::Warning(std::mem::take(reason));
        }
        *name = format!("backend {name}");
    }
    found
}

fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Says that the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    responses((status = 200, description = "It runs", body = String, content_type = "text/plain")),
    security(())
)]
pub async fn livez() -> Response {
    text("text/plain; charset=utf-8", "ok\n")
}

/// Says whether the server takes requests: it does not shut down, and its engine takes writes.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    params(("verbose" = Option<bool>, Query, description = "Name each check")),
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready", body = ProblemDocument, content_type = PROBLEM_JSON),
    ),
    security(())
)]
pub async fn readyz(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let mut verbose = false;
    query::read(request.uri().query(), &["verbose"], |name, value| {
        verbose = query::flag(name, &value)?;
        Ok(())
    })?;
    let shutdown = match app.is_draining() {
        true => HealthStatus::Critical("the server shuts down".to_owned()),
        false => HealthStatus::Healthy,
    };
    let mut checks = vec![("shutdown".to_owned(), shutdown)];
    checks.push(("engine".to_owned(), app.store().health_check().await));
    checks.extend(others(&app).await);
    let failed = checks.iter().find_map(|(name, status)| match status {
        HealthStatus::Critical(reason) => Some(format!("{name}: {reason}")),
        HealthStatus::Healthy | HealthStatus::Warning(_) => None,
    });
    if let Some(detail) = failed {
        let checks =
            serde_json::to_value(checks.into_iter().collect::<std::collections::BTreeMap<_, _>>());
        return Err(Problem { code: "not_ready", ..Problem::unavailable(detail) }
            .with_member("checks", checks.unwrap_or_default()));
    }
    let mut body = String::new();
    if verbose {
        for (name, status) in &checks {
            match status {
                HealthStatus::Warning(reason) => {
                    body.push_str(&format!("[!]{name} warning: {reason}\n"));
                }
                HealthStatus::Healthy | HealthStatus::Critical(_) => {
                    body.push_str(&format!("[+]{name} ok\n"));
                }
            }
        }
    }
    if verbose {
        watched(&app, &mut body);
    }
    body.push_str("ok\n");
    Ok(text("text/plain; charset=utf-8", body))
}

/// What the watch over the backends has found. None of it takes the server out of service: whether it
/// can serve, the checks above say.
fn watched(app: &App, body: &mut String) {
    for (backend, report) in app.health().report().backends {
        for (check, found) in &report.checks {
            let (check, message) = (check.name(), &found.message);
            match found.state {
                HealthState::Healthy => body.push_str(&format!("[+]{backend} {check} ok\n")),
                state => {
                    let state = state.name();
                    body.push_str(&format!("[!]{backend} {check} {state}: {message}\n"));
                }
            }
        }
    }
}

/// How every backend does: connection, performance, capacity, integrity and backup.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses((status = 200, description = "The checks of every backend", body = HealthReport))
)]
pub async fn report(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    json::answer(StatusCode::OK, &app.health().report())
}

/// The server's counters, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "Counters", body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    Ok(text("text/plain; version=0.0.4; charset=utf-8", app.families().await?.text()))
}

/// Figures of every backend.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    /// Seconds since the server started.
    pub uptime_s: f64,
    /// Name of the backend for what no rule is about.
    pub default_backend: Option<String>,
    /// The backends by name.
    pub backends: BTreeMap<String, BackendReport>,
}

/// Figures of one backend.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackendReport {
    /// The engine.
    pub engine: &'static str,
    /// `healthy`, `warning` or `critical`, and why.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub health: HealthStatus,
    /// What it holds, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub storage: Option<StorageStats>,
    /// Its operations: times in milliseconds, those of the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub operations: Option<StorageMetrics>,
}

/// Figures of every backend: health, size, operations, latencies.
#[utoipa::path(
    get,
    path = "/stats",
    tag = "operations",
    responses((status = 200, description = "Figures", body = Stats))
)]
pub async fn stats(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let plan = app.client().plan();
    let mut asked = tokio::task::JoinSet::new();
    for (name, backend) in &plan.backends {
        let (name, backend) = (name.clone(), Arc::clone(backend));
        asked.spawn(async move {
            let (health, storage) = (backend.health_check().await, backend.stats().await.ok());
            let engine = backend.capabilities().name;
            (name, BackendReport { engine, health, storage, operations: None })
        });
    }
    let mut backends: BTreeMap<String, BackendReport> =
        asked.join_all().await.into_iter().collect();
    for (name, operations) in app.collector().all() {
        if let Some(report) = backends.get_mut(&name) {
            report.operations = Some(operations);
        }
    }
    let stats = Stats {
        uptime_s: app.uptime().as_secs_f64(),
        default_backend: plan.default_backend.clone(),
        backends,
    };
    json::answer(StatusCode::OK, &stats)
}

/// The same as `/readyz`.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready", body = ProblemDocument, content_type = PROBLEM_JSON),
    ),
    security(())
)]
pub async fn healthz(state: State<App>, request: Request) -> Result<Response, Problem> {
    readyz(state, request).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body::Body as _;
    use sira_store::embedded::{Engine, EngineOptions};
    use tower::Service;

    use super::*;
    use crate::config::ServerConfig;
    use crate::http::routes;
    use crate::metrics::HttpMetrics;
    use crate::storage::Storage;

    #[tokio::test]
    async fn a_draining_server_is_not_ready_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
        let metrics = Arc::new(HttpMetrics::new([]));
        let app =
            App::new(Storage::new(engine).unwrap(), &ServerConfig::default(), Arc::clone(&metrics));
        let mut router = routes::router(app.clone());
        let mut status_of = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.call(request).await.unwrap()
        };
        assert_eq!(status_of("/readyz").await.status(), 200);
        app.drain();
        assert_eq!(status_of("/livez").await.status(), 200);
        for path in ["/readyz", "/healthz"] {
            let answer = status_of(path).await;
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
            let mut body = answer.into_body();
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx));
            let bytes = frame.await.unwrap().unwrap().into_data().unwrap();
            let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(document["code"], "not_ready");
            assert_eq!(document["retryable"], true);
            assert_eq!(document["checks"]["shutdown"]["status"], "critical");
            assert_eq!(document["checks"]["engine"]["status"], "healthy");
        }
    }
}

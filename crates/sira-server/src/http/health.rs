//! `/livez`, `/readyz` and `/metrics`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use sira_store::{HealthStatus, StorageBackend};

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::query;
use crate::metrics::{Kind, TextWriter};
use crate::problem::Problem;

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
    let checks = [("shutdown", shutdown), ("engine", app.store().health_check().await)];
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
    body.push_str("ok\n");
    Ok(text("text/plain; charset=utf-8", body))
}

/// The server's counters, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "Counters", body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let mut out = TextWriter::default();
    out.family("sira_build_info", Kind::Gauge, "Version of the server; always 1.");
    out.sample("sira_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let uptime = app.uptime().as_secs_f64();
    out.metric("sira_uptime_seconds", Kind::Gauge, "Time since the server started.", uptime);
    app.metrics().write(&mut out);
    app.write_other_metrics(&mut out);
    let stats = app.store().stats().await?;
    for (name, help, value) in [
        ("sira_store_keys", "Keys, expired ones that are not collected yet included.", stats.keys),
        ("sira_store_live_bytes", "Bytes of live values and keys.", stats.live_bytes),
        ("sira_store_dead_bytes", "Bytes that can be reclaimed.", stats.dead_bytes),
        ("sira_store_used_bytes", "Bytes used on the medium.", stats.used_bytes),
        ("sira_store_segments", "Files that hold the data.", stats.segments),
        ("sira_store_index_bytes", "Bytes of memory that the index takes.", stats.index_bytes),
    ] {
        out.metric(name, Kind::Gauge, help, value as f64);
    }
    if let Some(available) = stats.available_bytes {
        let help = "Bytes that can still be written.";
        out.metric("sira_store_available_bytes", Kind::Gauge, help, available as f64);
    }
    Ok(text("text/plain; version=0.0.4; charset=utf-8", out.finish()))
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
    use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
    use tower::Service;

    use super::*;
    use crate::config::ServerConfig;
    use crate::http::routes;
    use crate::metrics::HttpMetrics;

    #[tokio::test]
    async fn a_draining_server_is_not_ready_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
        let metrics = Arc::new(HttpMetrics::new([]));
        let app =
            App::new(EmbeddedBackend::new(engine), &ServerConfig::default(), Arc::clone(&metrics));
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

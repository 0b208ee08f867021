//! `/capacity` and `/cost`: what is in use, where that is heading, and what it costs.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use sira_store::StorageError;

use crate::capacity::{CapacityReport, CostReport};
use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query, ttl};
use crate::limits::{CAPACITY_HORIZON_MAX, CAPACITY_HORIZON_MIN};
use crate::problem::Problem;

/// What every backend and namespace has in use, and where that is heading.
#[utoipa::path(
    get,
    path = "/capacity",
    tag = "operations",
    params(
        ("horizon" = Option<String>, Query, description = "How far forecasts look, such as `12h` or `30d`; the configured horizon if left out"),
    ),
    responses(
        (status = 200, description = "What is in use, and forecasts", body = CapacityReport),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn report(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let mut horizon = app.capacity().horizon();
    query::read(request.uri().query(), &["horizon"], |_, value| {
        horizon = parse_horizon(&value)?;
        Ok(())
    })?;
    json::answer(StatusCode::OK, &app.capacity().report(horizon).await)
}

fn parse_horizon(text: &str) -> Result<Duration, StorageError> {
    let horizon = ttl::parse_ttl(text).ok();
    let within = |time: &Duration| (CAPACITY_HORIZON_MIN..=CAPACITY_HORIZON_MAX).contains(time);
    horizon.filter(within).ok_or_else(|| {
        StorageError::invalid_input(
            "horizon is a duration from 1s to 1825d, such as `12h` or `30d`",
        )
    })
}

/// What storage and operations of every backend and namespace cost.
#[utoipa::path(
    get,
    path = "/cost",
    tag = "operations",
    responses(
        (status = 200, description = "What is measured, and what it costs", body = CostReport),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn cost(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    json::answer(StatusCode::OK, &app.capacity().cost(app.collector()))
}

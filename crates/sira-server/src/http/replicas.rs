//! `/replicas`: what replicated namespaces promise, how far their replicas are behind, and making
//! them alike.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sira_store::placement::{Acknowledge, Consistency, RepairOptions, RepairRule};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::json;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::problem::Problem;

/// A replicated namespace.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplicatedNamespace {
    /// Names of the backends that hold it, the one that objects lie on first.
    pub replicas: Vec<String>,
    /// `strong`, `eventual` or `weak`.
    #[schema(value_type = String)]
    pub consistency: Consistency,
    /// `quorum` or `all`, of strong writes.
    #[schema(value_type = String)]
    pub acknowledge: Acknowledge,
    /// Objects of which a replica is known to be behind.
    pub behind: u64,
    /// There may be more of them than are known.
    pub more: bool,
    /// For how long the first of them has been, in seconds.
    pub lag_seconds: f64,
}

/// Every replicated namespace.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Replicas {
    /// By name.
    pub namespaces: BTreeMap<String, ReplicatedNamespace>,
}

/// A part of a repair.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// Name of the namespace.
    pub namespace: String,
    /// Reads every copy and verifies its checksums.
    #[serde(default)]
    pub deep: bool,
    /// What becomes of objects of which the catalog knows nothing: `primary` or `newest`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub rule: RepairRule,
    /// Begins after this key: `next` of the part before.
    #[serde(default)]
    pub start_after: Option<String>,
    /// Most keys that are looked at.
    #[serde(default)]
    pub limit: usize,
    /// The part before was not `unsound`.
    #[serde(default)]
    pub sound_before: bool,
}

/// Tells what replicated namespaces promise, and how far they are behind.
#[utoipa::path(
    get,
    path = "/replicas",
    tag = "operations",
    responses((status = 200, description = "Every replicated namespace", body = Replicas))
)]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let plan = app.client().plan();
    let behind = app.client().replicas_behind();
    let namespaces = plan.namespaces.iter().filter_map(|(name, policy)| {
        let replication = policy.replication.clone()?;
        let behind = behind.get(name).copied().unwrap_or_default();
        let namespace = ReplicatedNamespace {
            replicas: replication.replicas,
            consistency: replication.consistency,
            acknowledge: replication.acknowledge,
            behind: behind.objects,
            more: behind.more,
            lag_seconds: behind.lag.as_secs_f64(),
        };
        Some((name.clone(), namespace))
    });
    json::answer(StatusCode::OK, &Replicas { namespaces: namespaces.collect() })
}

/// Compares a part of a namespace on all its replicas, and makes them alike.
#[utoipa::path(
    post,
    path = "/replicas/repair",
    tag = "operations",
    request_body = RepairRequest,
    responses(
        (status = 200, description = "What came of it: `objects`, `repaired`, `damaged`, `strays`, `behind`, `failures` by key, `unsound`, and `next`, the key after which the next part begins", body = Object),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 501, description = "The namespace is not replicated", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn repair(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<RepairRequest>(&app, request).await?;
    let options = RepairOptions {
        start_after: asked.start_after,
        limit: asked.limit,
        deep: asked.deep,
        rule: asked.rule,
        sound_before: asked.sound_before,
    };
    let report = app.client().namespace(&asked.namespace).repair(&options).await?;
    json::answer(StatusCode::OK, &report)
}

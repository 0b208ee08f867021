//! `/locks`: who may use a key now.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sira_store::key::{check_key, check_namespace};
use sira_store::lock::{LockMode, LockName, LockOptions, LockStatus};
use sira_store::{Result as StorageResult, StorageError};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::limits::{LOCK_LABEL_BYTES_MAX, LOCK_LEASE_MAX_MS, LOCK_WAIT_MAX_MS};
use crate::problem::{Problem, retryable};

/// Lease of a lock that is asked for without one, in milliseconds.
const LEASE_DEFAULT_MS: u64 = 30_000;

/// Which lock is asked for, by whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// Name of the namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The key, whether or not it holds an object.
    pub key: String,
    /// Who asks; the same name is the same owner.
    pub owner: String,
    /// Whether others may hold it too.
    #[serde(default = "exclusive")]
    #[schema(value_type = String)]
    pub mode: LockMode,
    /// Milliseconds after which the lock is free unless it is renewed, up to a day.
    #[serde(default = "lease_default_ms")]
    pub lease_ms: u64,
    /// Milliseconds to wait for others, up to a minute.
    #[serde(default)]
    pub wait_ms: u64,
    /// Renews the lock that was given with this token, and fails where it is lost.
    pub token: Option<u64>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn exclusive() -> LockMode {
    LockMode::Exclusive
}

fn lease_default_ms() -> u64 {
    LEASE_DEFAULT_MS
}

/// A lock that was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct LockAnswer {
    /// Name of the namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// Whose it is.
    pub owner: String,
    /// Greater than that of every lock that was given before: who guards something by it refuses
    /// smaller ones than it has seen.
    pub token: u64,
    /// Milliseconds from now on until it is free.
    pub lease_ms: u64,
}

/// All locks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Locks {
    /// Those that are held and, after them, those who wait, in the order of their turns.
    #[schema(value_type = Vec<Object>)]
    pub locks: Vec<LockStatus>,
}

/// Lists the locks that are held and waited for.
#[utoipa::path(
    get,
    path = "/locks",
    tag = "operations",
    responses((status = 200, description = "Locks by namespace and key", body = Locks))
)]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    json::answer(StatusCode::OK, &Locks { locks: app.client().locks().locks() })
}

/// Takes a lock, or renews it.
///
/// Who holds it already gets the same token and a new lease. 423 is answered when others hold it, 409
/// when waiting for it would be part of a circle: release what is held, and begin again.
#[utoipa::path(
    post,
    path = "/locks",
    tag = "operations",
    request_body = LockRequest,
    responses(
        (status = 200, description = "The lock is held", body = LockAnswer),
        (status = 423, description = "Others hold it", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = "4XX", description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn acquire(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<LockRequest>(&app, request).await?;
    let name = named(&asked.namespace, &asked.key, &asked.owner)?;
    for (what, ms, least, most) in [
        ("lease_ms", asked.lease_ms, 1, LOCK_LEASE_MAX_MS),
        ("wait_ms", asked.wait_ms, 0, LOCK_WAIT_MAX_MS),
    ] {
        if !(least..=most).contains(&ms) {
            return Err(Problem::bad_request(format!("`{what}` is {least} to {most}")));
        }
    }
    let locks = app.client().locks();
    let owner = locks.named_owner(&asked.owner);
    let lease = Duration::from_millis(asked.lease_ms);
    let token = match asked.token {
        None => {
            let wait = Duration::from_millis(asked.wait_ms);
            let options = LockOptions { wait, lease: Some(lease) };
            locks.acquire(&owner, &name, asked.mode, options).await.map_err(held_by_others)?
        }
        Some(token) => match locks.renew(&owner, &name, lease)? {
            held if held == token => held,
            _ => {
                return Err(Problem::not_found(
                    "the lock of this token is not held any more: it was lost, and taken anew",
                ));
            }
        },
    };
    let LockRequest { namespace, key, owner, lease_ms, .. } = asked;
    json::answer(StatusCode::OK, &LockAnswer { namespace, key, owner, token, lease_ms })
}

/// Releases a lock.
#[utoipa::path(
    delete,
    path = "/locks",
    tag = "operations",
    params(
        ("namespace" = Option<String>, Query, description = "Namespace; `default` if left out"),
        ("key" = String, Query, description = "Key"),
        ("owner" = String, Query, description = "Who holds it"),
    ),
    responses(
        (status = 204, description = "It is released"),
        (status = 404, description = "The owner does not hold it", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn release(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut namespace, mut key, mut owner) = (default_namespace(), String::new(), String::new());
    query::read(request.uri().query(), &["namespace", "key", "owner"], |name, value| {
        match name {
            "namespace" => namespace = value,
            "key" => key = value,
            _ => owner = value,
        }
        Ok(())
    })?;
    let name = named(&namespace, &key, &owner)?;
    let locks = app.client().locks();
    match locks.release(&locks.named_owner(&owner), &name) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::not_found("the owner does not hold this lock")),
    }
}

fn named(namespace: &str, key: &str, owner: &str) -> StorageResult<LockName> {
    check_namespace(namespace)?;
    App::check_not_reserved(namespace)?;
    check_key(key)?;
    if !(1..=LOCK_LABEL_BYTES_MAX).contains(&owner.len()) {
        return Err(StorageError::invalid_input(format!(
            "an owner has a name of 1 to {LOCK_LABEL_BYTES_MAX} bytes"
        )));
    }
    Ok(LockName::new(namespace, key))
}

/// A lock that others hold is no failure of the server.
fn held_by_others(error: StorageError) -> Problem {
    if !matches!(error, StorageError::Locked(_)) {
        return error.into();
    }
    let mut problem = Problem::new(StatusCode::LOCKED, error.code(), error.to_string());
    problem.retryable = retryable(error.retry());
    problem
}

//! `POST /v1/_tx`: reads and writes in several namespaces as one step.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sira_store::key::check_namespace;
use sira_store::transaction::{ListedKeys, TransactionPart};
use sira_store::{BatchOperation, StorageError};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::batch::{self, Operation, OperationResult};
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, write};
use crate::limits;
use crate::problem::Problem;

/// What is demanded and done, by namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionRequest {
    /// Each namespace with what is done in it.
    pub namespaces: BTreeMap<String, Part>,
}

/// What is demanded and done in a namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Run in this order; a read sees the writes before it.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Listings that must still be as they were.
    #[serde(default)]
    pub listed: Vec<Listed>,
}

/// Keys as a listing showed them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The keys begin with this.
    #[serde(default)]
    pub prefix: String,
    /// They come after this one.
    pub start_after: Option<String>,
    /// All keys from there on, in byte order.
    pub keys: Vec<String>,
    /// Whether the listing went on after the last of them.
    #[serde(default)]
    pub more: bool,
}

/// Results by namespace.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionAnswer {
    /// Each namespace with what was done in it.
    pub namespaces: BTreeMap<String, PartAnswer>,
}

/// Results in the order of the operations.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartAnswer {
    /// One for each operation.
    pub results: Vec<OperationResult>,
}

/// Runs operations in several namespaces as one step.
///
/// What is demanded of keys and listings holds and every write takes effect, or nothing does; then
/// the problem document names the `namespace` and the `key` in which it failed. The namespaces lie
/// on one engine that has them in one step, as the embedded engine does.
#[utoipa::path(
    post,
    path = "/v1/_tx",
    tag = "objects",
    params(
        ("Sira-Durability" = Option<String>, Header, description = "`sync`, `interval:MS` or `none`"),
    ),
    request_body = TransactionRequest,
    responses(
        (status = 200, description = "Everything held, and all writes took effect", body = TransactionAnswer),
        (status = "4XX", description = "Nothing was written", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = "5XX", description = "Failed", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn run(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let (transaction, _share) = json::read::<TransactionRequest>(&app, request).await?;
    let mut parts = Vec::with_capacity(transaction.namespaces.len());
    for (namespace, part) in transaction.namespaces {
        check_namespace(&namespace)?;
        let durability = write::durability(&headers, app.durability(&namespace))?;
        let operations = batch::into_store(part.operations, durability)
            .map_err(|problem| problem.with_member("namespace", namespace.as_str().into()))?;
        let listed = part.listed.into_iter().map(Listed::into_store).collect();
        parts.push(TransactionPart { namespace, operations, listed });
    }
    if parts.is_empty() {
        return Err(Problem::bad_request("a transaction names at least one namespace"));
    }
    for part in &parts {
        // What is only read is not made.
        match part.operations.iter().any(BatchOperation::is_write) {
            true => drop(app.make_namespace(&part.namespace).await?),
            false => drop(app.namespace(&part.namespace).await?),
        }
    }
    let keys: Vec<(String, Vec<String>)> = parts
        .iter()
        .map(|part| {
            let keys = part.operations.iter().map(|operation| operation.key().to_owned());
            (part.namespace.clone(), keys.collect())
        })
        .collect();
    let answers = app.client().commit(parts).await.map_err(located)?;

    let mut room = limits::HTTP_JSON_VALUE_BYTES_MAX;
    let mut namespaces = BTreeMap::new();
    for ((namespace, keys), answers) in keys.into_iter().zip(answers) {
        let results = keys
            .into_iter()
            .zip(answers)
            .map(|(key, answer)| OperationResult::new(key, answer, &mut room))
            .collect();
        namespaces.insert(namespace, PartAnswer { results });
    }
    json::answer(StatusCode::OK, &TransactionAnswer { namespaces })
}

impl Listed {
    fn into_store(self) -> ListedKeys {
        let Self { prefix, start_after, keys, more } = self;
        ListedKeys { prefix, start_after, keys, complete: !more }
    }
}

/// A failure with where it was.
fn located(error: StorageError) -> Problem {
    let (namespace, key) = (error.detail().namespace.clone(), error.detail().key.clone());
    let mut problem = Problem::from(error);
    if let Some(namespace) = namespace {
        problem = problem.with_member("namespace", namespace.into());
    }
    match key {
        Some(key) => problem.with_member("key", key.into()),
        None => problem,
    }
}

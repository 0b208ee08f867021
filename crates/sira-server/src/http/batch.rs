//! `POST /v1/{namespace}/_batch`: several operations as one step.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sira_store::{
    BatchOperation, BatchResult, Condition, Durability, Metadata, Object, StorageError,
    StorageOptions,
};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::ttl::ttl_from_seconds;
use crate::http::{json, path, query, write};
use crate::limits;
use crate::problem::{Problem, retryable, status};

/// Operations that take effect together or not at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Run in this order; a read sees the batch's earlier writes.
    pub operations: Vec<Operation>,
}

/// One operation of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Operation {
    /// Stores an object.
    Put(Put),
    /// Reads an object.
    Get(Key),
    /// Removes an object, if there is one.
    Delete(Demand),
    /// Changes nothing; what is demanded of the key must hold.
    Check(Demand),
}

/// What an operation is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The key.
    pub key: String,
}

/// What an operation demands of a key: one of these, or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// The key.
    pub key: String,
    /// The key holds no object.
    #[serde(default)]
    pub if_absent: bool,
    /// The key holds an object.
    #[serde(default)]
    pub if_present: bool,
    /// The key holds the object of this version.
    pub if_match: Option<String>,
}

/// A write of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// The key.
    pub key: String,
    /// The value, as text.
    pub value: Option<String>,
    /// The value, in Base64.
    pub value_base64: Option<String>,
    /// Seconds after which the object is gone.
    pub ttl_seconds: Option<f64>,
    /// Media type.
    pub content_type: Option<String>,
    /// The caller's own names (in lower case) and values.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Write only if the key holds no object.
    #[serde(default)]
    pub if_absent: bool,
    /// Write only if the key holds an object.
    #[serde(default)]
    pub if_present: bool,
    /// Write only if the key holds the object of this version.
    pub if_match: Option<String>,
}

/// Results in the order of the operations.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// One for each operation.
    pub results: Vec<OperationResult>,
}

/// What an operation did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct OperationResult {
    /// `ok` or `error`.
    pub status: &'static str,
    /// The operation's key.
    pub key: String,
    /// Of a read: whether the key holds an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
    /// Version of what was written or read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Size of what was read, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When what was read expires, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Media type of what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Metadata of what was read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What was read, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What was read, in Base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Of an error: its stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Of an error: what was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of an error: whether the same may succeed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

/// Runs operations as one step.
///
/// When a write fails, nothing is written, and the problem document carries the `results`. Where the
/// namespace lies on backends that have no such step, several writes are refused unless
/// `atomic=false` asks for each of them by itself; then 200 is answered, and the `results` say which
/// took effect. Only
/// `POST` means the batch: an object under the key `_batch` is reached by the other methods.
#[utoipa::path(
    post,
    path = "/v1/{namespace}/_batch",
    tag = "objects",
    params(
        ("namespace" = String, Path, description = "Namespace; the first write makes it"),
        ("atomic" = Option<bool>, Query, description = "`false` takes operations that cannot be one step"),
        ("Sira-Durability" = Option<String>, Header, description = "`sync`, `interval:MS` or `none`"),
    ),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "All writes took effect, or were answered by themselves", body = BatchAnswer),
        (status = "4XX", description = "Nothing was written", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = "5XX", description = "Failed", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn run(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let below = request.uri().path().strip_prefix("/v1/").unwrap_or_default();
    let namespace = path::namespace(below)?;
    let mut whole = true;
    query::read(request.uri().query(), &["atomic"], |name, value| {
        whole = query::flag(name, &value)?;
        Ok(())
    })?;
    let durability = write::durability(request.headers(), app.durability(&namespace))?;
    let (batch, _share) = json::read::<BatchRequest>(&app, request).await?;
    let operations = into_store(batch.operations, durability)?;
    let keys: Vec<(String, bool)> = operations
        .iter()
        .map(|operation| (operation.key().to_owned(), operation.decides()))
        .collect();
    let store = if operations.iter().any(BatchOperation::is_write) {
        app.make_namespace(&namespace).await?
    } else {
        app.namespace(&namespace).await?
    };
    let atomic = store.capabilities().atomic_batch;
    let deciding = keys.iter().filter(|(_, decides)| *decides).count();
    if whole && deciding > 1 && !atomic {
        return Err(StorageError::unsupported(
            "the namespace's backends do not check and write several objects as one step; send the \
             writes one by one, or with ?atomic=false, which answers each by itself",
        )
        .with_namespace(namespace)
        .into());
    }
    let answers = store.batch(operations).await?;

    let mut failed: Option<Problem> = None;
    let mut room = limits::HTTP_JSON_VALUE_BYTES_MAX;
    let mut results = Vec::with_capacity(answers.len());
    for ((key, decides), answer) in keys.into_iter().zip(answers) {
        if let (true, None, BatchResult::Error(error)) = (decides, &failed, &answer) {
            let mut problem = Problem::new(status(error), error.code(), error.to_string());
            problem.retryable = retryable(error.retry());
            failed = Some(problem);
        }
        results.push(OperationResult::new(key, answer, &mut room));
    }
    match failed.filter(|_| atomic || deciding == 1) {
        None => json::answer(StatusCode::OK, &BatchAnswer { results }),
        Some(problem) => {
            let results = serde_json::to_value(results).unwrap_or_default();
            Err(problem.with_member("results", results))
        }
    }
}

/// The operations as the store takes them; an error says which one is wrong.
pub(super) fn into_store(
    operations: Vec<Operation>,
    durability: Durability,
) -> Result<Vec<BatchOperation>, Problem> {
    let operations = operations.into_iter().enumerate();
    operations
        .map(|(at, operation)| {
            operation.into_store(durability).map_err(|mut problem| {
                problem.detail = format!("operation {at}: {}", problem.detail).into();
                problem
            })
        })
        .collect()
}

impl Operation {
    /// The operation as the store takes it.
    ///
    /// # Errors
    /// 400 for a value that is not given once, a time to live out of range, and conditions that are
    /// malformed or exclude each other.
    pub fn into_store(self, durability: Durability) -> Result<BatchOperation, Problem> {
        Ok(match self {
            Self::Get(Key { key }) => BatchOperation::Get { key },
            Self::Delete(Demand { key, if_absent, if_present, if_match }) => {
                let condition = condition(if_absent, if_present, if_match)?;
                BatchOperation::Delete { key, condition }
            }
            Self::Check(Demand { key, if_absent, if_present, if_match }) => {
                let condition = condition(if_absent, if_present, if_match)?;
                if condition == Condition::Always {
                    return Err(Problem::bad_request(
                        "a check demands something: give `if_absent`, `if_present` or `if_match`",
                    ));
                }
                BatchOperation::Check { key, condition }
            }
            Self::Put(put) => {
                let condition = condition(put.if_absent, put.if_present, put.if_match)?;
                let value: Bytes = json::value(put.value, put.value_base64)?;
                let options = StorageOptions {
                    ttl: put.ttl_seconds.map(ttl_from_seconds).transpose()?,
                    condition,
                    metadata: Metadata {
                        content_type: put.content_type,
                        user: put.metadata,
                        ..Metadata::default()
                    },
                    durability: Some(durability),
                    ..StorageOptions::default()
                };
                BatchOperation::Put { key: put.key, value, options }
            }
        })
    }
}

/// What an operation demands of its key.
fn condition(
    if_absent: bool,
    if_present: bool,
    if_match: Option<String>,
) -> Result<Condition, Problem> {
    match (if_absent, if_present, if_match) {
        (false, false, None) => Ok(Condition::Always),
        (true, false, None) => Ok(Condition::IfAbsent),
        (false, true, None) => Ok(Condition::IfPresent),
        (false, false, Some(version)) => {
            let version = version.trim_matches('"').parse();
            version
                .map(Condition::IfMatch)
                .map_err(|error| Problem::bad_request(format!("`if_match` is no version: {error}")))
        }
        _ => Err(Problem::bad_request(
            "`if_absent`, `if_present` and `if_match` exclude each other; give one of them",
        )),
    }
}

impl OperationResult {
    /// The result of an operation on `key`; `room` is what is left of the bytes of all values.
    pub(super) fn new(key: String, answer: BatchResult, room: &mut usize) -> Self {
        let ok = Self { status: "ok", key: key.clone(), ..Self::default() };
        match answer {
            BatchResult::Success { version } => {
                Self { version: version.map(|version| version.to_string()), ..ok }
            }
            BatchResult::Value(None) => Self { found: Some(false), ..ok },
            BatchResult::Value(Some(object)) => match room.checked_sub(object.value.len()) {
                Some(left) => {
                    *room = left;
                    ok.with_object(object)
                }
                None => Self::failed(
                    key,
                    &StorageError::too_large(format!(
                        "the values of the answer take more than {} bytes; read this one by itself",
                        limits::HTTP_JSON_VALUE_BYTES_MAX
                    )),
                ),
            },
            BatchResult::Error(error) => Self::failed(key, &error),
        }
    }

    fn with_object(self, object: Object) -> Self {
        let (value, value_base64) = json::show(&object.value);
        Self {
            found: Some(true),
            version: Some(object.head.version.to_string()),
            size: Some(object.head.size),
            expires_at_ms: object.head.expires_at_ms,
            content_type: object.head.metadata.content_type,
            metadata: object.head.metadata.user,
            value,
            value_base64,
            ..self
        }
    }

    fn failed(key: String, error: &StorageError) -> Self {
        Self {
            status: "error",
            key,
            code: Some(error.code()),
            detail: Some(error.to_string()),
            retryable: Some(retryable(error.retry())),
            ..Self::default()
        }
    }
}

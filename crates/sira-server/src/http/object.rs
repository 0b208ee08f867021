//! `/v1/{namespace}/{key}`: one object.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{StatusCode, Uri};
use serde::Serialize;
use sira_store::embedded::ObjectReader;
use sira_store::limits::STREAM_VALUE_BYTES_MAX;
use sira_store::{
    Condition, Object, ObjectHead, ReadOptions, StorageBackend, StorageError, StorageOptions,
    Version,
};
use utoipa::ToSchema;

use crate::http::app::{App, changed_meanwhile};
use crate::http::body::{BodyReader, ObjectBody, SlicedBody};
use crate::http::conditions::{ReadConditions, Verdict, WriteCondition, range_applies};
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument, Problems};
use crate::http::range::{ByteRange, Resolved};
use crate::http::{json, path, query, versions, write};
use crate::limits;
use crate::problem::Problem;

/// Reads again so often when the object changes between looking at it and reading its range.
const READ_ATTEMPTS: usize = 16;

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stored {
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// Version of the object, also its entity tag.
    pub version: String,
    /// Size of the value in bytes.
    pub size: u64,
    /// When it expires, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

fn below(uri: &Uri) -> &str {
    uri.path().strip_prefix("/v1/").unwrap_or_default()
}

/// Stores an object.
///
/// The body is the value. A body that ends early, or pauses for too long, stores nothing.
#[utoipa::path(
    put,
    path = "/v1/{namespace}/{key}",
    tag = "objects",
    params(
        ("namespace" = String, Path, description = "Namespace; the first write makes it"),
        ("key" = String, Path, description = "Key of 1 to 1,024 bytes; may hold `/`"),
        ("Sira-TTL" = Option<String>, Header, description = "Seconds (`0.5`) or a number with ms, s, m, h, d"),
        ("Sira-Durability" = Option<String>, Header, description = "`sync`, `interval:MS` or `none`"),
        ("Content-Type" = Option<String>, Header, description = "Kept and returned"),
        ("Sira-Meta-*" = Option<String>, Header, description = "Kept and returned"),
        ("If-None-Match" = Option<String>, Header, description = "`*` creates only"),
        ("If-Match" = Option<String>, Header, description = "Versions to replace, or `*`"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Replaced", body = Stored),
        (status = 201, description = "Created", body = Stored),
        Problems,
    )
)]
pub async fn put(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let plan = WritePlan::read(&app, &request);
    let bytes_max = usize::try_from(STREAM_VALUE_BYTES_MAX).unwrap_or(usize::MAX);
    let mut reader = app.reader(request, bytes_max).streamed();
    let checked = match plan {
        Ok(plan) => match plan.check(&app).await {
            Ok(checked) => reader.admit().await.map(|()| checked),
            Err(problem) => Err(problem),
        },
        Err(error) => Err(error.into()),
    };
    match checked {
        Ok(checked) => checked.run(&app, reader).await,
        Err(problem) => Err(reader.refuse(problem).await),
    }
}

/// A write as the request's head asks for it.
struct WritePlan {
    namespace: String,
    key: String,
    options: StorageOptions,
    condition: WriteCondition,
}

impl WritePlan {
    fn read(app: &App, request: &Request) -> Result<Self, StorageError> {
        let (namespace, key) = path::namespace_and_key(below(request.uri()))?;
        query::none(request.uri().query())?;
        Ok(Self {
            options: write::options(request.headers(), app.durability(&namespace))?,
            condition: WriteCondition::read(request.headers())?,
            namespace,
            key,
        })
    }

    /// Looks at the object before the body is read: a condition that does not hold now is told
    /// before megabytes are sent for nothing.
    async fn check(mut self, app: &App) -> Result<CheckedPlan, Problem> {
        let head = match app.find_namespace(&self.namespace).await? {
            Some(store) => store.head(&self.key).await?,
            None => None,
        };
        let current = head.map(|head| head.version);
        let condition = pin(&self.condition, current)?;
        self.options.condition = condition;
        Ok(CheckedPlan { created: current.is_none(), plan: self })
    }
}

/// The engine's condition for a write while the current version stays what it is.
fn pin(condition: &WriteCondition, current: Option<Version>) -> Result<Condition, Problem> {
    condition.pin(current).filter(|condition| condition.holds(current)).ok_or_else(|| {
        Problem::precondition_failed(match current {
            Some(version) => {
                format!("the condition does not hold: the object's version is \"{version}\"")
            }
            None => "the condition does not hold: there is no object".to_owned(),
        })
    })
}

struct CheckedPlan {
    plan: WritePlan,
    created: bool,
}

impl CheckedPlan {
    async fn run(self, app: &App, mut reader: BodyReader) -> Result<Response, Problem> {
        let WritePlan { namespace, key, options, condition } = self.plan;
        let (first, whole) = match reader.collect(limits::HTTP_COLLECT_BYTES_MAX).await {
            Ok(collected) => collected,
            Err(problem) => return Err(reader.refuse(problem).await),
        };
        let has_ttl = options.ttl.is_some();
        let store = app.make_namespace(&namespace).await?;
        let (written, size) = if whole {
            let size = first.len() as u64;
            (store.put(&key, first, options).await, size)
        } else {
            let (stream, state) = reader.into_stream(first);
            let written = store.put_stream(&key, stream, options).await;
            if let Some(problem) = state.failure() {
                return Err(problem);
            }
            (written, state.received())
        };
        let version = written.map_err(|error| match condition {
            WriteCondition::Engine(_) => error.into(),
            _ => changed_meanwhile(error),
        })?;

        // The store fixed the expiry; ask it, unless someone has written since.
        let head = if has_ttl { store.head(&key).await? } else { None };
        let expires_at_ms =
            head.filter(|head| head.version == version).and_then(|head| head.expires_at_ms);
        let stored = Stored { namespace, key, version: version.to_string(), size, expires_at_ms };
        let status = if self.created { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = json::answer(status, &stored)?;
        write::put_version(response.headers_mut(), version);
        if let Some(expires_at_ms) = expires_at_ms {
            let value = HeaderValue::from(expires_at_ms);
            response.headers_mut().insert(write::SIRA_EXPIRES_AT_MS, value);
        }
        Ok(response)
    }
}

/// Reads an object or a range of it.
#[utoipa::path(
    get,
    path = "/v1/{namespace}/{key}",
    tag = "objects",
    params(
        ("namespace" = String, Path, description = "Namespace"),
        ("key" = String, Path, description = "Key; may hold `/`"),
        ("Range" = Option<String>, Header, description = "One range: `bytes=0-99`, `bytes=100-`, `bytes=-100`"),
        ("If-Range" = Option<String>, Header, description = "Version for which the range counts"),
        ("If-None-Match" = Option<String>, Header, description = "Versions that the client has"),
        ("If-Match" = Option<String>, Header, description = "Versions that the client wants"),
        ("version" = Option<String>, Query, description = "This version, where the namespace keeps them"),
        ("at_ms" = Option<u64>, Query, description = "The version of this time, in milliseconds since the Unix epoch"),
    ),
    responses(
        (status = 200, description = "The value", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The range", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "The client has it"),
        Problems,
    )
)]
pub async fn get(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (namespace, key) = path::namespace_and_key(below(request.uri()))?;
    let headers = request.headers();
    let conditions = ReadConditions::read(headers)?;
    let asked = headers.get(RANGE).and_then(|value| value.to_str().ok()).and_then(ByteRange::parse);
    if let Some(head) = versions::asked(&app, request.uri(), &namespace, &key).await? {
        return get_version(&app, headers, (&namespace, &key), head, asked).await;
    }
    let store = app.namespace(&namespace).await?;
    if conditions.is_empty() && asked.is_none() {
        let object = store.read(&key, ReadOptions::default()).await?;
        return Ok(whole(object.ok_or_else(|| absent(&namespace, &key))?));
    }

    for _ in 0..READ_ATTEMPTS {
        let head = store.head(&key).await?.ok_or_else(|| absent(&namespace, &key))?;
        let range = match conditions.wanted(headers, &head, asked)? {
            Wanted::Bytes(range) => range,
            Wanted::Nothing => return Ok(not_modified(head.version)),
        };
        let partial = range.is_some();
        let asked_range = range.clone().unwrap_or(0..head.size);
        if asked_range.end - asked_range.start >= limits::HTTP_PIECEWISE_BYTES_MIN
            && let Some((opened, reader)) = store.open_object(&key)?
        {
            if opened.version != head.version {
                continue;
            }
            return Ok(pieces(opened, reader, asked_range, partial));
        }
        // The size and the verdict hold for this version only.
        let options = ReadOptions { range, condition: Condition::IfMatch(head.version) };
        match read_pinned(&*store, &key, options).await? {
            Some(object) if partial => return Ok(part(object)),
            Some(object) => return Ok(whole(object)),
            None => {}
        }
    }
    Err(StorageError::conflict("the object changes faster than its range can be read; try again")
        .with_namespace(namespace)
        .with_key(key)
        .into())
}

/// What a read wants of an object.
enum Wanted {
    /// Its bytes, or a range of them.
    Bytes(Option<std::ops::Range<u64>>),
    /// None of them: the client has it.
    Nothing,
}

impl ReadConditions {
    /// What a read with these conditions wants of an object, which may have asked for a range.
    fn wanted(
        &self,
        headers: &HeaderMap,
        head: &ObjectHead,
        asked: Option<ByteRange>,
    ) -> Result<Wanted, Problem> {
        match self.evaluate(head.version) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Ok(Wanted::Nothing),
            Verdict::Failed => return Err(stale(head.version)),
        }
        match asked.filter(|_| range_applies(headers, head.version)) {
            None => Ok(Wanted::Bytes(None)),
            Some(asked) => match asked.resolve(head.size) {
                Resolved::Satisfiable(range) => Ok(Wanted::Bytes(Some(range))),
                Resolved::Unsatisfiable => Err(unsatisfiable(head.size)),
            },
        }
    }
}

/// Reads one version of an object.
async fn get_version(
    app: &App,
    headers: &HeaderMap,
    (namespace, key): (&str, &str),
    head: ObjectHead,
    asked: Option<ByteRange>,
) -> Result<Response, Problem> {
    let range = match ReadConditions::read(headers)?.wanted(headers, &head, asked)? {
        Wanted::Bytes(range) => range,
        Wanted::Nothing => return Ok(not_modified(head.version)),
    };
    let partial = range.is_some();
    let space = app.client().namespace(namespace);
    let object = space.retrieve_version(key, head.version, range).await?;
    let object = object.ok_or_else(|| absent_version(namespace, key))?;
    Ok(if partial { part(object) } else { whole(object) })
}

/// Reads unless the object has changed.
async fn read_pinned(
    store: &dyn StorageBackend,
    key: &str,
    options: ReadOptions,
) -> Result<Option<Object>, Problem> {
    match store.read(key, options).await {
        Err(StorageError::PreconditionFailed(_)) => Ok(None),
        read => Ok(read?),
    }
}

/// Describes an object.
#[utoipa::path(
    head,
    path = "/v1/{namespace}/{key}",
    tag = "objects",
    params(
        ("namespace" = String, Path, description = "Namespace"),
        ("key" = String, Path, description = "Key; may hold `/`"),
        ("version" = Option<String>, Query, description = "This version, where the namespace keeps them"),
        ("at_ms" = Option<u64>, Query, description = "The version of this time, in milliseconds since the Unix epoch"),
    ),
    responses(
        (status = 200, description = "The object is there"),
        (status = 304, description = "The client has it"),
        (status = 404, description = "There is none"),
        (status = 412, description = "The condition does not hold"),
    )
)]
pub async fn head(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (namespace, key) = path::namespace_and_key(below(request.uri()))?;
    let conditions = ReadConditions::read(request.headers())?;
    let head = match versions::asked(&app, request.uri(), &namespace, &key).await? {
        Some(head) => head,
        None => {
            let store = app.namespace(&namespace).await?;
            store.head(&key).await?.ok_or_else(|| absent(&namespace, &key))?
        }
    };
    match conditions.evaluate(head.version) {
        Verdict::Proceed => {}
        Verdict::NotModified => return Ok(not_modified(head.version)),
        Verdict::Failed => return Err(stale(head.version)),
    }
    let mut response = Response::new(Body::empty());
    write::put_head(response.headers_mut(), &head);
    put_guards(response.headers_mut());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(head.size));
    Ok(response)
}

/// Removes an object.
///
/// Durable as the server's setting says.
#[utoipa::path(
    delete,
    path = "/v1/{namespace}/{key}",
    tag = "objects",
    params(
        ("namespace" = String, Path, description = "Namespace"),
        ("key" = String, Path, description = "Key; may hold `/`"),
        ("If-Match" = Option<String>, Header, description = "Versions to remove"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 412, description = "The condition does not hold", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn delete(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (namespace, key) = path::namespace_and_key(below(request.uri()))?;
    // What is meant for an earlier version must not remove the object.
    query::none(request.uri().query())?;
    let condition = WriteCondition::read(request.headers())?;
    let store = app.namespace(&namespace).await?;
    let removed = match &condition {
        WriteCondition::Engine(condition) => store.remove(&key, *condition).await?,
        condition => {
            let current = store.head(&key).await?.map(|head| head.version);
            let pinned = pin(condition, current)?;
            store.remove(&key, pinned).await.map_err(changed_meanwhile)?
        }
    };
    if !removed {
        return Err(absent(&namespace, &key));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The problem of a key that holds nothing.
#[must_use]
pub fn absent(namespace: &str, key: &str) -> Problem {
    Problem::not_found(format!("there is no object {key:?} in namespace {namespace:?}"))
}

/// The problem of a version that is not kept.
#[must_use]
pub fn absent_version(namespace: &str, key: &str) -> Problem {
    Problem::not_found(format!(
        "the namespace {namespace:?} does not keep this version of {key:?}; GET /versions lists those \
         that it keeps"
    ))
}

fn stale(current: Version) -> Problem {
    Problem::precondition_failed(format!(
        "the condition does not hold: the object's version is \"{current}\""
    ))
}

fn unsatisfiable(size: u64) -> Problem {
    let problem = Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range_not_satisfiable",
        format!("the range lies outside the value of {size} bytes"),
    );
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(value) => problem.with_header(CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

fn not_modified(version: Version) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    write::put_version(response.headers_mut(), version);
    response
}

/// What is stored is data, never a page of this origin.
fn put_guards(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
}

fn whole(object: Object) -> Response {
    let mut response = Response::new(SlicedBody::body(object.value));
    write::put_head(response.headers_mut(), &object.head);
    put_guards(response.headers_mut());
    response
}

fn pieces(
    head: ObjectHead,
    reader: ObjectReader,
    range: std::ops::Range<u64>,
    partial: bool,
) -> Response {
    let size = head.size;
    let mut response = Response::new(ObjectBody::body(reader, range.clone()));
    write::put_head(response.headers_mut(), &head);
    put_guards(response.headers_mut());
    if partial {
        mark_partial(&mut response, &range, size);
    }
    response
}

fn part(object: Object) -> Response {
    let (range, size) = (object.range.clone(), object.head.size);
    let mut response = whole(object);
    mark_partial(&mut response, &range, size);
    response
}

fn mark_partial(response: &mut Response, range: &std::ops::Range<u64>, size: u64) {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let field = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    if let Ok(field) = HeaderValue::from_str(&field) {
        response.headers_mut().insert(CONTENT_RANGE, field);
    }
}

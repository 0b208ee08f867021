//! `/versions`: earlier versions of objects; and `?version=` and `?at_ms=` of an object.

use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use sira_store::key::check_key;
use sira_store::version_history::ObjectVersion;
use sira_store::{ObjectHead, StorageClient, StorageError, Version};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::object;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;

/// A version of an object.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionEntry {
    /// The key.
    pub key: String,
    /// The version, also its entity tag.
    pub version: String,
    /// Size of the value in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_at_ms: u64,
    /// When it was overwritten or removed; left out of the one that the key holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// Versions of a key, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    /// The versions.
    pub versions: Vec<VersionEntry>,
    /// There are older ones; pass the last version as `before`.
    pub has_more: bool,
}

/// Objects that were removed and can be restored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Removed {
    /// The newest version of each.
    pub objects: Vec<VersionEntry>,
    /// There may be more; pass `next` as `start_after`.
    pub has_more: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which version is to be the object again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Name of the namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The version; or `at_ms`.
    pub version: Option<String>,
    /// The one that the key held at this time, in milliseconds since the Unix epoch.
    pub at_ms: Option<u64>,
}

/// What was restored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Restored {
    /// Name of the namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// Version of the object now.
    pub version: String,
    /// The version whose bytes it has.
    pub restored: String,
}

/// How many versions were erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erased {
    /// Their number.
    pub erased: u64,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn entry(version: ObjectVersion) -> VersionEntry {
    VersionEntry {
        key: version.key,
        version: version.version.to_string(),
        size: version.size,
        written_at_ms: version.written_at_ms,
        ended_at_ms: version.ended_at_ms,
        expires_at_ms: version.expires_at_ms,
    }
}

fn parse_version(text: &str) -> Result<Version, StorageError> {
    text.trim_matches('"').parse().map_err(|error| StorageError::invalid_input(format!("{error}")))
}

fn parse_number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, StorageError> {
    text.parse().map_err(|_| StorageError::invalid_input(format!("{name} is a number")))
}

/// The namespace for what is kept of it; asking makes none.
async fn space(app: &App, namespace: &str) -> Result<StorageClient, Problem> {
    let _ = app.namespace(namespace).await?;
    Ok(app.client().namespace(namespace))
}

/// Lists the versions of a key, newest first.
#[utoipa::path(
    get,
    path = "/versions",
    tag = "objects",
    params(
        ("namespace" = Option<String>, Query, description = "Namespace; `default` if left out"),
        ("key" = String, Query, description = "Key"),
        ("before" = Option<String>, Query, description = "Versions older than this one"),
        ("limit" = Option<usize>, Query, description = "Most versions; 1,000 if left out"),
    ),
    responses(
        (status = 200, description = "A page", body = Versions),
        (status = "4XX", description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 501, description = "The namespace keeps none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn list(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut namespace, mut key) = (default_namespace(), String::new());
    let (mut before, mut limit) = (None, 0);
    query::read(request.uri().query(), &["namespace", "key", "before", "limit"], |name, value| {
        match name {
            "namespace" => namespace = value,
            "key" => key = value,
            "before" => before = Some(parse_version(&value)?),
            _ => limit = parse_number(name, &value)?,
        }
        Ok(())
    })?;
    check_key(&key)?;
    let page = space(&app, &namespace).await?.versions(&key, before, limit).await?;
    let versions = page.versions.into_iter().map(entry).collect();
    json::answer(StatusCode::OK, &Versions { versions, has_more: page.more })
}

/// Lists objects that were removed and can be restored.
#[utoipa::path(
    get,
    path = "/versions/removed",
    tag = "objects",
    params(
        ("namespace" = Option<String>, Query, description = "Namespace; `default` if left out"),
        ("prefix" = Option<String>, Query, description = "Keys begin with this"),
        ("start_after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, description = "Most versions that are looked at; 1,000 if left out"),
    ),
    responses(
        (status = 200, description = "A page, which may be short and not be the last", body = Removed),
        (status = "4XX", description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 501, description = "The namespace keeps none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn removed(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut namespace, mut prefix) = (default_namespace(), String::new());
    let (mut start_after, mut limit) = (None, 0);
    let known = ["namespace", "prefix", "start_after", "limit"];
    query::read(request.uri().query(), &known, |name, value| {
        match name {
            "namespace" => namespace = value,
            "prefix" => prefix = value,
            "start_after" => start_after = Some(value),
            _ => limit = parse_number(name, &value)?,
        }
        Ok(())
    })?;
    let space = space(&app, &namespace).await?;
    let page = space.removed_objects(&prefix, start_after, limit).await?;
    let objects = page.objects.into_iter().map(entry).collect();
    let removed = Removed { objects, has_more: page.next.is_some(), next: page.next };
    json::answer(StatusCode::OK, &removed)
}

/// Makes an earlier version the object again. What the key holds meanwhile is kept in its turn.
#[utoipa::path(
    post,
    path = "/versions/restore",
    tag = "objects",
    request_body = RestoreRequest,
    responses(
        (status = 200, description = "It is the object again", body = Restored),
        (status = 404, description = "The version is not kept", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = "4XX", description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 501, description = "The namespace keeps none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn restore(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (asked, _share) = json::read::<RestoreRequest>(&app, request).await?;
    let RestoreRequest { namespace, key, version, at_ms } = asked;
    check_key(&key)?;
    let space = space(&app, &namespace).await?;
    let version = match (version, at_ms) {
        (Some(version), None) => parse_version(&version)?,
        (None, Some(at_ms)) => {
            let found = space.version_at(&key, at_ms).await?;
            found.ok_or_else(|| object::absent_version(&namespace, &key))?
        }
        _ => return Err(Problem::bad_request("give `version` or `at_ms`")),
    };
    let now = space.restore_version(&key, version).await?.to_string();
    let restored = version.to_string();
    json::answer(StatusCode::OK, &Restored { namespace, key, version: now, restored })
}

/// Erases earlier versions of a key: one, or all of them. The object itself stays.
#[utoipa::path(
    delete,
    path = "/versions",
    tag = "objects",
    params(
        ("namespace" = Option<String>, Query, description = "Namespace; `default` if left out"),
        ("key" = String, Query, description = "Key"),
        ("version" = Option<String>, Query, description = "The version"),
        ("all" = Option<bool>, Query, description = "All of them"),
    ),
    responses(
        (status = 200, description = "How many there were", body = Erased),
        (status = "4XX", description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 501, description = "The namespace keeps none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn erase(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut namespace, mut key) = (default_namespace(), String::new());
    let (mut version, mut all) = (None, false);
    query::read(request.uri().query(), &["namespace", "key", "version", "all"], |name, value| {
        match name {
            "namespace" => namespace = value,
            "key" => key = value,
            "version" => version = Some(parse_version(&value)?),
            _ => all = query::flag(name, &value)?,
        }
        Ok(())
    })?;
    check_key(&key)?;
    if version.is_some() == all {
        return Err(Problem::bad_request("give `version`, or `all=true`"));
    }
    let erased = space(&app, &namespace).await?.erase_versions(&key, version).await?;
    json::answer(StatusCode::OK, &Erased { erased })
}

/// The version that a read of an object asks for by `?version=` or `?at_ms=`, with what is known of
/// it; `None` where it asks for the object as it is.
pub async fn asked(
    app: &App,
    uri: &Uri,
    namespace: &str,
    key: &str,
) -> Result<Option<ObjectHead>, Problem> {
    let (mut version, mut at_ms) = (None, None);
    query::read(uri.query(), &["version", "at_ms"], |name, value| {
        match name {
            "version" => version = Some(parse_version(&value)?),
            _ => at_ms = Some(parse_number(name, &value)?),
        }
        Ok(())
    })?;
    let space = match (version, at_ms) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Problem::bad_request("give `version` or `at_ms`")),
        _ => space(app, namespace).await?,
    };
    if let Some(at_ms) = at_ms {
        version = space.version_at(key, at_ms).await?;
    }
    let head = match version {
        Some(version) => space.head_version(key, version).await?,
        None => None,
    };
    head.map(Some).ok_or_else(|| object::absent_version(namespace, key))
}

//! `/v1` and `/v1/{namespace}`: namespaces and listings.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde::Serialize;
use sira_store::limits::LIST_LIMIT_MAX;
use sira_store::{ListOptions, StorageError};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, path, query};
use crate::limits;
use crate::problem::Problem;

/// All namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Namespaces {
    /// In byte order of their names.
    pub namespaces: Vec<NamespaceEntry>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NamespaceEntry {
    /// Its name.
    pub name: String,
    /// Keys, expired ones that are not collected yet included; left out where the namespace does not
    /// lie on the embedded engine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Listing {
    /// Objects, in byte order of their keys.
    pub entries: Vec<Entry>,
    /// What keys have in common up to the delimiter, in byte order.
    pub common_prefixes: Vec<String>,
    /// Whether there is another page.
    pub has_more: bool,
    /// Pass this as `start_after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One object of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Size of the value in bytes.
    pub size: u64,
    /// Version of the object, with `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When the object was written, in milliseconds since the Unix epoch, with `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_at_ms: Option<u64>,
    /// When it expires, in milliseconds since the Unix epoch, with `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Media type, with `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The caller's own names and values, with `details`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn namespace_of(uri: &Uri) -> Result<String, StorageError> {
    path::namespace(uri.path().strip_prefix("/v1/").unwrap_or_default())
}

/// Lists the namespaces.
#[utoipa::path(
    get,
    path = "/v1",
    tag = "namespaces",
    responses((status = 200, description = "All namespaces", body = Namespaces))
)]
pub async fn list_namespaces(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Problem> {
    query::read(request.uri().query(), &[], |_, _| Ok(()))?;
    let namespaces = app.namespaces().await?.into_iter();
    let namespaces = namespaces.map(|(name, keys)| NamespaceEntry { name, keys }).collect();
    json::answer(StatusCode::OK, &Namespaces { namespaces })
}

/// Lists the keys of a namespace, a page at a time, in byte order.
#[utoipa::path(
    get,
    path = "/v1/{namespace}",
    tag = "namespaces",
    params(
        ("namespace" = String, Path, description = "Namespace"),
        ("prefix" = Option<String>, Query, description = "Keys begin with this"),
        ("delimiter" = Option<String>, Query, description = "Fold keys with this after the prefix"),
        ("start_after" = Option<String>, Query, description = "Keys come after this"),
        ("limit" = Option<usize>, Query, description = "Most entries and common prefixes, 1 to 10,000; 1,000 if left out"),
        ("details" = Option<bool>, Query, description = "Add version, times and metadata; reads each object's head"),
    ),
    responses(
        (status = 200, description = "A page", body = Listing),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "There is no such namespace", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn list_keys(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let namespace = namespace_of(request.uri())?;
    let mut options = ListOptions::default();
    let mut details = false;
    let known = ["prefix", "delimiter", "start_after", "limit", "details"];
    query::read(request.uri().query(), &known, |name, value| {
        match name {
            "prefix" => options.prefix = value,
            "delimiter" => options.delimiter = Some(value),
            "start_after" => options.start_after = Some(value),
            "limit" => options.limit = parse_limit(&value)?,
            _ => details = query::flag(name, &value)?,
        }
        Ok(())
    })?;
    let store = app.namespace(&namespace).await?;
    let page = store.list(options).await?;
    let mut entries = Vec::with_capacity(page.entries.len());
    for entry in page.entries {
        let mut shown = Entry {
            key: entry.key,
            size: entry.size,
            version: entry.version.map(|version| version.to_string()),
            modified_at_ms: entry.version.map(|version| version.time_ms()),
            expires_at_ms: entry.expires_at_ms,
            content_type: None,
            metadata: BTreeMap::new(),
        };
        if details {
            if entries.len() % limits::HTTP_LIST_BATCH == limits::HTTP_LIST_BATCH - 1 {
                tokio::task::yield_now().await;
            }
            // An object that went away since the scan is no longer of the page.
            let Some(head) = store.head(&shown.key).await? else { continue };
            shown.size = head.size;
            shown.version = Some(head.version.to_string());
            shown.modified_at_ms = Some(head.version.time_ms());
            shown.expires_at_ms = head.expires_at_ms;
            shown.content_type = head.metadata.content_type;
            shown.metadata = head.metadata.user;
        }
        entries.push(shown);
    }
    let listing = Listing {
        entries,
        common_prefixes: page.common_prefixes,
        has_more: page.next.is_some(),
        next: page.next,
    };
    json::answer(StatusCode::OK, &listing)
}

fn parse_limit(text: &str) -> Result<usize, StorageError> {
    text.parse().ok().filter(|limit| (1..=LIST_LIMIT_MAX).contains(limit)).ok_or_else(|| {
        StorageError::invalid_input(format!("limit is a number from 1 to {LIST_LIMIT_MAX}"))
    })
}

/// Drops a namespace with all its objects.
#[utoipa::path(
    delete,
    path = "/v1/{namespace}",
    tag = "namespaces",
    params(
        ("namespace" = String, Path, description = "Namespace"),
        ("confirm" = String, Query, description = "The namespace's name again"),
    ),
    responses(
        (status = 204, description = "Dropped"),
        (status = 400, description = "Not confirmed", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "There is no such namespace", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn drop_namespace(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let namespace = namespace_of(request.uri())?;
    let mut confirm = None;
    query::read(request.uri().query(), &["confirm"], |_, value| {
        confirm = Some(value);
        Ok(())
    })?;
    if confirm.as_deref() != Some(&namespace) {
        return Err(Problem::bad_request(format!(
            "this erases every object of {namespace:?}; confirm with ?confirm={}",
            path::encode_key(&namespace)
        )));
    }
    let dropped = app.drop_namespace(&namespace).await?;
    if !dropped {
        return Err(Problem::not_found(format!("there is no namespace {namespace:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

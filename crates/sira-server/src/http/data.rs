//! `/api/data`: objects of the namespace `default`, in JSON.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, LOCATION};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use sira_store::{Metadata, ReadOptions, StorageError, StorageOptions};
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::object::{Stored, absent};
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument, Problems};
use crate::http::ttl::ttl_from_seconds;
use crate::http::{json, path, write};
use crate::limits;
use crate::problem::Problem;

/// Namespace of these routes.
const NAMESPACE: &str = "default";

/// An object to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreRequest {
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
}

/// An object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Data {
    /// The key.
    pub key: String,
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in Base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Version of the object, also its entity tag.
    pub version: String,
    /// Size of the value in bytes.
    pub size: u64,
    /// When it expires, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The caller's own names and values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn key_of(uri: &Uri) -> Result<String, StorageError> {
    path::key(uri.path().strip_prefix("/api/data/").unwrap_or_default())
}

/// Stores an object, whatever the key held.
#[utoipa::path(
    post,
    path = "/api/data",
    tag = "data",
    request_body = StoreRequest,
    responses(
        (status = 201, description = "Stored", body = Stored),
        Problems,
    )
)]
pub async fn store(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (body, _share) = json::read::<StoreRequest>(&app, request).await?;
    let value = json::value(body.value, body.value_base64)?;
    let size = value.len() as u64;
    let options = StorageOptions {
        ttl: body.ttl_seconds.map(ttl_from_seconds).transpose()?,
        metadata: Metadata {
            content_type: body.content_type,
            user: body.metadata,
            ..Metadata::default()
        },
        durability: Some(app.durability(NAMESPACE)),
        ..StorageOptions::default()
    };
    let has_ttl = options.ttl.is_some();
    let store = app.make_namespace(NAMESPACE).await?;
    let version = store.put(&body.key, value, options).await?;
    let head = if has_ttl { store.head(&body.key).await? } else { None };
    let stored = Stored {
        namespace: NAMESPACE.to_owned(),
        version: version.to_string(),
        size,
        expires_at_ms: head
            .filter(|head| head.version == version)
            .and_then(|head| head.expires_at_ms),
        key: body.key,
    };
    let mut response = json::answer(StatusCode::CREATED, &stored)?;
    write::put_version(response.headers_mut(), version);
    let location = format!("/api/data/{}", path::encode_key(&stored.key));
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Reads an object.
#[utoipa::path(
    get,
    path = "/api/data/{key}",
    tag = "data",
    params(("key" = String, Path, description = "Key; may hold `/`")),
    responses(
        (status = 200, description = "The object", body = Data),
        Problems,
    )
)]
pub async fn retrieve(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let key = key_of(request.uri())?;
    let Some(store) = app.find_namespace(NAMESPACE).await? else {
        return Err(absent(NAMESPACE, &key));
    };
    let object = store.read(&key, ReadOptions::default()).await?;
    let object = object.ok_or_else(|| absent(NAMESPACE, &key))?;
    if object.value.len() > limits::HTTP_JSON_VALUE_BYTES_MAX {
        return Err(Problem::too_large(format!(
            "the value has {} bytes, too many for a JSON document; read it from /v1/{NAMESPACE}/{}",
            object.value.len(),
            path::encode_key(&key)
        )));
    }
    let (value, value_base64) = json::show(&object.value);
    let version = object.head.version;
    let data = Data {
        key,
        value,
        value_base64,
        version: version.to_string(),
        size: object.head.size,
        expires_at_ms: object.head.expires_at_ms,
        content_type: object.head.metadata.content_type,
        metadata: object.head.metadata.user,
    };
    let mut response = json::answer(StatusCode::OK, &data)?;
    write::put_version(response.headers_mut(), version);
    Ok(response)
}

/// Removes an object.
#[utoipa::path(
    delete,
    path = "/api/data/{key}",
    tag = "data",
    params(("key" = String, Path, description = "Key; may hold `/`")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is none", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn remove(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let key = key_of(request.uri())?;
    let removed = match app.find_namespace(NAMESPACE).await? {
        Some(store) => store.delete(&key).await?,
        None => false,
    };
    if !removed {
        return Err(absent(NAMESPACE, &key));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

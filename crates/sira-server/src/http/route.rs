//! `/route`: where an object lies, where it would go, and why.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use sira_store::{Metadata, StorageError, StorageOptions};

use crate::http::app::App;
use crate::http::openapi::{PROBLEM_JSON, ProblemDocument};
use crate::http::{json, query};
use crate::problem::Problem;

/// Explains where an object lies, where its next write would go, and which rule says so.
#[utoipa::path(
    get,
    path = "/route",
    tag = "operations",
    params(
        ("namespace" = Option<String>, Query, description = "Namespace; `default` if left out"),
        ("key" = String, Query, description = "Key"),
        ("size" = Option<u64>, Query, description = "Bytes that would be written"),
        ("content_type" = Option<String>, Query, description = "Media type that would be written"),
    ),
    responses(
        (status = 200, description = "`lies_on`, `has_copies_on`, `behind_on`, `goes_to`, `copies_on`, `compared_with`, `rule`, `reason` and every rule's answer", body = Object),
        (status = 400, description = "Refused", body = ProblemDocument, content_type = PROBLEM_JSON),
        (status = 404, description = "There is no such namespace", body = ProblemDocument, content_type = PROBLEM_JSON),
    )
)]
pub async fn explain(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut namespace, mut key, mut size) = ("default".to_owned(), String::new(), None);
    let mut metadata = Metadata::default();
    let known = ["namespace", "key", "size", "content_type"];
    query::read(request.uri().query(), &known, |name, value| {
        match name {
            "namespace" => namespace = value,
            "key" => key = value,
            "content_type" => metadata.content_type = Some(value),
            _ => {
                let bytes = value.parse::<u64>().map_err(|_| {
                    StorageError::invalid_input("size is a number of bytes, such as 4096")
                })?;
                size = Some(bytes);
            }
        }
        Ok(())
    })?;
    // A question makes no namespace.
    let _ = app.namespace(&namespace).await?;
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    let found = app.client().namespace(&namespace).explain(&key, size, &options).await?;
    json::answer(StatusCode::OK, &found)
}

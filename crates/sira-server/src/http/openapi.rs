//! The OpenAPI document, made from the handlers.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};
use utoipa::{IntoResponses, Modify, OpenApi as _, ToSchema};

use crate::http::{
    backups, batch, capacity, data, health, json, lifecycle, locks, migrations, namespaces, object,
    replicas, route, syncs, transaction, versions,
};
use crate::problem::Problem;

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// `urn:sira:problem:` and the code.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What was wrong and what to do.
    pub detail: String,
    /// Stable name of what went wrong.
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The request's id, also in `x-request-id`.
    pub request_id: String,
}

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The answers of a request that did not do what was asked.
#[derive(Debug, IntoResponses)]
pub enum Problems {
    /// Refused
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(ProblemDocument),
    /// Failed
    #[response(status = "5XX", content_type = "application/problem+json")]
    Failed(ProblemDocument),
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Sira",
        description = "One storage plane for AI systems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        object::put,
        object::get,
        object::head,
        object::delete,
        namespaces::list_namespaces,
        namespaces::list_keys,
        namespaces::drop_namespace,
        batch::run,
        transaction::run,
        data::store,
        data::retrieve,
        data::remove,
        health::livez,
        health::readyz,
        health::healthz,
        health::report,
        health::metrics,
        health::stats,
        capacity::report,
        capacity::cost,
        route::explain,
        migrations::list,
        migrations::begin,
        migrations::show,
        migrations::cancel,
        syncs::list,
        syncs::begin,
        syncs::show,
        syncs::end,
        replicas::list,
        replicas::repair,
        locks::list,
        locks::acquire,
        locks::release,
        backups::snapshots,
        backups::list,
        backups::begin,
        backups::show,
        backups::cancel,
        lifecycle::list,
        lifecycle::run,
        versions::list,
        versions::removed,
        versions::restore,
        versions::erase,
        document,
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Token),
    security(("token" = []), ())
)]
struct Description;

/// Adds the bearer token to the document.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The server's SIRA_TOKEN, where it has one"))
            .build();
        openapi
            .components
            .get_or_insert_with(Components::default)
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The description of the HTTP interface.
#[must_use]
pub fn openapi() -> OpenApi {
    Description::openapi()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json"))
)]
pub async fn document() -> Result<Response, Problem> {
    json::answer(StatusCode::OK, &openapi())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut described: Vec<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let operations = item.as_object().unwrap().keys();
                operations.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
            })
            .collect();
        let mut served: Vec<(String, String)> = routes::table()
            .iter()
            .flat_map(|route| {
                let path = route.pattern.replace("{*", "{");
                route.methods.iter().map(move |method| (path.clone(), (*method).to_owned()))
            })
            .collect();
        described.sort();
        served.sort();
        assert_eq!(described, served);
    }

    #[test]
    fn the_document_names_the_token_and_the_version() {
        let document = serde_json::to_value(openapi()).unwrap();
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(document["components"]["schemas"]["ProblemDocument"].is_object());
    }
}

//! The table of routes.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use http::StatusCode;

use crate::http::app::App;
use crate::http::observe::observe;
use crate::http::{
    backups, batch, capacity, data, health, lifecycle, locks, migrations, namespaces, object,
    openapi, replicas, route, syncs, transaction, versions,
};
use crate::problem::Problem;

/// One route: its pattern, the methods it answers, and what answers them.
pub struct Route {
    /// Pattern, with `{name}` for a segment and `{*name}` for the rest of the path.
    pub pattern: &'static str,
    /// Methods that do something of their own.
    pub methods: &'static [&'static str],
    handler: MethodRouter<App>,
}

/// Every route of the server.
#[must_use]
pub fn table() -> Vec<Route> {
    let route = |pattern, methods, handler| Route { pattern, methods, handler };
    vec![
        route("/v1", &["get"], get(namespaces::list_namespaces)),
        route("/v1/_tx", &["post"], post(transaction::run)),
        route(
            "/v1/{namespace}",
            &["get", "delete"],
            get(namespaces::list_keys).delete(namespaces::drop_namespace),
        ),
        route(
            "/v1/{namespace}/_batch",
            &["post"],
            post(batch::run)
                .put(object::put)
                .get(object::get)
                .head(object::head)
                .delete(object::delete),
        ),
        route(
            "/v1/{namespace}/{*key}",
            &["put", "get", "head", "delete"],
            put(object::put).get(object::get).head(object::head).delete(object::delete),
        ),
        route("/api/data", &["post"], post(data::store)),
        route("/api/data/{*key}", &["get", "delete"], delete(data::remove).get(data::retrieve)),
        route(LIVEZ, &["get"], get(health::livez)),
        route(READYZ, &["get"], get(health::readyz)),
        route(HEALTHZ, &["get"], get(health::healthz)),
        route("/health", &["get"], get(health::report)),
        route("/metrics", &["get"], get(health::metrics)),
        route("/capacity", &["get"], get(capacity::report)),
        route("/cost", &["get"], get(capacity::cost)),
        route("/migrations", &["get", "post"], get(migrations::list).post(migrations::begin)),
        route(
            "/migrations/{id}",
            &["get", "delete"],
            get(migrations::show).delete(migrations::cancel),
        ),
        route("/replicas", &["get"], get(replicas::list)),
        route("/replicas/repair", &["post"], post(replicas::repair)),
        route("/route", &["get"], get(route::explain)),
        route("/syncs", &["get", "post"], get(syncs::list).post(syncs::begin)),
        route("/syncs/{id}", &["get", "delete"], get(syncs::show).delete(syncs::end)),
        route(
            "/locks",
            &["get", "post", "delete"],
            get(locks::list).post(locks::acquire).delete(locks::release),
        ),
        route("/backups", &["get"], get(backups::snapshots)),
        route("/backups/jobs", &["get", "post"], get(backups::list).post(backups::begin)),
        route("/backups/jobs/{id}", &["get", "delete"], get(backups::show).delete(backups::cancel)),
        route("/lifecycle", &["get"], get(lifecycle::list)),
        route("/lifecycle/run", &["post"], post(lifecycle::run)),
        route("/versions", &["get", "delete"], get(versions::list).delete(versions::erase)),
        route("/versions/removed", &["get"], get(versions::removed)),
        route("/versions/restore", &["post"], post(versions::restore)),
        route("/stats", &["get"], get(health::stats)),
        route("/openapi.json", &["get"], get(openapi::document)),
    ]
}

const LIVEZ: &str = "/livez";
const READYZ: &str = "/readyz";
const HEALTHZ: &str = "/healthz";

/// Whether a path is asked by probes: open to all, and not logged.
#[must_use]
pub fn is_health(path: &str) -> bool {
    matches!(path, LIVEZ | READYZ | HEALTHZ)
}

/// The router over a store.
pub fn router(app: App) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.pattern, route.handler))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn no_route(request: Request) -> Problem {
    let path = request.uri().path();
    let hint = match path.strip_prefix("/v1/").and_then(|below| below.split_once('/')) {
        Some((_, "")) => "a key has at least one byte; without the last `/` it lists the namespace",
        _ => "see /openapi.json for all routes",
    };
    Problem::new(StatusCode::NOT_FOUND, "no_route", format!("there is nothing at {path}: {hint}"))
}

async fn no_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{} does not take {}; the Allow header names what it takes",
            request.uri().path(),
            request.method()
        ),
    )
}

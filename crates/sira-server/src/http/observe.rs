//! What happens around every request: id, limits of the head, token, metrics, access log, and
//! problem documents.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use opentelemetry::global;
use opentelemetry_http::HeaderExtractor;
use sira_store::layers::in_request;
use sira_store::layers::trace::SPAN_TARGET;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::auth::{bearer, token_matches};
use crate::http::app::App;
use crate::http::routes;
use crate::limits;
use crate::problem::Problem;

/// Header of the request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Address of the client of a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The outermost layer of the router.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = app.env().monotonic();
    let request_id: Arc<str> = request_id(&app, request.headers()).into();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);

    let span = match routes::is_health(&path) {
        true => Span::none(),
        false => request_span(&request, route.as_ref().map(MatchedPath::as_str), &request_id),
    };
    app.metrics().requests_under_way.fetch_add(1, Ordering::Relaxed);
    let _under_way = UnderWay(app.clone());
    let mut response = match check(&app, &request) {
        Ok(()) => {
            in_request(Arc::clone(&request_id), next.run(request).instrument(span.clone())).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response.headers_mut().extend(problem.header_fields());
        *response.body_mut() = Body::from(problem.document(&request_id).to_string());
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }

    let elapsed = app.env().monotonic().saturating_sub(started);
    let status = response.status();
    let bytes = match method {
        Method::HEAD => 0,
        _ => response.body().size_hint().exact().unwrap_or(0),
    };
    app.metrics().response_bytes.fetch_add(bytes, Ordering::Relaxed);
    let route = route.as_ref().map(MatchedPath::as_str);
    app.metrics().answered(route, &method, status, elapsed);
    if !span.is_disabled() {
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("error.type", status.as_str());
            span.record("otel.status_code", "ERROR");
        }
    }
    if !routes::is_health(&path) {
        let _span = span.enter();
        tracing::info!(
            target: "sira::access",
            %method,
            path,
            status = status.as_u16(),
            bytes,
            duration_ms = elapsed.as_secs_f64() * 1e3,
            request_id = &*request_id,
            peer = peer.map(tracing::field::display),
        );
    }
    response
}

/// The span of a request, within the trace that its head names. Paths hold keys and so are left out.
fn request_span(request: &Request, route: Option<&str>, request_id: &str) -> Span {
    let method = request.method().as_str();
    let span = tracing::info_span!(
        target: SPAN_TARGET,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.scheme = "http",
        network.protocol.version = Empty,
        client.address = Empty,
        sira.request.id = request_id,
        error.r#type = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    match route {
        Some(route) => span.record("otel.name", format!("{method} {route}")),
        None => span.record("otel.name", method),
    };
    let version = if request.version() == http::Version::HTTP_2 { "2" } else { "1.1" };
    span.record("network.protocol.version", version);
    if let Some(Peer(peer)) = request.extensions().get() {
        span.record("client.address", peer.ip().to_string());
    }
    let extractor = HeaderExtractor(request.headers());
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&extractor));
    // Spans that nobody exports have no parent elsewhere.
    let _ = span.set_parent(parent);
    span
}

struct UnderWay(App);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.metrics().requests_under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The client's id where it is one, else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    headers
        .get(X_REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| (1..=limits::HTTP_REQUEST_ID_BYTES_MAX).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
        .map_or_else(|| format!("{:016x}", app.env().random_u64()), str::to_owned)
}

/// What is refused whatever the route.
fn check(app: &App, request: &Request) -> Result<(), Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits::HTTP_TARGET_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            "too_large",
            format!(
                "the request's path and query take more than {} bytes",
                limits::HTTP_TARGET_BYTES_MAX
            ),
        ));
    }
    let fields: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields > limits::HTTP_HEADERS_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too_large",
            format!(
                "the request's header fields take {fields} bytes, more than {}",
                limits::HTTP_HEADERS_BYTES_MAX
            ),
        ));
    }
    let Some(token) = app.token() else {
        return check_host(request);
    };
    if routes::is_health(request.uri().path()) {
        return Ok(());
    }
    let presented = request.headers().get(AUTHORIZATION);
    match presented.and_then(|header| bearer(header.as_bytes())) {
        Some(presented) if token_matches(token, presented) => Ok(()),
        presented => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            match presented {
                Some(_) => "the token is wrong",
                None => "this server wants a token; send `Authorization: Bearer $SIRA_TOKEN`",
            },
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sira\""))),
    }
}

/// A server without a token listens on this machine only. A web page of another site can still
/// reach it through a host name that it points here; such names are refused.
fn check_host(request: &Request) -> Result<(), Problem> {
    let host = request
        .uri()
        .host()
        .or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok()))
        .unwrap_or_default();
    if is_local_host(host) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected_request",
        format!(
            "this server has no token, so it answers as localhost or by its IP address, not as \
             {host:?}; set SIRA_TOKEN to serve under other names"
        ),
    ))
}

/// Whether a `Host` names no other site: `localhost`, an IP address, or nothing.
fn is_local_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let name = match bracketed {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    name.is_empty()
        || lower == "localhost"
        || lower.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_not_local() {
        for host in ["", "localhost", "LOCALHOST:9095", "a.localhost", "127.0.0.1:9095", "[::1]:1"]
        {
            assert!(is_local_host(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com", "127.0.0.1.example.com:9095"] {
            assert!(!is_local_host(host), "{host}");
        }
    }
}

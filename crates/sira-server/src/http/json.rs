//! JSON bodies, both ways.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::app::App;
use crate::http::body::UploadShare;
use crate::limits;
use crate::problem::Problem;

/// Base64 as RFC 4648 has it; padding may be left out when reading.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a JSON request body. The share of the memory for uploads that comes with it is held while
/// what was read is in use.
///
/// # Errors
/// 415 without `Content-Type: application/json`, which also keeps other sites' forms out; 413, 408
/// and 400 for a body that is too large, too slow or malformed.
pub async fn read<T: DeserializeOwned>(
    app: &App,
    request: Request,
) -> Result<(T, UploadShare), Problem> {
    let is_json = is_json(request.headers());
    let mut reader = app.reader(request, limits::HTTP_JSON_BYTES_MAX);
    if !is_json {
        let problem = Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "this route takes JSON; send `Content-Type: application/json`",
        );
        return Err(reader.refuse(problem).await);
    }
    let collected = match reader.admit().await {
        Ok(()) => reader.collect(limits::HTTP_JSON_BYTES_MAX).await,
        Err(problem) => Err(problem),
    };
    let (body, _) = match collected {
        Ok(collected) => collected,
        Err(problem) => return Err(reader.refuse(problem).await),
    };
    let value = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!("the body is not what is expected: {error}"))
    })?;
    Ok((value, reader.into_share()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A JSON answer.
///
/// # Errors
/// 500 for a value that has no JSON form.
pub fn answer<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    })?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The bytes of a value that a document carries as text or as Base64.
///
/// # Errors
/// 400 unless exactly one of them is given and well-formed.
pub fn value(text: Option<String>, base64: Option<String>) -> Result<Bytes, Problem> {
    match (text, base64) {
        (Some(text), None) => Ok(Bytes::from(text)),
        (None, Some(base64)) => BASE64.decode(base64).map(Bytes::from).map_err(|error| {
            Problem::bad_request(format!("`value_base64` is not Base64: {error}"))
        }),
        _ => Err(Problem::bad_request(
            "give either `value` (a text) or `value_base64` (any bytes, in Base64)",
        )),
    }
}

/// A value as a document carries it: text where it is UTF-8, else Base64.
#[must_use]
pub fn show(value: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(value) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sira_store::embedded::{Engine, EngineOptions};

    use crate::storage::Storage;

    use super::*;
    use crate::config::ServerConfig;
    use crate::metrics::HttpMetrics;

    #[tokio::test]
    async fn documents_take_their_share_of_the_memory_until_they_are_done_with() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
        let mut config = ServerConfig::default();
        config.http.upload_bytes_max = 2 * limits::HTTP_COLLECT_BYTES_MAX;
        let metrics = Arc::new(HttpMetrics::new([]));
        let app = App::new(Storage::new(engine).unwrap(), &config, metrics);
        let document = format!("{:?}", "x".repeat(2 * limits::HTTP_BODY_FREE_BYTES));
        // Without an announced length the share is asked for as bytes come, and never waited for.
        let send = || {
            let request = Request::builder().header(CONTENT_TYPE, "application/json");
            read::<String>(&app, request.body(Body::from(document.clone())).unwrap())
        };
        let (first, _second) = (send().await.unwrap(), send().await.unwrap());
        assert_eq!(send().await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert_eq!(send().await.unwrap().0.len(), 2 * limits::HTTP_BODY_FREE_BYTES);
    }

    #[test]
    fn values_are_text_or_base64() {
        for bytes in [&b""[..], b"text", "\u{1f980}".as_bytes(), b"\xff\x00\xfe", b"\x80"] {
            let (text, base64) = show(bytes);
            assert_eq!(value(text, base64).unwrap(), bytes);
        }
        assert_eq!(value(None, Some("/w".into())).unwrap(), &b"\xff"[..]);
        assert!(value(None, None).is_err());
        assert!(value(Some("a".into()), Some("YQ==".into())).is_err());
        assert!(value(None, Some("!".into())).is_err());
    }
}

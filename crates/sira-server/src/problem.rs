//! The one table from errors to the wire, and problem documents (RFC 9457).

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sira_store::{Retry, StorageError};

use crate::limits::HTTP_RETRY_AFTER_SECONDS;

/// Status of each kind of storage error.
///
/// 409 and 503 may be tried again as they are; after 500 and 504 read back first.
#[must_use]
pub fn status(error: &StorageError) -> StatusCode {
    match error {
        StorageError::InvalidInput(_) => StatusCode::BAD_REQUEST,
        StorageError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        StorageError::NotFound(_) => StatusCode::NOT_FOUND,
        StorageError::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
        StorageError::Conflict(_) => StatusCode::CONFLICT,
        StorageError::OutOfSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
        StorageError::Corrupt(_) | StorageError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        StorageError::ReadOnly(_) | StorageError::Locked(_) | StorageError::Unavailable(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        StorageError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        StorageError::PermissionDenied(_) => StatusCode::FORBIDDEN,
        StorageError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        // A kind that this table does not know yet; the test over all kinds keeps it from staying so.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Name of [`Retry`] on the wire.
#[must_use]
pub const fn retryable(retry: Retry) -> bool {
    matches!(retry, Retry::Temporary)
}

/// A problem document before it is written: what went wrong, for a program (`code`, `retryable`)
/// and for a person (`detail`).
#[derive(Debug, Clone)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable name of what went wrong.
    pub code: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What was wrong and what to do.
    pub detail: Cow<'static, str>,
    /// Header fields that go with it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Further members of the document.
    pub members: Vec<(&'static str, serde_json::Value)>,
}

impl Problem {
    /// A problem that does not pass when the request is repeated.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            retryable: false,
            detail: detail.into(),
            headers: Vec::new(),
            members: Vec::new(),
        }
    }

    /// A request that can never be right.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_input", detail)
    }

    /// A body or a head over a limit.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// Something that is not there.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// A condition that did not hold.
    pub fn precondition_failed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
    }

    /// A server that has no room now.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            retryable: true,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: serde_json::Value) -> Self {
        self.members.push((name, value));
        self
    }

    /// The document.
    #[must_use]
    pub fn document(&self, request_id: &str) -> serde_json::Value {
        let mut document = serde_json::Map::new();
        let title = self.status.canonical_reason().unwrap_or("Error");
        document.insert("type".into(), format!("urn:sira:problem:{}", self.code).into());
        document.insert("title".into(), title.into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("detail".into(), self.detail.as_ref().into());
        document.insert("code".into(), self.code.into());
        document.insert("retryable".into(), self.retryable.into());
        document.insert("request_id".into(), request_id.into());
        for (name, value) in &self.members {
            document.insert((*name).into(), value.clone());
        }
        document.into()
    }

    /// The header fields of the answer, all but its length.
    #[must_use]
    pub fn header_fields(&self) -> HeaderMap {
        let mut headers: HeaderMap = self.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(HTTP_RETRY_AFTER_SECONDS));
        }
        headers
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let status = status(&error);
        if status.is_server_error() {
            tracing::warn!(%error, code = error.code(), "storage error");
        }
        Self {
            retryable: retryable(error.retry()),
            ..Self::new(status, error.code(), error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;

//! Errors of a server, read back into the store's own.

use serde::Deserialize;
use sira_store::{Retry, StorageError};

/// What `application/problem+json` carries (RFC 9457, and Sira's own members).
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    retryable: Option<bool>,
    request_id: Option<String>,
}

/// The error that a server answered with.
pub fn read(status: u16, body: &[u8]) -> StorageError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let text = [problem.detail.as_str(), problem.title.as_str()]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or_else(|| format!("the server answered with status {status}"), str::to_owned);
    let message = match &problem.request_id {
        Some(id) => format!("{text} [request {id}]"),
        None => text,
    };
    let error = match problem.code.as_str() {
        "too_large" => StorageError::too_large(message),
        "not_found" => StorageError::not_found(message),
        "precondition_failed" => StorageError::precondition_failed(message),
        "conflict" => StorageError::conflict(message),
        "locked" => StorageError::locked(message),
        "out_of_space" => StorageError::out_of_space(message),
        "corrupt" => StorageError::corrupt(message),
        "read_only" => StorageError::read_only(message),
        "unsupported" => StorageError::unsupported(message),
        "unavailable" => StorageError::unavailable(message),
        "timeout" => StorageError::timeout(message),
        "io" => StorageError::io(message),
        _ => by_status(status, message),
    };
    match problem.retryable {
        Some(true) if error.retry() == Retry::Permanent => error.with_retry(Retry::Temporary),
        _ => error,
    }
}

/// The kind that a status stands for, where a proxy or another server answered.
fn by_status(status: u16, message: String) -> StorageError {
    match status {
        401 | 403 | 407 => StorageError::permission_denied(message),
        404 | 410 => StorageError::not_found(message),
        405 | 501 | 505 => StorageError::unsupported(message),
        408 | 504 => StorageError::timeout(message),
        409 => StorageError::conflict(message),
        412 => StorageError::precondition_failed(message),
        413 | 414 | 431 => StorageError::too_large(message),
        423 => StorageError::locked(message),
        429 | 502 | 503 => StorageError::unavailable(message),
        507 => StorageError::out_of_space(message),
        400..=499 => StorageError::invalid_input(message),
        _ => StorageError::io(message),
    }
}

#[cfg(test)]
mod tests;

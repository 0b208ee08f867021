//! The engine's errors as ours.

use std::fmt::Display;

use reqwest::StatusCode;
use serde_json::Value;
use sira_store::{Retry, StorageError};

use crate::deadline::Effect;
use crate::handshake::{chain, refusal};

/// Our error of a request that got no answer.
pub(super) fn of_request(error: reqwest::Error, effect: Effect) -> StorageError {
    let error = error.without_url();
    let why = chain(&error);
    if let Some(refusal) = refusal("OpenSearch", &why) {
        return refusal.with_source(error);
    }
    let ours = if error.is_connect() {
        StorageError::unavailable(format!("OpenSearch cannot be reached: {why}"))
    } else if error.is_timeout() {
        StorageError::timeout(format!("OpenSearch did not answer in time: {why}"))
            .with_retry(effect.retry())
    } else if error.is_builder() {
        StorageError::invalid_input(format!("OpenSearch cannot be asked this: {why}"))
    } else {
        StorageError::unavailable(format!("the connection to OpenSearch was lost: {why}"))
            .with_retry(effect.retry())
    };
    ours.with_source(error)
}

/// Our error of an answer with a status that tells a failure.
pub(super) fn of_status(status: StatusCode, body: &[u8], effect: Effect) -> StorageError {
    match serde_json::from_slice::<Value>(body) {
        Ok(answer) => of_error(status, answer.get("error").unwrap_or(&Value::Null), effect),
        // Of something in between that is not the engine.
        Err(_) => judge(status, "", "", effect),
    }
}

/// Our error of a status and the engine's description of it.
pub(super) fn of_error(status: StatusCode, error: &Value, effect: Effect) -> StorageError {
    let text = |field| error.get(field).and_then(Value::as_str);
    let reason = text("reason").or(error.as_str()).unwrap_or_default();
    judge(status, text("type").unwrap_or_default(), reason, effect)
}

fn judge(status: StatusCode, kind: &str, reason: &str, effect: Effect) -> StorageError {
    let told = format!("OpenSearch answered {} {kind}: {reason}", status.as_u16());
    // The marks of an index that takes no writes for want of space.
    if reason.contains("flood-stage") || reason.contains("read-only / allow delete") {
        return StorageError::out_of_space(told);
    }
    match status.as_u16() {
        401 | 403 => StorageError::permission_denied(told),
        404 => StorageError::not_found(told),
        408 | 504 => StorageError::timeout(told).with_retry(effect.retry()),
        409 => StorageError::conflict(told),
        413 => StorageError::too_large(told),
        // Queues or memory are full; the operation was not begun.
        429 => StorageError::unavailable(told),
        // The engine says why it did not begin; what stands before it does not.
        503 if !kind.is_empty() => StorageError::unavailable(told),
        502 | 503 => StorageError::unavailable(told).with_retry(effect.retry()),
        500 => StorageError::io(told).with_retry(effect.retry()),
        _ => StorageError::invalid_input(told).with_retry(Retry::Permanent),
    }
}

/// The error of an answer that this module cannot read.
pub(super) fn malformed(why: impl Display) -> StorageError {
    StorageError::corrupt(format!("what OpenSearch holds is no record of this store: {why}"))
}

#[cfg(test)]
mod tests;

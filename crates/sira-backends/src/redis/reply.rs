//! What the server's answers say.

use bytes::Bytes;
use redis::Value;
use sira_store::driver::{Held, Record, RecordHead};
use sira_store::{Result, StorageError};

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was made; of how many live records, for a removal.
    Applied(i64),
    /// Nothing was changed, because of what the key holds.
    Refused(Option<Held>),
}

pub(super) fn outcome(value: Value) -> Result<Outcome> {
    match value {
        Value::Int(count) => Ok(Outcome::Applied(count)),
        value => held(&bytes(value)?).map(Outcome::Refused),
    }
}

/// What a guard looks at, from the head of a stored record; empty for none.
pub(super) fn held(head: &[u8]) -> Result<Option<Held>> {
    if head.is_empty() {
        return Ok(None);
    }
    RecordHead::decode(head).map(|head| Some(head.held()))
}

/// The answer of a GET.
pub(super) fn record(value: Value) -> Result<Option<Record>> {
    match value {
        Value::Nil => Ok(None),
        value => Record::decode(&bytes(value)?).map(Some),
    }
}

pub(super) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        value => Err(unexpected("bytes", &value)),
    }
}

pub(super) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        value => Err(unexpected("a list", &value)),
    }
}

pub(super) fn pair(value: Value) -> Result<(Bytes, Bytes)> {
    let mut values = array(value)?.into_iter();
    match (values.next(), values.next()) {
        (Some(first), Some(second)) => Ok((bytes(first)?, bytes(second)?)),
        _ => Err(unexpected("two strings", &Value::Nil)),
    }
}

pub(super) fn count(value: Value) -> Result<u64> {
    match value {
        Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
        value => Err(unexpected("a number", &value)),
    }
}

/// The value itself stays untold: it may be the caller's.
fn unexpected(wanted: &str, value: &Value) -> StorageError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    StorageError::io(format!("Redis answered with {kind} where {wanted} was expected"))
        .with_retry(sira_store::Retry::Permanent)
}

//! Answers of lightweight transactions.

use ::scylla::response::query_result::QueryResult;
use ::scylla::value::{CqlValue, Row};
use sira_store::Result;
use sira_store::driver::Held;

use super::{error, expiry};
use crate::signed;

/// What a lightweight transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was made.
    Applied,
    /// Its condition did not hold for what the row holds.
    Refused(Option<Held>),
}

/// Reads an answer. Which columns it has depends on what was found: Cassandra leaves out those of a
/// transaction that was made and of a row that is not there.
pub(super) fn of(answer: QueryResult) -> Result<Outcome> {
    let answer = answer.into_rows_result().map_err(error::malformed)?;
    let row: Row = answer.first_row().map_err(error::malformed)?;
    let value = |name| {
        let (at, _) = answer.column_specs().get_by_name(name)?;
        row.columns.get(at).cloned().flatten()
    };
    match value("[applied]") {
        Some(CqlValue::Boolean(true)) => return Ok(Outcome::Applied),
        Some(CqlValue::Boolean(false)) => {}
        _ => return Err(error::malformed("the answer does not say whether it was made")),
    }
    match (value("version"), value("expires_at")) {
        (Some(CqlValue::BigInt(version)), Some(CqlValue::BigInt(expires_at))) => {
            let version = signed::to_version(version);
            Ok(Outcome::Refused(Some(Held { version, expires_at_ms: expiry(expires_at)? })))
        }
        (None, None) => Ok(Outcome::Refused(None)),
        _ => Err(error::malformed("a row has a version or an expiry, but not both")),
    }
}

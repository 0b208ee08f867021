//! Rows as records.

use bytes::Bytes;
use sira_store::driver::{Held, Record};
use sira_store::{Result, StorageError, Version};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::sql::number::{time_from, unsigned, version_from};

/// Bytes of a body from which on the row is kept rather than the body copied.
const KEPT_BYTES_MIN: usize = 16 * 1024;

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| {
        StorageError::corrupt("a row of the table is not as it was written").with_source(error)
    })
}

/// Version, expiry, size and envelope, in the first four columns, and the body where it was asked
/// for.
pub(super) fn record(row: Row, with_body: bool) -> Result<Record> {
    let held = held(&row, 0)?;
    Ok(Record {
        version: held.version,
        expires_at_ms: held.expires_at_ms,
        size: unsigned(column(&row, 2)?)?,
        envelope: Bytes::copy_from_slice(column(&row, 3)?),
        body: if with_body { body(row, 4)? } else { Bytes::new() },
    })
}

/// Version and expiry, in this and the next column.
pub(super) fn held(row: &Row, at: usize) -> Result<Held> {
    let expires_at: Option<i64> = column(row, at + 1)?;
    Ok(Held { version: version(row, at)?, expires_at_ms: expires_at.map(time_from).transpose()? })
}

/// The version in a column.
pub(super) fn version(row: &Row, at: usize) -> Result<Version> {
    version_from(column(row, at)?)
}

fn body(row: Row, at: usize) -> Result<Bytes> {
    let body: &[u8] = column(&row, at)?;
    if body.len() < KEPT_BYTES_MIN {
        return Ok(Bytes::copy_from_slice(body));
    }
    Ok(Bytes::from_owner(Body { row, at }))
}

/// A row that is kept for one of its columns.
struct Body {
    row: Row,
    at: usize,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.row.try_get(self.at).unwrap_or_default()
    }
}

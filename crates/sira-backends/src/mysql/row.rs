//! Rows as records.

use mysql_async::Row;
use mysql_async::prelude::FromValue;
use sira_store::driver::{Held, Record};
use sira_store::{Result, StorageError, Version};

/// Takes a column out of a row.
pub(super) fn column<T: FromValue>(row: &mut Row, at: usize) -> Result<T> {
    row.take_opt(at)
        .and_then(std::result::Result::ok)
        .ok_or_else(|| StorageError::corrupt("a row of the table is not as it was written"))
}

/// Version, expiry, size and envelope, in the first four columns, and the body where it was asked
/// for.
pub(super) fn record(row: &mut Row, with_body: bool) -> Result<Record> {
    let held = held(row)?;
    Ok(Record {
        version: held.version,
        expires_at_ms: held.expires_at_ms,
        size: column(row, 2)?,
        envelope: column::<Vec<u8>>(row, 3)?.into(),
        body: if with_body { column::<Vec<u8>>(row, 4)?.into() } else { bytes::Bytes::new() },
    })
}

/// Version and expiry, in the first two columns.
pub(super) fn held(row: &mut Row) -> Result<Held> {
    Ok(Held { version: Version::from_u64(column(row, 0)?), expires_at_ms: column(row, 1)? })
}

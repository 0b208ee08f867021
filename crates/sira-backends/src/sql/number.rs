//! Numbers, for engines whose integers have a sign.

use sira_store::{Result, StorageError, Version};

use super::check_version;

/// A version for a signed column of 64 bits.
pub(crate) fn version_column(version: Version) -> Result<i64> {
    check_version(version)?;
    Ok(time_column(version.as_u64()))
}

/// A version from a signed column.
pub(crate) fn version_from(column: i64) -> Result<Version> {
    unsigned(column).map(Version::from_u64)
}

/// A count or size from a signed column.
pub(crate) fn unsigned(column: i64) -> Result<u64> {
    u64::try_from(column).map_err(|_| {
        StorageError::corrupt(format!("a stored number is negative, which none can be: {column}"))
    })
}

/// A time for a signed column; the end of the clock is the end of the column.
pub(crate) fn time_column(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// A time from a signed column.
pub(crate) fn time_from(column: i64) -> Result<u64> {
    if column == i64::MAX { Ok(u64::MAX) } else { unsigned(column) }
}

#[cfg(test)]
mod tests;

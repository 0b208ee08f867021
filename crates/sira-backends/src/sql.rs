//! What the SQL engines share: how numbers and places become columns, and names of tables.

#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod batch;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod number;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod table;

use std::cmp::max;

use sira_store::driver::{Area, Scan};
use sira_store::{Result, StorageError, Version};

/// The column that tells areas apart.
pub(crate) const fn area_column(area: Area) -> i16 {
    match area {
        Area::Objects => 0,
        Area::Chunks => 1,
    }
}

/// Bounds of a scan: keys are at or after the first and before the second.
pub(crate) fn scan_bounds(scan: &Scan) -> (Vec<u8>, Vec<u8>) {
    let prefix = scan.prefix.as_bytes().to_vec();
    // No UTF-8 text holds this byte.
    let end = [&prefix[..], &[0xFF]].concat();
    let begin = match &scan.after {
        None => prefix,
        Some(after) => {
            // The smallest that is greater.
            let mut begin = after.to_bytes();
            begin.push(0);
            max(begin, prefix)
        }
    };
    (begin, end)
}

/// A key as it was stored.
pub(crate) fn key_text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| StorageError::corrupt("a stored key is no UTF-8 text; remove the row"))
}

/// Refuses versions that have no place in a signed number of 64 bits.
pub(crate) fn check_version(version: Version) -> Result<()> {
    if version.as_u64() > i64::MAX as u64 {
        return Err(StorageError::invalid_input(format!(
            "version {version} is past the year 142,000, which the engine cannot store"
        )));
    }
    Ok(())
}

/// The same error, of another change of the batch.
pub(crate) fn same(error: &StorageError) -> StorageError {
    let message = error.detail().message.clone();
    match error {
        StorageError::InvalidInput(_) => StorageError::invalid_input(message),
        StorageError::TooLarge(_) => StorageError::too_large(message),
        StorageError::NotFound(_) => StorageError::not_found(message),
        StorageError::Conflict(_) => StorageError::conflict(message),
        StorageError::OutOfSpace(_) => StorageError::out_of_space(message),
        StorageError::Corrupt(_) => StorageError::corrupt(message),
        StorageError::ReadOnly(_) => StorageError::read_only(message),
        StorageError::PermissionDenied(_) => StorageError::permission_denied(message),
        StorageError::Timeout(_) => StorageError::timeout(message),
        StorageError::Io(_) => StorageError::io(message),
        _ => StorageError::unavailable(message),
    }
    .with_retry(error.retry())
}

#[cfg(test)]
mod tests;

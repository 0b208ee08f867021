//! What every engine checks of a key, a namespace and the options of a write before it starts.

use std::ops::Range;
use std::time::Duration;

use crate::error::{Result, StorageError};
use crate::limits::{
    BATCH_OPERATIONS_MAX, EXACT_VERSION_END, KEY_BYTES_MAX, NAMESPACE_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::options::{CompressionType, EncryptionType, StorageOptions};
use crate::version::Version;

/// Checks that `key` is 1 to [`KEY_BYTES_MAX`] bytes long. Any UTF-8 text of that length is a key.
///
/// # Errors
/// [`StorageError::InvalidInput`] for an empty key, [`StorageError::TooLarge`] for a longer one.
pub fn check_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(StorageError::invalid_input("a key must have at least one byte")),
        1..=KEY_BYTES_MAX => Ok(()),
        len => Err(StorageError::too_large(format!(
            "a key may have up to {KEY_BYTES_MAX} bytes, this one has {len}"
        ))),
    }
}

/// Checks that `name` can name a namespace: 1 to [`NAMESPACE_BYTES_MAX`] bytes that are one segment
/// of a path, so without `/` and control characters, and neither `.` nor `..`. Names that begin with
/// `_` are kept for front ends.
///
/// # Errors
/// [`StorageError::InvalidInput`], [`StorageError::TooLarge`] for a longer one.
pub fn check_namespace(name: &str) -> Result<()> {
    let refused = match name {
        "" => "a namespace must have a name",
        "." | ".." => "a namespace cannot be named \".\" or \"..\"",
        _ if name.len() > NAMESPACE_BYTES_MAX => {
            return Err(StorageError::too_large(format!(
                "the name of a namespace may have up to {NAMESPACE_BYTES_MAX} bytes, this one has {}",
                name.len()
            )));
        }
        _ if name.starts_with('_') => "a namespace cannot begin with \"_\"",
        _ if name.chars().any(|c| c == '/' || c.is_control()) => {
            "a namespace cannot hold a \"/\" or a control character"
        }
        _ => return Ok(()),
    };
    Err(StorageError::invalid_input(refused).with_namespace(name))
}

/// What a write stores beside the bytes, ready for an engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckedWrite {
    /// When the object expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Encoded metadata.
    pub metadata: Vec<u8>,
    /// Version to store, where the caller gives it.
    pub version: Option<Version>,
}

/// Checks the key, the size and the options of a write against the limits, and works out what is
/// stored beside the bytes. `now_ms` is the wall clock, in milliseconds since the Unix epoch.
///
/// # Errors
/// [`StorageError::InvalidInput`] for an empty key, a time to live of zero or a malformed metadata
/// name, or a version that can be none, [`StorageError::TooLarge`] for a key, value or metadata over its limit,
/// [`StorageError::Unsupported`] for compression and encryption, which no engine does by itself.
pub fn check_write(
    key: &str,
    value_bytes: usize,
    options: &StorageOptions,
    now_ms: u64,
) -> Result<CheckedWrite> {
    check_key(key)?;
    if value_bytes > VALUE_BYTES_MAX {
        return Err(StorageError::too_large(format!(
            "a value may have up to {VALUE_BYTES_MAX} bytes, this one has {value_bytes}"
        )));
    }
    check_described(key, options, now_ms)
}

/// As [`check_write`], for a value whose size is not known yet.
///
/// # Errors
/// As [`check_write`].
pub fn check_described(key: &str, options: &StorageOptions, now_ms: u64) -> Result<CheckedWrite> {
    check_key(key)?;
    check_transforms(options)?;
    if let Some(version) = options.version {
        check_exact_version(version)?;
    }
    Ok(CheckedWrite {
        expires_at_ms: match (options.ttl, options.expires_at_ms) {
            (Some(_), Some(_)) => {
                return Err(StorageError::invalid_input(
                    "give a time to live or a time of expiry, not both",
                ));
            }
            (Some(ttl), None) => Some(expires_at_ms(ttl, now_ms)?),
            (None, at) => at,
        },
        metadata: options.metadata.encode()?,
        version: options.version,
    })
}

/// Checks that a version can be stored as the caller gives it: above 0, which no object has, and
/// below [`EXACT_VERSION_END`].
///
/// # Errors
/// [`StorageError::InvalidInput`] when it is not.
pub fn check_exact_version(version: Version) -> Result<()> {
    if (1..EXACT_VERSION_END).contains(&version.as_u64()) {
        return Ok(());
    }
    Err(StorageError::invalid_input(format!(
        "{version} cannot be the version of an object: versions are milliseconds since 1970 and a \
         counter, and this one is no time"
    )))
}

/// Checks that a write asks for neither compression nor encryption.
///
/// # Errors
/// [`StorageError::Unsupported`] when it does.
pub fn check_transforms(options: &StorageOptions) -> Result<()> {
    if options.compression != CompressionType::None {
        return Err(StorageError::unsupported(
            "engines store bytes as they come: write with CompressionType::None, or compress first",
        ));
    }
    if options.encryption != EncryptionType::None {
        return Err(StorageError::unsupported(
            "engines store bytes as they come: write with EncryptionType::None, or encrypt first",
        ));
    }
    Ok(())
}

/// Checks that a batch has at most [`BATCH_OPERATIONS_MAX`] operations.
///
/// # Errors
/// [`StorageError::TooLarge`] for more.
pub fn check_batch(operations: usize) -> Result<()> {
    if operations > BATCH_OPERATIONS_MAX {
        return Err(StorageError::too_large(format!(
            "a batch may have up to {BATCH_OPERATIONS_MAX} operations, this one has {operations}"
        )));
    }
    Ok(())
}

/// Checks that a range does not end before it starts.
///
/// # Errors
/// [`StorageError::InvalidInput`] when it does.
pub fn check_range(range: &Range<u64>) -> Result<()> {
    if range.start > range.end {
        return Err(StorageError::invalid_input(format!(
            "the range ends at byte {}, before its start at {}",
            range.end, range.start
        )));
    }
    Ok(())
}

/// Checks that a range does not start past the end of a value of `size` bytes.
///
/// # Errors
/// [`StorageError::InvalidInput`] when it does.
pub fn check_range_start(start: u64, size: u64) -> Result<()> {
    if start > size {
        return Err(StorageError::invalid_input(format!(
            "the range starts at byte {start}, past the end of the value of {size} bytes"
        )));
    }
    Ok(())
}

/// When an object written at `now_ms` with this time to live expires. Parts of a millisecond count
/// as a whole one; a time past the end of the clock is the end of the clock.
fn expires_at_ms(ttl: Duration, now_ms: u64) -> Result<u64> {
    if ttl.is_zero() {
        return Err(StorageError::invalid_input(
            "a time to live must be longer than zero; delete the key to have it gone at once",
        ));
    }
    let ttl_ms = ttl.as_nanos().div_ceil(1_000_000);
    Ok(now_ms.saturating_add(u64::try_from(ttl_ms).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;

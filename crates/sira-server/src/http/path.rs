//! Namespaces and keys in request targets.

use sira_store::StorageError;
use sira_store::key::{check_key, check_namespace};

/// Decodes percent-encoding strictly: each `%` is followed by two hexadecimal digits, and the
/// result is UTF-8. A `+` is a plus.
///
/// # Errors
/// [`StorageError::InvalidInput`].
pub fn percent_decode(text: &str) -> Result<String, StorageError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'%')) {
        let escape = at + offset;
        let digits = bytes.get(escape + 1..escape + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(StorageError::invalid_input(
                "a `%` is not followed by two hexadecimal digits; write it as `%25`",
            ));
        }
        at = escape + 3;
    }
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| StorageError::invalid_input("the percent-encoding does not decode to UTF-8"))
}

/// The namespace of a path below `/v1/`: its first segment.
///
/// # Errors
/// [`StorageError::InvalidInput`], [`StorageError::TooLarge`].
pub fn namespace(below: &str) -> Result<String, StorageError> {
    let segment = below.split('/').next().unwrap_or_default();
    let name = percent_decode(segment)?;
    check_namespace(&name)?;
    Ok(name)
}

/// The namespace and the key of a path below `/v1/`: the key is all that follows the first `/`,
/// further slashes included.
///
/// # Errors
/// [`StorageError::InvalidInput`], [`StorageError::TooLarge`].
pub fn namespace_and_key(below: &str) -> Result<(String, String), StorageError> {
    let (_, rest) = below.split_once('/').unwrap_or((below, ""));
    Ok((namespace(below)?, key(rest)?))
}

/// The key that is all of `encoded`.
///
/// # Errors
/// [`StorageError::InvalidInput`], [`StorageError::TooLarge`].
pub fn key(encoded: &str) -> Result<String, StorageError> {
    let key = percent_decode(encoded)?;
    check_key(&key)?;
    Ok(key)
}

/// A key as it is written in a path: slashes stay, all else that is not unreserved is encoded.
#[must_use]
pub fn encode_key(key: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    percent_encoding::utf8_percent_encode(key, ENCODED).to_string()
}

#[cfg(test)]
mod tests;

//! What is kept beside the bytes of an object, and its encoding.

use std::collections::BTreeMap;

use crate::error::{Result, StorageError};
use crate::limits::METADATA_BYTES_MAX;

/// What is kept beside the bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Metadata {
    /// Media type, as HTTP's `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_type: Option<String>,
    /// The caller's own names and values; names are ASCII, in lower case, and not empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub user: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content_type.is_none() && self.user.is_empty()
    }

    /// The stored form: nothing for nothing, else pairs of `u16 length, bytes` (little-endian) for
    /// name and value; the media type has the empty name and comes first.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] past [`METADATA_BYTES_MAX`], [`StorageError::InvalidInput`] for a
    /// name that is empty or not printable ASCII in lower case.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if let Some(content_type) = &self.content_type {
            push(&mut out, "")?;
            push(&mut out, content_type)?;
        }
        for (name, value) in &self.user {
            let valid = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
            if name.is_empty() || !name.bytes().all(valid) {
                return Err(StorageError::invalid_input(format!(
                    "metadata name {name:?} must be printable ASCII in lower case"
                )));
            }
            push(&mut out, name)?;
            push(&mut out, value)?;
        }
        Ok(out)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for bytes that [`Metadata::encode`] does not write.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut metadata = Self::default();
        while !bytes.is_empty() {
            let name = take(&mut bytes)?;
            let value = take(&mut bytes)?.to_owned();
            if name.is_empty() {
                metadata.content_type = Some(value);
            } else {
                metadata.user.insert(name.to_owned(), value);
            }
        }
        Ok(metadata)
    }
}

fn push(out: &mut Vec<u8>, text: &str) -> Result<()> {
    match u16::try_from(text.len()) {
        Ok(len) if out.len() + text.len() + 2 <= METADATA_BYTES_MAX => {
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(StorageError::too_large(format!(
            "metadata is larger than {METADATA_BYTES_MAX} bytes"
        ))),
    }
}

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a str> {
    bytes
        .split_first_chunk::<2>()
        .and_then(|(len, rest)| rest.split_at_checked(u16::from_le_bytes(*len).into()))
        .and_then(|(text, rest)| {
            *bytes = rest;
            std::str::from_utf8(text).ok()
        })
        .ok_or_else(|| StorageError::corrupt("stored metadata is malformed"))
}

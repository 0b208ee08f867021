//! What is kept beside the bytes of an object, and its encoding.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Result, StorageError};
use crate::limits::{METADATA_BYTES_MAX, SEAL_BYTES_MAX};

/// Name of the seal among the stored pairs. Callers' names have no upper case.
const SEAL: &str = "SEAL";

/// What is kept beside the bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Metadata {
    /// Media type, as HTTP's `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_type: Option<String>,
    /// The caller's own names and values; names are ASCII, in lower case, and not empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub user: BTreeMap<String, String>,
    /// What a compressed or encrypted value needs to be opened, see [`crate::seal`]. It belongs to
    /// the stored bytes and is written by whoever made them; callers leave it out.
    #[serde(skip)]
    pub seal: Option<Bytes>,
}

impl Metadata {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content_type.is_none() && self.user.is_empty() && self.seal.is_none()
    }

    /// The stored form: nothing for nothing, else pairs of `u16 length, bytes` (little-endian) for
    /// name and value; the media type has the empty name and comes first, the seal
    /// the name `SEAL` and comes last.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] past [`METADATA_BYTES_MAX`], which leaves the seal out, and for a
    /// seal past [`SEAL_BYTES_MAX`], [`StorageError::InvalidInput`] for a
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
        if let Some(seal) = &self.seal {
            let Some(len) = u16::try_from(seal.len()).ok().filter(|_| seal.len() <= SEAL_BYTES_MAX)
            else {
                return Err(StorageError::too_large(format!(
                    "the seal of a value is larger than {SEAL_BYTES_MAX} bytes"
                )));
            };
            out.extend_from_slice(&(SEAL.len() as u16).to_le_bytes());
            out.extend_from_slice(SEAL.as_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(seal);
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
            let name = text(take(&mut bytes)?)?;
            let value = take(&mut bytes)?;
            match name {
                "" => metadata.content_type = Some(text(value)?.to_owned()),
                SEAL => metadata.seal = Some(Bytes::copy_from_slice(value)),
                name => drop(metadata.user.insert(name.to_owned(), text(value)?.to_owned())),
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

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    bytes
        .split_first_chunk::<2>()
        .and_then(|(len, rest)| rest.split_at_checked(u16::from_le_bytes(*len).into()))
        .map(|(taken, rest)| {
            *bytes = rest;
            taken
        })
        .ok_or_else(malformed)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed())
}

fn malformed() -> StorageError {
    StorageError::corrupt("stored metadata is malformed")
}

#[cfg(test)]
mod tests;

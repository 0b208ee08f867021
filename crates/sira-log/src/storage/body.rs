//! What log storage keeps in a record: the writer's epoch, an idempotency key, and items.
//!
//! ```text
//! head of every record: | epoch 8 | key_len 2 | 0 2 | meta_len 4 | key | metadata |
//! item of a batch:      | kind 1 | 0 3 | meta_len 4 | data_len 4 | metadata | data | 0..3 |
//! ```

use bytes::Bytes;

use crate::error::{LogError, Result};
use crate::record::ContentKind;

/// Bit of a record whose data is a sequence of items.
pub(super) const FLAG_BATCH: u8 = 1;

const HEAD_BYTES: usize = 16;
const ITEM_BYTES: usize = 12;

/// Longest idempotency key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 256;

/// An item to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogItem<'a> {
    /// What the data is.
    pub kind: ContentKind,
    /// Metadata, for [`ContentKind::MetadataData`]; empty otherwise.
    pub metadata: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

impl<'a> LogItem<'a> {
    /// UTF-8 text.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self { kind: ContentKind::Text, metadata: &[], data: text.as_bytes() }
    }

    /// Binary data in a format that says itself what it is.
    #[must_use]
    pub fn binary(data: &'a [u8]) -> Self {
        Self { kind: ContentKind::Binary, metadata: &[], data }
    }

    /// Metadata and data, each of its own length.
    #[must_use]
    pub fn with_metadata(metadata: &'a [u8], data: &'a [u8]) -> Self {
        Self { kind: ContentKind::MetadataData, metadata, data }
    }

    /// Binary data that only its writer understands.
    #[must_use]
    pub fn custom(data: &'a [u8]) -> Self {
        Self { kind: ContentKind::Custom, metadata: &[], data }
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// [`LogError::InvalidInput`] for a value that JSON cannot say.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<JsonItem> {
        serde_json::to_vec(value)
            .map(JsonItem)
            .map_err(|error| LogError::InvalidInput(format!("not JSON: {error}")))
    }

    /// Refuses text that is not UTF-8, JSON that is not JSON, and metadata where none belongs.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(LogError::InvalidInput(what.to_owned()));
        match self.kind {
            ContentKind::Text if std::str::from_utf8(self.data).is_err() => {
                wrong("a text item is not UTF-8")
            }
            ContentKind::Json
                if serde_json::from_slice::<serde::de::IgnoredAny>(self.data).is_err() =>
            {
                wrong("a JSON item is not JSON")
            }
            ContentKind::MetadataData => Ok(()),
            _ if !self.metadata.is_empty() => wrong("only a metadata + data item has metadata"),
            _ => Ok(()),
        }
    }
}

/// A value that was turned into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonItem(Vec<u8>);

impl JsonItem {
    /// The item to append.
    #[must_use]
    pub fn as_item(&self) -> LogItem<'_> {
        LogItem { kind: ContentKind::Json, metadata: &[], data: &self.0 }
    }
}

/// The head of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub epoch: u64,
    pub key: Vec<u8>,
    pub metadata: Bytes,
}

pub(super) fn encode_head(epoch: u64, key: &[u8], metadata: &[u8]) -> Result<Vec<u8>> {
    let too_large = |bytes: usize, limit: usize| LogError::TooLarge {
        bytes: bytes as u64,
        limit: limit as u64,
    };
    let key_len = u16::try_from(key.len())
        .ok()
        .filter(|_| key.len() <= KEY_BYTES_MAX)
        .ok_or_else(|| too_large(key.len(), KEY_BYTES_MAX))?;
    let meta_len =
        u32::try_from(metadata.len()).map_err(|_| too_large(metadata.len(), u32::MAX as usize))?;
    let mut out = Vec::with_capacity(HEAD_BYTES + key.len() + metadata.len());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&meta_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(metadata);
    Ok(out)
}

/// Reads a head; `None` for bytes that are none.
pub(super) fn decode_head(bytes: &Bytes) -> Option<Head> {
    let fixed: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let epoch = u64::from_le_bytes(*fixed.first_chunk()?);
    let key_len = usize::from(u16::from_le_bytes([fixed[8], fixed[9]]));
    let meta_len = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
    let key_end = HEAD_BYTES + key_len;
    let key = bytes.get(HEAD_BYTES..key_end)?.to_vec();
    let end = key_end.checked_add(meta_len)?;
    (end == bytes.len()).then(|| Head { epoch, key, metadata: bytes.slice(key_end..end) })
}

pub(super) fn encode_batch(items: &[LogItem<'_>]) -> Result<Vec<u8>> {
    let len = |bytes: &[u8]| {
        u32::try_from(bytes.len()).map_err(|_| LogError::TooLarge {
            bytes: bytes.len() as u64,
            limit: u64::from(u32::MAX),
        })
    };
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(&[item.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&len(item.metadata)?.to_le_bytes());
        out.extend_from_slice(&len(item.data)?.to_le_bytes());
        out.extend_from_slice(item.metadata);
        out.extend_from_slice(item.data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    Ok(out)
}

/// Kind, metadata and data of one item.
pub(super) type DecodedItem = (ContentKind, Bytes, Bytes);

/// Reads the items of a batch; `None` for bytes that are none.
pub(super) fn decode_batch(bytes: &Bytes, count: u32) -> Option<Vec<DecodedItem>> {
    // The count comes from a verified record, but allocates only as the bytes bear it out.
    let mut items = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let fixed: &[u8; ITEM_BYTES] = bytes.get(at..)?.first_chunk()?;
        let kind = ContentKind::from_u8(fixed[0])?;
        let word = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let meta_end = at + ITEM_BYTES + word(4) as usize;
        let end = meta_end + word(8) as usize;
        if end > bytes.len() {
            return None;
        }
        items.push((kind, bytes.slice(at + ITEM_BYTES..meta_end), bytes.slice(meta_end..end)));
        at = end.next_multiple_of(4);
    }
    (at == bytes.len()).then_some(items)
}

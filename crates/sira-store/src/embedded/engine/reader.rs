//! Reading a large object piece by piece.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sira_log::log::Segment;

use super::super::item::{Item, ItemHeader};
use super::super::{NamespaceId, StoredObject};
use super::{Engine, lookup};
use crate::error::Result;
use crate::limits::BLOCK_BYTES;
use crate::version::Version;

/// One version of an object, whose bytes are read and verified as they are asked for. It stays
/// readable when the object is overwritten, removed or moved meanwhile.
#[derive(Debug)]
pub struct ObjectReader {
    segment: Arc<Segment>,
    header: ItemHeader,
    version: Version,
    lead: Bytes,
    value_offset: u64,
    /// All but the bytes.
    object: StoredObject,
}

impl Engine {
    /// Opens the object under a key for reading by pieces.
    ///
    /// # Errors
    /// As [`Engine::read`]. Of a large value no block is verified yet.
    pub fn open_object(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<ObjectReader>> {
        lookup::with_item(self, namespace, key, |segment, found| {
            lookup::check(segment, &found)?;
            let item = &found.item;
            Ok(self.log.segment(segment.id).map(|held| ObjectReader {
                segment: held,
                header: item.header,
                version: item.version,
                lead: Bytes::copy_from_slice(&item.lead),
                value_offset: found.value_offset,
                object: lookup::stored(item, Bytes::new()),
            }))
        })
        .map(Option::flatten)
    }
}

impl ObjectReader {
    /// All but the bytes: `value` is empty, `size` is the whole size.
    pub fn head(&self) -> &StoredObject {
        &self.object
    }

    /// A range of the bytes (the end is cut to the size), without a copy. Of a large value only the
    /// blocks that the range touches are read and verified.
    ///
    /// # Errors
    /// [`crate::StorageError::Corrupt`] when stored bytes fail their checksum.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let item = Item {
            header: self.header,
            version: self.version,
            lead: std::borrow::Cow::Borrowed(&self.lead),
        };
        lookup::value_range(&self.segment, &item, self.value_offset, range)
    }

    /// Bytes that are read and verified together: ranges that start and end at multiples of it cost
    /// least.
    pub fn block_bytes(&self) -> u64 {
        if self.header.blocks { BLOCK_BYTES as u64 } else { self.object.size }
    }
}

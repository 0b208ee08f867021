//! Records as documents.
//!
//! Fields: `_id` place and key, `v` version, `x` expiry (absent where there is none), `s` size of
//! the value, `e` envelope, `b` body.

use std::fmt::Display;

use ::mongodb::bson::raw::RawDocument;
use ::mongodb::bson::spec::BinarySubtype;
use ::mongodb::bson::{
    Bson, DateTime, Document, RawBinaryRef, RawBsonRef, RawDocumentBuf, cstr, doc,
};
use bytes::Bytes;
use sira_store::driver::{Held, Part, Place, Record, Scan};
use sira_store::{Result, StorageError, StorageStats};

use crate::signed;

/// The keys of one place, as the engine names them.
///
/// Each byte is the character of that number. The order of such text is that of the bytes, whether
/// an engine compares text by UTF-8, by UTF-16 or by code points, which MongoDB and its relatives do
/// not agree on; and keys of ASCII stay as they are.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn of(place: &Place) -> Self {
        let mut prefix = place.area.code().to_owned();
        push(&mut prefix, place.namespace.as_bytes());
        prefix.push('/');
        Self { prefix }
    }

    /// The `_id` of a key.
    pub(super) fn id(&self, key: &str) -> String {
        self.id_of_bytes(key.as_bytes())
    }

    fn id_of_bytes(&self, key: &[u8]) -> String {
        let mut id = String::with_capacity(self.prefix.len() + key.len());
        id.push_str(&self.prefix);
        push(&mut id, key);
        id
    }

    /// The key of an `_id`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when this module did not make it.
    pub(super) fn key(&self, id: &str) -> Result<String> {
        let bytes = id.strip_prefix(&self.prefix).and_then(|key| {
            key.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>()
        });
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| malformed("its _id is no key"))
    }

    /// The `_id`s that a scan is about.
    pub(super) fn range(&self, scan: &Scan) -> Document {
        let first = self.id(&scan.prefix);
        let mut end = first.clone();
        // The prefix ends in a character of at most U+00FF, so there is a next one.
        let last = end.pop().map_or(0, u32::from);
        end.extend(char::from_u32(last + 1));
        match scan.after.as_ref().map(|after| self.id_of_bytes(&after.to_bytes())) {
            Some(after) if after >= first => doc! { "$gt": after, "$lt": end },
            _ => doc! { "$gte": first, "$lt": end },
        }
    }
}

fn push(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().map(|byte| char::from(*byte)));
}

/// The document of a record.
///
/// # Errors
/// [`StorageError::TooLarge`] for more than a document may hold.
pub(super) fn of_record(id: &str, record: &Record) -> Result<RawDocumentBuf> {
    let binary = |bytes| RawBinaryRef { subtype: BinarySubtype::Generic, bytes };
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), id);
    document.append(cstr!("v"), signed::from_version(record.version));
    if let Some(at) = record.expires_at_ms {
        document.append(cstr!("x"), DateTime::from_millis(signed::clamp(at)));
    }
    document.append(cstr!("s"), signed::clamp(record.size));
    document.append(cstr!("e"), binary(&record.envelope));
    document.append(cstr!("b"), binary(&record.body));
    Ok(document)
}

/// What a guard looks at, of a document that has at least `v` and `x`.
pub(super) fn held(document: &RawDocument) -> Result<Held> {
    let expires_at_ms = match document.get("x").map_err(malformed)? {
        None | Some(RawBsonRef::Null) => None,
        Some(RawBsonRef::DateTime(at)) => {
            Some(u64::try_from(at.timestamp_millis()).map_err(malformed)?)
        }
        Some(_) => return Err(malformed("x is no date")),
    };
    let version = signed::to_version(document.get_i64("v").map_err(malformed)?);
    Ok(Held { version, expires_at_ms })
}

pub(super) fn id(document: &RawDocument) -> Result<&str> {
    document.get_str("_id").map_err(malformed)
}

pub(super) fn size(document: &RawDocument) -> Result<u64> {
    u64::try_from(document.get_i64("s").map_err(malformed)?).map_err(malformed)
}

/// The record of a document, or the part of it that was asked for. Envelope and body share the
/// document's memory.
pub(super) fn record(document: RawDocumentBuf, part: &Part) -> Result<Record> {
    let bytes = Bytes::from(document.into_bytes());
    let document = RawDocument::from_bytes(&bytes).map_err(malformed)?;
    let binary = |field| match document.get_binary(field) {
        Ok(binary) => Ok(bytes.slice_ref(binary.bytes)),
        Err(error) => Err(malformed(error)),
    };
    let body = match part {
        Part::Head => Bytes::new(),
        Part::Whole => binary("b")?,
        Part::Range(range) => {
            let body = binary("b")?;
            let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
            body.slice(at(range.start)..at(range.end).max(at(range.start)))
        }
    };
    let Held { version, expires_at_ms } = held(document)?;
    Ok(Record { version, expires_at_ms, size: size(document)?, envelope: binary("e")?, body })
}

/// Figures of the answers to `collStats` and `dbStats`; what an engine leaves out is 0.
pub(super) fn stats(of_records: &Document, of_disk: &Document) -> StorageStats {
    let number = |document: &Document, field| match document.get(field) {
        Some(Bson::Int32(number)) => u64::try_from(*number).ok(),
        Some(Bson::Int64(number)) => u64::try_from(*number).ok(),
        Some(Bson::Double(number)) => Some(*number as u64),
        _ => None,
    };
    let of = |field| number(of_records, field).unwrap_or(0);
    let disk = number(of_disk, "fsTotalSize").zip(number(of_disk, "fsUsedSize"));
    StorageStats {
        keys: of("count"),
        live_bytes: of("size"),
        dead_bytes: of("freeStorageSize"),
        used_bytes: of("storageSize").saturating_add(of("totalIndexSize")),
        available_bytes: disk.map(|(total, used)| total.saturating_sub(used)),
        segments: 0,
        index_bytes: 0,
    }
}

fn malformed(why: impl Display) -> StorageError {
    StorageError::corrupt(format!("the document is no record of this store: {why}"))
}

#[cfg(test)]
mod tests;

//! Where records lie in a bucket, and what an object is.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sira_store::driver::{HEAD_BYTES, Place, Record, RecordHead, names};
use sira_store::{Result, StorageError, limits};

/// Longest escaped key that is a name by itself. With prefix, namespace and cuts it stays below the
/// 1,024 bytes that stores allow.
const WHOLE_BYTES_MAX: usize = 500;

/// Characters of a longer escaped key that its name begins with: two folders.
pub(super) const PART_BYTES: usize = 400;

/// What follows them, before the hash; sorts before every other name.
pub(super) const HASHED: &str = "!!";

/// Bytes before the record in an object that carries its key: its length, and the key, padded to an
/// even number of bytes so that the parity of the object's size remains the record's.
const KEY_LENGTH_BYTES: usize = 2;

/// Bytes of a tombstone; records have an envelope and are longer.
pub(super) const TOMBSTONE_BYTES: u64 = HEAD_BYTES as u64 + 1;

/// Most bytes of an object before its envelope.
pub(super) const HEAD_BYTES_MAX: usize = KEY_LENGTH_BYTES + limits::KEY_BYTES_MAX + HEAD_BYTES;

/// Names of objects under one prefix of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Empty or ends with a `/`.
    root: String,
}

/// Where the record of a key lies.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) path: String,
    /// The key, if the object carries it.
    carried: Option<String>,
}

/// What a path of a listing names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Key(String),
    /// The key is in the object.
    Hashed,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    /// What all paths begin with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// A path for trying things out, which is no record's.
    pub(super) fn probe(&self, random: u64) -> String {
        // A namespace's folder never begins with "_p".
        format!("{}_probe/{random:016x}", self.root)
    }

    /// What the paths of a place begin with.
    pub(super) fn space(&self, place: &Place) -> String {
        let namespace = names::encode(place.namespace.as_ref());
        format!("{}{namespace}/{}/", self.root, place.area.code())
    }

    pub(super) fn locate(&self, place: &Place, key: &str) -> Location {
        let mut path = self.space(place);
        let escaped = names::escape(key.as_bytes());
        if escaped.len() <= WHOLE_BYTES_MAX {
            path.push_str(&names::fold(&escaped));
            return Location { path, carried: None };
        }
        path.push_str(&part_folder(&escaped).unwrap_or_default());
        path.push_str(HASHED);
        path.push_str(&hash(key));
        Location { path, carried: Some(key.to_owned()) }
    }

    /// What a path below [`Layout::space`] names, without it; `None` for what is no record's.
    pub(super) fn name(path: &str) -> Option<Name> {
        let file = path.rsplit('/').next().unwrap_or_default();
        if file.starts_with(HASHED) {
            return Some(Name::Hashed);
        }
        names::decode(path).map(Name::Key)
    }

    /// The part below the space of the path of any record; `None` for what is no record's.
    pub(super) fn below_space<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut rest = path.strip_prefix(&self.root)?;
        // The namespace's name, which may be cut into folders like a key's.
        loop {
            let (segment, more) = rest.split_once('/')?;
            rest = more;
            if !names::is_folder(segment) {
                break;
            }
        }
        let (area, below) = rest.split_once('/')?;
        matches!(area, "o" | "c").then_some(below)
    }
}

/// The folder of the hashed names of keys whose escaped text begins as `escaped` does; `None` for
/// text that is too short to tell.
pub(super) fn part_folder(escaped: &str) -> Option<String> {
    let part = escaped.get(..PART_BYTES).filter(|_| escaped.len() > PART_BYTES)?;
    // One character more makes the last segment a folder too.
    let mut folder = names::fold(&format!("{part}-"));
    folder.pop();
    Some(folder)
}

fn hash(key: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Location {
    /// The location with this path, of a key that the object carries or not.
    pub(super) fn at(path: String, carried: Option<String>) -> Self {
        Self { path, carried }
    }

    /// Bytes of the object before its record.
    pub(super) fn offset(&self) -> usize {
        self.carried.as_ref().map_or(0, |key| carried_bytes(key.len()))
    }

    /// The object of a record, in pieces.
    pub(super) fn encode(&self, record: &Record) -> Vec<Bytes> {
        let mut head =
            BytesMut::with_capacity(self.offset() + HEAD_BYTES + record.envelope.len() + 1);
        if let Some(key) = &self.carried {
            head.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
            head.put_slice(key.as_bytes());
            head.put_bytes(0, self.offset() - KEY_LENGTH_BYTES - key.len());
        }
        let before = head.len();
        record.encode_head(&mut head);
        let padding = record.encoded_bytes() - (head.len() - before) - record.body.len();
        let mut pieces = vec![head.freeze()];
        if !record.body.is_empty() {
            pieces.push(record.body.clone());
        }
        if padding > 0 {
            pieces.push(Bytes::from_static(&[0]));
        }
        pieces
    }

    /// The bytes of the record, of an object or its beginning.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when the object carries another key.
    pub(super) fn record(&self, mut object: Bytes) -> Result<Bytes> {
        if let Some(expected) = &self.carried {
            let carried = carried_key(&object)?;
            if carried != *expected {
                return Err(StorageError::corrupt(
                    "the object of the key's hashed name carries another key",
                ));
            }
            object.advance(self.offset().min(object.len()));
        }
        Ok(object)
    }
}

fn carried_bytes(key_bytes: usize) -> usize {
    (KEY_LENGTH_BYTES + key_bytes).next_multiple_of(2)
}

/// The key that the beginning of an object carries.
///
/// # Errors
/// [`StorageError::Corrupt`] when there is none.
pub(super) fn carried_key(object: &Bytes) -> Result<String> {
    let malformed = || StorageError::corrupt("an object with a hashed name carries no key");
    let (length, rest) = object.split_first_chunk::<KEY_LENGTH_BYTES>().ok_or_else(malformed)?;
    let key = rest.get(..usize::from(u16::from_le_bytes(*length))).ok_or_else(malformed)?;
    String::from_utf8(key.to_vec()).map_err(|_| malformed())
}

/// The key and the head of the beginning of an object that carries its key.
///
/// # Errors
/// [`StorageError::Corrupt`] when it does not, or when no record follows.
pub(super) fn carried_head(object: &Bytes) -> Result<(String, RecordHead)> {
    let key = carried_key(object)?;
    let record = object.get(carried_bytes(key.len())..).unwrap_or_default();
    let head = RecordHead::decode(record)?;
    Ok((key, head))
}

#[cfg(test)]
mod tests;

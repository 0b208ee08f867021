//! What the catalog says of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::version::Version;

/// Format of entries with copies. Those without are as they were before there were any.
const FORMAT_COPIES: u32 = 2;

/// Where an object lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Entry {
    /// Name of the backend.
    pub at: String,
    /// The move that goes on, if one does.
    pub moving: Option<Moving>,
    /// Where copies of the object lie.
    pub copies: Copies,
}

/// A move that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Name of the backend that the object moves to.
    pub to: String,
    /// Number of the process that moves it.
    pub mover: u64,
    /// When it began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Version of the copy at the new place; before there is one, what lies there is no object.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copied: Option<u64>,
}

/// Copies of an object on other backends than its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Backends that are to hold a copy, each with its version where that is the object's newest,
    /// and without while the copy is behind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub on: BTreeMap<String, Option<u64>>,
    /// Backends on which a copy may be left that is wanted no more.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub left: BTreeSet<String>,
    /// The write that goes on, if one does; no copy counts meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub writing: Option<Writing>,
    /// The object was removed, and is on no backend that counts.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub absent: bool,
    /// When a replicated object expires, in milliseconds since the Unix epoch. One that is missing
    /// before was lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at_ms: Option<u64>,
}

/// A write to an object with copies that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writing {
    /// Number of the process that writes.
    pub writer: u64,
    /// When it began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Entry {
    /// An object that lies on a backend and nowhere else.
    #[must_use]
    pub fn at(backend: impl Into<String>) -> Self {
        Self { at: backend.into(), moving: None, copies: Copies::default() }
    }
}

impl Copies {
    /// Whether there are none, and no write has begun to make some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.on.is_empty() && self.left.is_empty() && self.writing.is_none() && !self.absent
    }

    /// The version that copies are known to have.
    pub(super) fn version(&self) -> Option<Version> {
        self.on.values().flatten().copied().max().map(Version::from_u64)
    }

    /// Whether the object is known to be gone: removed, or expired by now.
    pub(super) fn is_gone(&self, now_ms: u64) -> bool {
        self.absent || self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Whether every copy is as it is to be.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.writing.is_none() && self.left.is_empty() && self.on.values().all(Option::is_some)
    }

    /// No copy counts any more, until each is looked at.
    pub(super) fn distrust(&mut self) {
        self.on.values_mut().for_each(|version| *version = None);
    }

    /// Forgets a backend on which there is none.
    pub(super) fn forget(&mut self, backend: &str) {
        self.on.remove(backend);
        self.left.remove(backend);
    }
}

/// An entry as it is kept. A reader that knows no copies would write past them, so what has some is
/// no entry to it: its parts lie deeper.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    moving: Option<Moving>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    format: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    object: Option<WithCopies>,
}

#[derive(Serialize, Deserialize)]
struct WithCopies {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    moving: Option<Moving>,
    copies: Copies,
}

impl From<Entry> for Stored {
    fn from(entry: Entry) -> Self {
        let Entry { at, moving, copies } = entry;
        if copies.is_empty() {
            return Self { at: Some(at), moving, format: None, object: None };
        }
        let object = Some(WithCopies { at, moving, copies });
        Self { at: None, moving: None, format: Some(FORMAT_COPIES), object }
    }
}

impl TryFrom<Stored> for Entry {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        match stored {
            Stored { format: None, at: Some(at), moving, .. } => {
                Ok(Self { at, moving, copies: Copies::default() })
            }
            Stored { format: Some(FORMAT_COPIES), object: Some(object), .. } => {
                let WithCopies { at, moving, copies } = object;
                Ok(Self { at, moving, copies })
            }
            Stored { format: Some(format), .. } if format > FORMAT_COPIES => Err(format!(
                "a newer version of Sira wrote it, in format {format}; this one reads up to \
                 {FORMAT_COPIES}"
            )),
            _ => Err("it names no backend".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;

//! The document of a snapshot: what was saved, when, and where its pages are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;
use crate::embedded::LogPlace;
use crate::error::StorageError;

/// Name of a snapshot: when it was begun, in milliseconds since the Unix epoch, and a random number.
/// Written as 12 and 8 hexadecimal digits, names are in the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
    /// Tells apart those of one millisecond.
    pub random: u32,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:08x}", self.begun_ms, self.random)
    }
}

impl FromStr for SnapshotId {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed =
            text.split_once('-').filter(|(ms, random)| ms.len() == 12 && random.len() == 8);
        let parsed = parsed.and_then(|(ms, random)| {
            Some(Self {
                begun_ms: u64::from_str_radix(ms, 16).ok()?,
                random: u32::from_str_radix(random, 16).ok()?,
            })
        });
        parsed.filter(|id| id.to_string() == text).ok_or_else(|| {
            StorageError::invalid_input(format!(
                "{text:?} is no name of a snapshot; `sira backup ls` shows them"
            ))
        })
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What was saved of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNamespace {
    /// Digests of its pages, in order.
    pub pages: Vec<Digest>,
    /// Objects.
    pub objects: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// It is as the namespace was at one moment, [`Snapshot::as_of_ms`]. Else every object is as it
    /// was at some moment between begin and end.
    pub exact: bool,
    /// Number of the namespace in the embedded engine, where it lies there alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// A place in the log of an embedded engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    /// Names the data folder.
    pub stream: String,
    /// The place.
    pub place: LogPlace,
}

/// An object that could not be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedObject {
    /// Name of its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Why.
    pub error: String,
}

/// A snapshot of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the format.
    pub format: u32,
    /// Its name.
    pub id: SnapshotId,
    /// When it was complete, in milliseconds since the Unix epoch.
    pub ended_ms: u64,
    /// The moment that exact namespaces are of, in milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// The one whose objects were taken over where their versions were the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// The namespaces by name.
    pub namespaces: BTreeMap<String, SnapshotNamespace>,
    /// Up to where the log of the embedded engine is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<LogMark>,
    /// Objects that are missing, or older than they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedObject>,
}

impl Snapshot {
    /// The format that this program writes.
    pub const FORMAT: u32 = 1;

    /// Objects of all namespaces.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.namespaces.values().map(|namespace| namespace.objects).sum()
    }

    /// Bytes of the values of all namespaces.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.namespaces.values().map(|namespace| namespace.bytes).sum()
    }
}

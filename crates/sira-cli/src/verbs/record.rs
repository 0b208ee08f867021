//! The JSON that the verbs print about objects.

use std::collections::BTreeMap;

use serde::Serialize;
use sira_store::{ListEntry, ObjectHead, Version};

use crate::path::Location;
use crate::units::timestamp;

/// What is known about an object.
#[derive(Debug, Serialize)]
pub struct ObjectRecord<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Key.
    pub key: &'a str,
    /// Size of the value in bytes.
    pub size: u64,
    /// Version, the ETag of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<&'a str>,
    /// The caller's own names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a BTreeMap<String, String>>,
}

impl<'a> ObjectRecord<'a> {
    /// From the head of an object.
    pub fn of_head(at: &'a Location, head: &'a ObjectHead) -> Self {
        Self {
            namespace: &at.namespace,
            key: &at.key,
            size: head.size,
            version: Some(head.version.to_string()),
            modified: Some(modified(head.version)),
            expires: head.expires_at_ms.map(timestamp),
            content_type: head.metadata.content_type.as_deref(),
            metadata: Some(&head.metadata.user).filter(|user| !user.is_empty()),
        }
    }

    /// From a line of a listing.
    pub fn of_entry(namespace: &'a str, entry: &'a ListEntry) -> Self {
        Self {
            namespace,
            key: &entry.key,
            size: entry.size,
            version: entry.version.map(|version| version.to_string()),
            modified: entry.version.map(modified),
            expires: entry.expires_at_ms.map(timestamp),
            content_type: None,
            metadata: None,
        }
    }
}

/// When an object of this version was written, by the clock of the store.
pub fn modified(version: Version) -> String {
    timestamp(version.time_ms())
}

//! What all object stores have in common.

use std::path::PathBuf;
use std::time::Duration;

use sira_store::{Result, StorageError};

/// Longest prefix, in bytes: names of objects are bounded by 1,024.
const PREFIX_BYTES_MAX: usize = 100;

/// Which conditions a store checks as one step with the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// Of writes and of deletes.
    All,
    /// Of writes and of deletes, but a delete says of an object that is gone that it deleted it.
    /// Removals take one request more.
    AllButAbsence,
    /// Of writes. Removals leave tombstones.
    Writes,
    /// None: conditional writes are refused.
    None,
}

/// Settings of any object store.
#[derive(Debug, Clone)]
pub struct ObjectStoreOptions {
    /// Folder in the bucket under which everything lies; empty for the bucket's root. Up to 100
    /// bytes of letters, digits, `-`, `_`, `.` and `/`.
    pub prefix: String,
    /// Longest time to open a connection. 5 seconds.
    pub connect_timeout: Duration,
    /// Longest time of one request, to which a second for each MiB it carries is added. 30 seconds.
    pub operation_timeout: Duration,
    /// Largest body of one object, in bytes; larger values are cut. 64 MiB.
    pub body_bytes_max: u64,
    /// Unconditional writes above this many bytes go in parts of this size. 16 MiB, at least 5 MiB.
    pub part_bytes: usize,
    /// Parts of one object under way at once. 4.
    pub parts_concurrent: usize,
    /// Requests of one batch under way at once. 16.
    pub requests_concurrent: usize,
    /// Which conditions the store checks; `None` finds out with ten small requests when the store
    /// is opened, for which it must take writes under the prefix.
    pub conditions: Option<Conditions>,
    /// Age after which tombstones are deleted, where the store checks no conditions of deletes. A
    /// write to the same key in the moment of the deletion is lost. `None` keeps them.
    pub tombstone_age: Option<Duration>,
    /// PEM file of certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for ObjectStoreOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            body_bytes_max: 64 << 20,
            part_bytes: 16 << 20,
            parts_concurrent: 4,
            requests_concurrent: 16,
            conditions: None,
            tombstone_age: None,
            ca_file: None,
        }
    }
}

impl ObjectStoreOptions {
    /// Settings with this prefix, the rest as by default.
    #[must_use]
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a prefix that is too long or has characters that not every
    /// store takes, for sizes and numbers out of their bounds, and for authorities that are trusted
    /// at an `endpoint` without TLS.
    pub(super) fn check(&self, endpoint: Option<&str>) -> Result<()> {
        let refuse = |why: String| Err(StorageError::invalid_input(why));
        let safe = |segment: &str| {
            !segment.is_empty()
                && !segment.ends_with('.')
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let prefix = &self.prefix;
        if prefix.len() > PREFIX_BYTES_MAX {
            return refuse(format!(
                "the prefix may have up to {PREFIX_BYTES_MAX} bytes, this one has {}",
                prefix.len()
            ));
        }
        if !prefix.is_empty() && !prefix.split('/').all(safe) {
            return refuse(format!(
                "the prefix {prefix:?} must be folders of letters, digits, '-', '_' and '.', \
                 with one '/' between them and none at the ends"
            ));
        }
        if self.ca_file.is_some() && endpoint.is_some_and(|url| !url.starts_with("https://")) {
            return refuse("a ca_file goes with TLS: write https:// in the endpoint".to_owned());
        }
        if self.part_bytes < 5 << 20 {
            return refuse("part_bytes must be at least 5 MiB".to_owned());
        }
        if self.body_bytes_max < 1024 || self.body_bytes_max > 5 << 30 {
            return refuse("body_bytes_max must be between 1 KiB and 5 GiB".to_owned());
        }
        if self.parts_concurrent == 0 || self.requests_concurrent == 0 {
            return refuse(
                "parts_concurrent and requests_concurrent must be at least 1".to_owned(),
            );
        }
        Ok(())
    }
}

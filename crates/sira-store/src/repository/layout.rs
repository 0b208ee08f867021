//! Names under which objects and their secondary keys are stored, see docs/repository.md.

use bytes::Bytes;

use super::entity::SecondaryKey;
use crate::error::{Result, StorageError};
use crate::key::check_key;

/// Where a collection keeps what.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// `users/`.
    objects: String,
    /// `users~`.
    secondary: String,
}

/// A secondary key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name of the secondary key.
    pub(super) name: &'static str,
    /// The key that it is stored under.
    pub(super) key: String,
    /// Whether it names one object.
    pub(super) unique: bool,
}

impl Entry {
    /// What is stored under it: a unique one names its object; a shared one has the object's key in
    /// its own.
    pub(super) fn value(&self, owner: &str) -> Bytes {
        match self.unique {
            true => Bytes::copy_from_slice(owner.as_bytes()),
            false => Bytes::new(),
        }
    }
}

impl Layout {
    pub(super) fn new(collection: &str) -> Result<Self> {
        check_name(collection)?;
        Ok(Self { objects: format!("{collection}/"), secondary: format!("{collection}~") })
    }

    /// What the keys of all objects begin with.
    pub(super) fn objects(&self) -> &str {
        &self.objects
    }

    /// What the keys of all secondary keys begin with.
    pub(super) fn secondary(&self) -> &str {
        &self.secondary
    }

    /// Where an object lies.
    pub(super) fn object(&self, key: &str) -> String {
        format!("{}{key}", self.objects)
    }

    /// The key of an object that lies here.
    pub(super) fn key_of(&self, stored: &str) -> Option<String> {
        stored.strip_prefix(&self.objects).map(str::to_owned)
    }

    /// Where a unique secondary key lies.
    pub(super) fn unique(&self, name: &str, value: &str) -> String {
        format!("{}{name}/{}", self.secondary, escape(value))
    }

    /// Where a shared secondary key of an object lies.
    pub(super) fn shared(&self, name: &str, value: &str, key: &str) -> String {
        format!("{}{name}/{}/{key}", self.secondary, escape(value))
    }

    /// The secondary key of an object as it is stored.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a name that can be none, [`StorageError::TooLarge`] where it
    /// and the object's key together are too long for a key.
    pub(super) fn entry(&self, secondary: &SecondaryKey, key: &str) -> Result<Entry> {
        let SecondaryKey { name, value, unique } = secondary;
        check_name(name)?;
        let stored = match unique {
            true => self.unique(name, value),
            false => self.shared(name, value, key),
        };
        check_key(&stored).map_err(|error| {
            error
                .same_kind(format!(
                    "the secondary key {name:?} and the object's own make too long a key; shorten \
                     either, or use a digest"
                ))
                .with_key(key)
        })?;
        Ok(Entry { name, key: stored, unique: *unique })
    }

    /// The object that a stored secondary key is about.
    pub(super) fn owner_of(&self, stored: &str, value: &[u8]) -> Result<String> {
        let parts = stored.strip_prefix(&self.secondary).and_then(|rest| {
            let (_, rest) = rest.split_once('/')?;
            Some(rest.split_once('/').map(|(_, key)| key.to_owned()))
        });
        match parts {
            Some(Some(key)) => Ok(key),
            _ => owner(value),
        }
    }
}

/// The object that a unique secondary key names.
pub(super) fn owner(value: &[u8]) -> Result<String> {
    String::from_utf8(value.to_vec()).map_err(|error| {
        StorageError::invalid_input(
            "what lies here is no secondary key; another program writes into the collection",
        )
        .with_source(error)
    })
}

/// Checks that a name can be that of a collection or of a secondary key.
pub(super) fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(StorageError::invalid_input(format!(
        "{name:?} cannot name a collection or a secondary key; use lower-case letters, digits, \"-\", \
         \"_\" and \".\""
    )))
}

/// A value without `/`, so that the object's key can stand behind it.
fn escape(value: &str) -> String {
    value.replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests;

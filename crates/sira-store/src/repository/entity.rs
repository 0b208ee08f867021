//! What a type says of itself to be kept in a repository.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An object of a collection.
pub trait Entity: Serialize + DeserializeOwned + Send + Sync {
    /// Name of the collection: what the keys of its objects begin with. Lower-case letters, digits,
    /// `-`, `_` and `.`.
    const COLLECTION: &'static str;

    /// Key of the object in its collection. It stays the same while the object is there.
    fn key(&self) -> String;

    /// What else the object is found by, none by default. The same object always says the same; when
    /// the rule changes, [`Repository::rebuild`](super::Repository::rebuild) writes the keys anew.
    fn secondary_keys(&self) -> Vec<SecondaryKey> {
        Vec::new()
    }
}

/// Something that an object is found by besides its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondaryKey {
    /// Name of the secondary key, of the same letters as that of a collection.
    pub name: &'static str,
    /// What this object has under it.
    pub value: String,
    /// Whether no two objects may have the same.
    pub unique: bool,
}

impl SecondaryKey {
    /// One that no two objects of the collection share, such as a mail address.
    #[must_use]
    pub fn unique(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), unique: true }
    }

    /// One that any number of objects share, such as a town.
    #[must_use]
    pub fn shared(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), unique: false }
    }
}

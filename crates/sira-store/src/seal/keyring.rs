//! Keys by their ids.

mod source;

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::cipher::{KEY_BYTES, random};
use crate::error::{Result, StorageError};

/// Longest id of a key, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 64;

/// Word that a key file and the environment use themselves.
const CURRENT: &str = "current";

/// Keys of 256 bits by their ids, one of which is the current: what new values are encrypted with
/// unless they name another. Ids are up to [`KEY_ID_BYTES_MAX`] ASCII letters, digits, `.`, `_` and
/// `-`. Key material is wiped from memory when the keyring is dropped and is never printed.
///
/// ```
/// use sira_store::seal::Keyring;
///
/// # fn main() -> sira_store::Result<()> {
/// let keyring = Keyring::new("2026-11", Keyring::generate_key()?)?
///     .with_key("2026-05", Keyring::generate_key()?)?;
/// assert_eq!(keyring.current(), Some("2026-11"));
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<String, Box<Zeroizing<[u8; KEY_BYTES]>>>,
    current: Option<String>,
}

impl Keyring {
    /// A keyring of one key, which is the current.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for an id that can name none.
    pub fn new(id: &str, key: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self> {
        Self::default().with_key(id, key)
    }

    /// The same keyring with one more key. The first one is the current, until another is chosen.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for an id that can name none, or that is taken.
    pub fn with_key(mut self, id: &str, key: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self> {
        check_key_id(id)?;
        if self.keys.contains_key(id) {
            return Err(StorageError::invalid_input(format!(
                "the keyring has two keys of the id {id:?}; a key never changes, so give the new \
                 one an id of its own"
            )));
        }
        self.keys.insert(id.to_owned(), Box::new(key));
        self.current.get_or_insert_with(|| id.to_owned());
        Ok(self)
    }

    /// The same keyring with another current key.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when it has no key of this id.
    pub fn with_current(mut self, id: &str) -> Result<Self> {
        if !self.keys.contains_key(id) {
            return Err(self.unknown(id));
        }
        self.current = Some(id.to_owned());
        Ok(self)
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the system has no randomness.
    pub fn generate_key() -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        random()
    }

    /// Id of the current key; `None` for a keyring without keys.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Ids of the keys, in byte order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The key to encrypt with and its id; an empty id is the current key's.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when the keyring has no key of this id.
    pub(crate) fn to_encrypt(&self, id: &str) -> Result<(&str, &[u8; KEY_BYTES])> {
        let id = if id.is_empty() { self.current.as_deref() } else { Some(id) };
        let Some(id) = id else {
            return Err(StorageError::invalid_input(
                "there is no key to encrypt with: the keyring is empty",
            ));
        };
        let found = self.keys.get_key_value(id);
        found.map(|(id, key)| (id.as_str(), &***key)).ok_or_else(|| self.unknown(id))
    }

    /// The key of a stored value.
    ///
    /// # Errors
    /// [`StorageError::PermissionDenied`] when the keyring has no key of this id.
    pub(super) fn to_decrypt(&self, id: &str) -> Result<&[u8; KEY_BYTES]> {
        self.keys.get(id).map(|key| &***key).ok_or_else(|| {
            StorageError::permission_denied(format!(
                "the value is encrypted with the key {id:?}, which is not in the keyring: add the \
                 key to read it"
            ))
        })
    }

    fn unknown(&self, id: &str) -> StorageError {
        let known: Vec<_> = self.ids().collect();
        StorageError::invalid_input(format!(
            "the keyring has no key {id:?}; it has [{}]",
            known.join(", ")
        ))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("ids", &self.ids().collect::<Vec<_>>())
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

fn check_key_id(id: &str) -> Result<()> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let refused = if id.is_empty() || id.len() > KEY_ID_BYTES_MAX {
        format!("the id of a key has 1 to {KEY_ID_BYTES_MAX} bytes, this one has {}", id.len())
    } else if id.eq_ignore_ascii_case(CURRENT) {
        format!("a key cannot have the id {id:?}, which says in key files which key is current")
    } else if !id.bytes().all(valid) {
        // A key in the place of its id must not end up in a log.
        "the id of a key is made of ASCII letters, digits, \".\", \"_\" and \"-\"".to_owned()
    } else {
        return Ok(());
    };
    Err(StorageError::invalid_input(refused))
}

#[cfg(test)]
mod tests;

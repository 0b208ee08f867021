//! Where keyrings come from: files and the environment.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::{CURRENT, KEY_BYTES, Keyring};
use crate::error::{Result, StorageError};

/// Largest key file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Variables of the environment that hold keys begin with this.
const VARIABLE_PREFIX: &str = "SIRA_KEY_";

impl Keyring {
    /// Reads a key file: lines of `id = key`, with the 32 bytes of each key in base64. `current =
    /// id` names the current key; without it that is the last one. Empty lines and lines that begin
    /// with `#` mean nothing.
    ///
    /// ```text
    /// # openssl rand -base64 32
    /// 2026-05 = 1CcBcs/F7p6W46ZPPUL0pnuPIOUjGHuEbjEHHKFBRS8=
    /// 2026-11 = IpSBqaFBK0mfTl2QlLVsrs9GGOoYyYvnFDZJSovFSZI=
    /// ```
    ///
    /// # Errors
    /// [`StorageError::PermissionDenied`] when others than the owner may read or write the file,
    /// [`StorageError::InvalidInput`] with the number of a line that is malformed, and the system's.
    pub fn from_file(path: &Path) -> Result<Self> {
        let about = |error: StorageError| {
            let message = format!("key file {}: {error}", path.display());
            error.same_kind(message)
        };
        let read = || {
            let file = File::open(path)?;
            check_private(&file)?;
            let bytes = file.metadata()?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(StorageError::too_large(format!(
                    "it is larger than {FILE_BYTES_MAX} bytes"
                )));
            }
            // Never grown, so that no copy of a key stays behind.
            let mut text = Zeroizing::new(String::with_capacity(bytes as usize + 1));
            file.take(bytes).read_to_string(&mut text)?;
            Self::from_text(&text)
        };
        read().map_err(about)
    }

    /// Reads the text of a key file, see [`Keyring::from_file`].
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] with the number of a line that is malformed.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut keyring = Self::default();
        let (mut named, mut last) = (None, None);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let about = |error: StorageError| {
                StorageError::invalid_input(format!("line {}: {error}", number + 1))
            };
            let Some((id, value)) = line.split_once('=') else {
                return Err(about(StorageError::invalid_input("expected `id = key`")));
            };
            let (id, value) = (id.trim(), value.trim());
            if id == CURRENT {
                named = Some((number, value));
                continue;
            }
            let key = decode(value).map_err(about)?;
            keyring = keyring.with_key(id, key).map_err(about)?;
            last = Some(id);
        }
        match (named, last) {
            (Some((number, id)), _) => keyring.with_current(id).map_err(|error| {
                StorageError::invalid_input(format!("line {}: {error}", number + 1))
            }),
            (None, Some(id)) => keyring.with_current(id),
            (None, None) => Err(StorageError::invalid_input("there is no key in it")),
        }
    }

    /// Reads the environment: `SIRA_KEY_<ID>` holds a key of 32 bytes in base64, whose id is the
    /// rest of the name in lower case. `SIRA_KEY_CURRENT` holds the id of the current key, which can
    /// be left out when there is one key only. `None` when no variable holds a key.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] with the name of a variable that is malformed.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_variables(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let id = name.strip_prefix(VARIABLE_PREFIX)?;
            // What is no text is no base64 either, and says so.
            let value = value.into_string().unwrap_or_default();
            Some((id.to_ascii_lowercase(), Zeroizing::new(value)))
        }))
    }

    /// As [`Keyring::from_env`], from ids and values.
    pub(super) fn from_variables(
        variables: impl IntoIterator<Item = (String, Zeroizing<String>)>,
    ) -> Result<Option<Self>> {
        let mut keyring = Self::default();
        let mut current = None;
        for (id, value) in variables {
            let about = |error: StorageError| {
                let name = id.to_ascii_uppercase();
                StorageError::invalid_input(format!("variable {VARIABLE_PREFIX}{name}: {error}"))
            };
            if id == CURRENT {
                current = Some(value.trim().to_ascii_lowercase());
                continue;
            }
            let key = decode(value.trim()).map_err(about)?;
            keyring = keyring.with_key(&id, key).map_err(about)?;
        }
        match (current, keyring.ids().count()) {
            (None, 0) => Ok(None),
            (None, 1) => Ok(Some(keyring)),
            (None, count) => Err(StorageError::invalid_input(format!(
                "the environment holds {count} keys; name the current one in SIRA_KEY_CURRENT"
            ))),
            (Some(id), _) => keyring.with_current(&id).map(Some),
        }
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    // The decoder wants room for the longest text of this length, which may be a key's only.
    let mut room = Zeroizing::new([0; KEY_BYTES + 2]);
    let len = BASE64_STANDARD.decode_slice(text, room.as_mut_slice());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match len {
        Ok(KEY_BYTES) => key.copy_from_slice(room.get(..KEY_BYTES).unwrap_or_default()),
        _ => {
            return Err(StorageError::invalid_input(format!(
                "a key is {KEY_BYTES} bytes in base64, as `openssl rand -base64 {KEY_BYTES}` makes"
            )));
        }
    }
    Ok(key)
}

/// Refuses a file that others than its owner can read or write.
fn check_private(file: &File) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(StorageError::permission_denied(format!(
        "its mode is {mode:03o}, so others can reach the keys; run `chmod 600` on it"
    )))
}

//! What must fit together, across the sections.

use sira_backends::config::BackendKind;
use sira_store::seal::check_level;
use sira_store::{CompressionType, EncryptionType};
use toml::Spanned;

use super::reader::Reader;
use super::routing::is_backend;
use super::{Cipher, EMBEDDED, Found};
use crate::config::nearest::nearest;
use crate::failure::Failure;

/// Checks what shows only when everything is read.
pub(super) fn all(reader: &mut Reader<'_>, found: &Found) {
    for name in &found.wanted {
        let wanted = name.get_ref().as_str();
        if is_backend(found, wanted) {
            continue;
        }
        let names = found.backends.iter().map(String::as_str).chain([EMBEDDED]);
        let hint = match nearest(wanted, names) {
            Some(near) => format!("{near:?}"),
            None => format!("[storage.backends.{wanted}]"),
        };
        let message = format!("there is no backend {wanted:?}");
        reader.fail_with(name.span().start, &message, Some(hint));
    }
    if found.config.keyring.is_none() && !found.keyring_wrong {
        for at in &found.encrypted {
            let hint = "keyring_file = \"/run/secrets/sira-keys\" in [storage]".to_owned();
            let message = "there are no keys to encrypt with";
            reader.fail_with(*at, message, Some(hint));
        }
    }
}

/// The backends that this program cannot open.
pub(super) fn not_compiled(reader: &Reader<'_>, found: &Found) -> Vec<Failure> {
    let absent = found.kinds.iter().filter(|(_, kind)| !kind.is_compiled());
    let failure = |(at, kind): &(usize, BackendKind)| {
        let feature = match kind.feature() {
            Some("rocksdb") => "rocksdb",
            _ => "all-backends",
        };
        let message = format!(
            "{}: this program is built without backends of the type {kind}",
            reader.place(*at)
        );
        Failure::usage(message).hint(format!("cargo build --package sira-cli --features {feature}"))
    };
    absent.map(failure).collect()
}

/// A level of compression, if it is one.
pub(super) fn level(
    reader: &mut Reader<'_>,
    name: &str,
    compression: CompressionType,
    level: Option<Spanned<i32>>,
) -> Option<i32> {
    let level = level?;
    match check_level(compression, Some(*level.get_ref())) {
        Ok(()) => Some(level.into_inner()),
        Err(error) => {
            reader.fail(level.span().start, &format!("{name}: {}", error.detail().message));
            None
        }
    }
}

/// How values are encrypted; `names` are those of the two settings. `None` where nothing is said, or
/// what is said is wrong.
pub(super) fn encryption(
    reader: &mut Reader<'_>,
    found: &mut Found,
    names: (&str, &str),
    cipher: Option<Spanned<Cipher>>,
    key_id: Option<Spanned<String>>,
) -> Option<EncryptionType> {
    let at = cipher.as_ref().map(|cipher| cipher.span().start);
    let cipher = cipher.map(Spanned::into_inner);
    if let Some(key_id) = &key_id
        && matches!(cipher, None | Some(Cipher::None))
    {
        let hint = Some(format!("{} = \"aes256_gcm\"", names.0));
        let message = format!("{} names a key, and nothing is encrypted with it", names.1);
        reader.fail_with(key_id.span().start, &message, hint);
        return None;
    }
    let make = match cipher? {
        Cipher::None => return Some(EncryptionType::None),
        Cipher::Aes256Gcm => |key_id| EncryptionType::Aes256Gcm { key_id },
        Cipher::ChaCha20Poly1305 => |key_id| EncryptionType::ChaCha20Poly1305 { key_id },
    };
    found.encrypted.extend(key_id.as_ref().map(|key_id| key_id.span().start).or(at));
    Some(make(key_id.map(Spanned::into_inner).unwrap_or_default()))
}

//! What an object store's errors mean.

use std::error::Error as _;

use opendal::{Error, ErrorKind};
use sira_store::{Retry, StorageError};

use crate::handshake::{chain, refusal};

/// What a request does when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it reads.
    None,
    /// It writes or deletes.
    Change,
}

/// Texts that never stand in an error.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = Option<&'a String>>) -> Self {
        // A SAS token stands in addresses in parts, and its signature is the part that counts.
        let parts = |secret: &str| -> Vec<String> {
            let values = secret.split('&').filter_map(|pair| pair.strip_prefix("sig="));
            values.chain([secret]).map(str::to_owned).collect()
        };
        let secrets = secrets.into_iter().flatten().flat_map(|secret| parts(secret));
        Self(secrets.filter(|secret| secret.len() >= 4).collect())
    }

    pub(super) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Whether an object is absent, and not the bucket.
pub(super) fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && !is_bucket(error)
}

/// Whether a store over a file system saw the object go or come while it worked on its path, and
/// changed nothing.
pub(super) fn is_overtaken(error: &Error) -> bool {
    error.message().contains("ExistingObjectIsDirectory")
}

fn is_bucket(error: &Error) -> bool {
    let message = error.message();
    ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "bucket does not exist"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Whether the request was never sent, since no connection came about.
fn is_unsent(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error for a request that failed; `store` names the bucket and where it is.
pub(super) fn of(error: &Error, effect: Effect, store: &str, secrets: &Secrets) -> StorageError {
    let message = secrets.redact(error.message());
    let about = |what: &str| format!("{store} {what}: {message}");
    let full = ["XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "no space left"];
    if full.iter().any(|sign| error.message().contains(sign)) {
        return StorageError::out_of_space(about("has no room left"));
    }
    if error.message().contains("EntityTooLarge") {
        return StorageError::too_large(about("takes no object of this size"));
    }
    if is_bucket(error) {
        return StorageError::not_found(about("does not exist; create it or check its name"));
    }
    match error.kind() {
        ErrorKind::PermissionDenied => StorageError::permission_denied(about(
            "refused the request; check the credentials and what they allow",
        )),
        ErrorKind::NotFound => StorageError::not_found(about("does not have the object")),
        ErrorKind::ConfigInvalid => StorageError::invalid_input(about("is configured wrong")),
        ErrorKind::Unsupported => StorageError::unsupported(about("cannot do this")),
        ErrorKind::RateLimited => StorageError::unavailable(about("asks for fewer requests")),
        ErrorKind::Conflict | ErrorKind::ConditionNotMatch => {
            StorageError::conflict(about("saw another writer"))
        }
        ErrorKind::RangeNotSatisfied => StorageError::corrupt(about("has an object cut short")),
        _ if is_unsent(error) => {
            let source = error.source().map(|source| secrets.redact(&chain(source)));
            let said = source.unwrap_or_default();
            refusal(store, &said).unwrap_or_else(|| {
                StorageError::unavailable(format!("{store} cannot be reached: {said}"))
            })
        }
        _ => {
            let source = error.source().map(|source| format!(": {}", chain(source)));
            let source = secrets.redact(&source.unwrap_or_default());
            let error = StorageError::unavailable(about("did not answer as it should") + &source);
            match effect {
                Effect::None => error,
                Effect::Change => error.with_retry(Retry::Ambiguous),
            }
        }
    }
}

//! Names of objects on the command line.
//!
//! `sira://NAMESPACE/KEY` names an object in full. Elsewhere than in `cp`, where a bare name is a
//! local file, a bare `KEY` is a key of the namespace that `--namespace` names.

use std::fmt;

use sira_store::limits::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX};

use crate::failure::{Failure, Outcome};

/// How a full name begins.
pub const SCHEME: &str = "sira://";

/// A key, or the beginning of keys, in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The namespace.
    pub namespace: String,
    /// A whole key, or a prefix where one is asked for; empty for the whole namespace.
    pub key: String,
}

impl Location {
    /// The same namespace, another key.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { namespace: self.namespace.clone(), key: key.into() }
    }

    /// Reads a name that may stand for many keys: `KEY`, `sira://NAMESPACE` or
    /// `sira://NAMESPACE/PREFIX`.
    ///
    /// # Errors
    /// When the namespace is missing or no name of one.
    pub fn parse_prefix(text: &str, namespace: &str) -> Outcome<Self> {
        let (namespace, key) = match text.strip_prefix(SCHEME) {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => (namespace, text),
        };
        check_namespace(namespace).map_err(|failure| failure.context(text))?;
        if key.len() > KEY_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the key has {} bytes, at most {KEY_BYTES_MAX} are allowed",
                key.len()
            )));
        }
        Ok(Self { namespace: namespace.to_owned(), key: key.to_owned() })
    }

    /// Reads the name of one object: `KEY` or `sira://NAMESPACE/KEY`.
    ///
    /// # Errors
    /// When the namespace or the key is missing.
    pub fn parse_key(text: &str, namespace: &str) -> Outcome<Self> {
        let location = Self::parse_prefix(text, namespace)?;
        if location.key.is_empty() {
            return Err(Failure::usage(format!("{text:?} names no key"))
                .hint("write KEY, or sira://NAMESPACE/KEY"));
        }
        Ok(location)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.namespace, crate::output::printable(&self.key))
    }
}

/// Whether a word of `cp` names something in the store.
pub fn is_remote(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// Checks the name of a namespace.
///
/// # Errors
/// When it is none.
pub fn check_namespace(name: &str) -> Outcome {
    let fits = (1..=NAMESPACE_BYTES_MAX).contains(&name.len());
    if fits && !name.chars().any(|c| c == '/' || c.is_control()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{name:?} names no namespace: 1 to {NAMESPACE_BYTES_MAX} bytes without '/' and control \
         characters"
    ))
    .hint("write sira://NAMESPACE/KEY, such as sira://default/greeting"))
}

#[cfg(test)]
mod tests;

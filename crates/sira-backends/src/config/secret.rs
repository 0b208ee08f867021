//! Secrets by where they are kept.

use std::path::Path;

use sira_store::{Result, StorageError};

/// Longest file of a secret, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is kept: a variable of the environment, or the first line of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secret<'a> {
    /// What the secret is called in the settings, without `_env` and `_file`.
    key: &'static str,
    env: Option<&'a str>,
    file: Option<&'a Path>,
}

impl<'a> Secret<'a> {
    pub(super) fn new(key: &'static str, env: Option<&'a String>, file: Option<&'a Path>) -> Self {
        Self { key, env: env.map(String::as_str), file }
    }

    /// Whether one is named.
    pub(super) fn is_named(self) -> bool {
        self.env.is_some() || self.file.is_some()
    }

    /// Checks what can be checked without reading it.
    pub(super) fn check(self) -> Result<(), String> {
        let key = self.key;
        if self.env.is_some() && self.file.is_some() {
            return Err(format!("{key}_env and {key}_file are given: name one of them"));
        }
        // The secret itself may stand here, so what is wrong is not shown.
        if self.env.is_some_and(|name| !is_variable(name)) {
            return Err(format!(
                "{key}_env is the name of a variable of the environment: letters, digits and _"
            ));
        }
        Ok(())
    }

    /// Reads it; `None` where none is named.
    pub(super) async fn read(self) -> Result<Option<String>> {
        self.check().map_err(StorageError::invalid_input)?;
        let key = self.key;
        if let Some(name) = self.env {
            return match std::env::var(name) {
                Ok(secret) if !secret.is_empty() => Ok(Some(secret)),
                Ok(_) => Err(StorageError::invalid_input(format!(
                    "the variable {name} of the environment, which {key}_env names, is empty"
                ))),
                Err(std::env::VarError::NotPresent) => Err(StorageError::invalid_input(format!(
                    "the variable {name} of the environment, which {key}_env names, is not set"
                ))),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(StorageError::invalid_input(format!(
                        "the variable {name} of the environment, which {key}_env names, is no text"
                    )))
                }
            };
        }
        let Some(path) = self.file else { return Ok(None) };
        let about =
            |what: String| format!("the file {}, which {key}_file names, {what}", path.display());
        let bytes = read_start(path).await.map_err(|error| {
            StorageError::invalid_input(about(format!("cannot be read: {error}")))
                .with_source(error)
        })?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| StorageError::invalid_input(about("is no text".to_owned())))?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(StorageError::invalid_input(about("has an empty first line".to_owned())));
        }
        Ok(Some(line.to_owned()))
    }
}

fn is_variable(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

async fn read_start(path: &Path) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt;

    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

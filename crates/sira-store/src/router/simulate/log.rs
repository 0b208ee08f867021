//! Access logs.

use std::collections::BTreeSet;

use crate::error::{Result, StorageError};

use super::super::request::Operation;

/// One access of a log: one line of JSON in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// When, in milliseconds since any origin.
    pub time_ms: u64,
    /// What was done.
    pub operation: Operation,
    /// Key of the object.
    pub key: String,
    /// Bytes of the value.
    pub size: u64,
    /// Region of the caller, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Reads a log of JSON lines; empty lines are passed over.
///
/// # Errors
/// [`StorageError::InvalidInput`] with the number of the first line that cannot be read.
pub fn read_log(text: &str) -> Result<Vec<Access>> {
    lines(text).map(|(number, line)| parse(number, line)).collect()
}

/// A line of a trace of prompts to a language model.
#[derive(serde::Deserialize)]
struct Prompt {
    timestamp: u64,
    hash_ids: Vec<u64>,
}

/// Makes an access log of a trace of prompts, as the Mooncake traces have it: JSON lines with
/// `timestamp` in milliseconds and `hash_ids`, the prompt's blocks of tokens by the hash of all that
/// goes before them. Blocks that an earlier prompt had are read, the others are written, each of
/// `block_bytes` bytes under the key `block:ID`.
///
/// # Errors
/// [`StorageError::InvalidInput`] with the number of the first line that cannot be read.
pub fn from_prefix_trace(text: &str, block_bytes: u64) -> Result<Vec<Access>> {
    let (mut seen, mut log) = (BTreeSet::new(), Vec::new());
    for (number, line) in lines(text) {
        let prompt: Prompt = parse(number, line)?;
        log.extend(prompt.hash_ids.into_iter().map(|id| Access {
            time_ms: prompt.timestamp,
            operation: if seen.insert(id) { Operation::Write } else { Operation::Read },
            key: format!("block:{id}"),
            size: block_bytes,
            region: None,
        }));
    }
    Ok(log)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
}

fn parse<'a, T: serde::Deserialize<'a>>(number: usize, line: &'a str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| {
        StorageError::invalid_input(format!(
            "line {} of the log cannot be read: {error}",
            number + 1
        ))
    })
}

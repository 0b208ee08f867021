//! Times to live and durabilities in header fields.

use std::time::Duration;

use sira_store::{Durability, StorageError};

use crate::limits::TTL_SECONDS_MAX;

/// Reads a time to live: seconds (`90`, `0.5`) or a number with a unit (`500ms`, `10s`, `5m`,
/// `2h`, `7d`). More than [`TTL_SECONDS_MAX`] is refused, and so is zero.
///
/// # Errors
/// [`StorageError::InvalidInput`].
pub fn parse_ttl(text: &str) -> Result<Duration, StorageError> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(malformed(text)),
    };
    let number = number.trim_end();
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if number.is_empty() || !number.bytes().all(plain) {
        return Err(malformed(text));
    }
    let number: f64 = number.parse().map_err(|_| malformed(text))?;
    ttl_from_seconds(number * unit_seconds)
}

/// A time to live from seconds.
///
/// # Errors
/// [`StorageError::InvalidInput`] for what is not above zero and up to [`TTL_SECONDS_MAX`].
pub fn ttl_from_seconds(seconds: f64) -> Result<Duration, StorageError> {
    let out_of_range = || {
        StorageError::invalid_input(format!(
            "a time to live must be above 0 and up to {TTL_SECONDS_MAX} seconds; leave it out for \
             an object that stays"
        ))
    };
    if !(seconds > 0.0 && seconds <= TTL_SECONDS_MAX as f64) {
        return Err(out_of_range());
    }
    let ttl = Duration::try_from_secs_f64(seconds).map_err(|_| out_of_range())?;
    // Whole microseconds: what decimals of binary fractions leave below that is noise.
    let micros = u64::try_from((ttl.as_nanos() + 500) / 1_000).map_err(|_| out_of_range())?;
    Ok(Duration::from_micros(micros.max(1)))
}

fn malformed(text: &str) -> StorageError {
    StorageError::invalid_input(format!(
        "{text:?} is no time to live; write seconds (`90`, `0.5`) or a number with one of the \
         units ms, s, m, h, d (`7d`)"
    ))
}

/// Reads `sync`, `interval:MS` or `none`.
///
/// # Errors
/// [`StorageError::InvalidInput`].
pub fn parse_durability(text: &str) -> Result<Durability, StorageError> {
    let text = text.trim();
    match text {
        "sync" => Ok(Durability::Sync),
        "none" => Ok(Durability::None),
        _ => text
            .strip_prefix("interval:")
            .filter(|ms| ms.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|ms| ms.parse().ok())
            .map(Durability::Interval)
            .ok_or_else(|| {
                StorageError::invalid_input(format!(
                    "{text:?} is no durability; write `sync`, `interval:MS` with milliseconds, or \
                     `none`"
                ))
            }),
    }
}

#[cfg(test)]
mod tests;

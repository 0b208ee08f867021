//! Durations and sizes as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Reads a duration such as `500ms`, `90`, `90s`, `15m`, `12h`, `7d` or `1h30m`; a bare number is
/// seconds.
///
/// # Errors
/// What is wrong and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write a duration as 90, 90s, 500ms, 15m, 12h, 7d or 1h30m";
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(HOW.to_owned()),
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
        total_ms =
            part.and_then(|part| total_ms.checked_add(part)).ok_or_else(|| HOW.to_owned())?;
        rest = after;
    }
    if text.is_empty() { Err(HOW.to_owned()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Reads a size such as `512`, `64KiB`, `10MB` or `1G` in bytes; `K`, `M` and `G` are powers of
/// 1,024, `KB`, `MB` and `GB` of 1,000.
///
/// # Errors
/// How to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: Option<u64> = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| "write a size as 512, 64KiB, 10MB or 1G".to_owned())
}

/// For serde: a duration as [`parse_duration`] reads it, with its unit.
///
/// # Errors
/// The deserializer's, with how to write it.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"250ms\", \"5s\", \"2m\" or \"30d\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            // A number in quotes says as little of its unit as one without.
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(E::invalid_value(Unexpected::Str(text), &self));
            }
            parse_duration(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Text).map(Some)
}

/// For serde: a size as [`parse_size`] reads it, or a number of bytes.
///
/// # Errors
/// The deserializer's, with how to write it.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct TextOrNumber;

    impl Visitor<'_> for TextOrNumber {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"64MiB\", or a number of bytes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            parse_size(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }
    }

    deserializer.deserialize_any(TextOrNumber).map(Some)
}

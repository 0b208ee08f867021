//! Durations, sizes and times as people write and read them.

use std::time::Duration;

pub use sira_backends::config::units::{parse_duration, parse_size};
pub use sira_server::timestamp::timestamp;
use sira_store::Durability;

/// Reads a moment with its zone, in milliseconds since the Unix epoch.
///
/// # Errors
/// How to write it.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || "write a time with its zone, such as 2026-11-22T09:30:00Z".to_owned();
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(time.as_millisecond()).map_err(|_| wrong())
}

/// Reads `sync`, `interval:MS` or `none`.
///
/// # Errors
/// How to write it.
pub fn parse_durability(text: &str) -> Result<Durability, String> {
    const HOW: &str = "write sync, interval:MS (such as interval:100) or none";
    match text {
        "sync" => Ok(Durability::Sync),
        "none" => Ok(Durability::None),
        _ => text
            .strip_prefix("interval:")
            .and_then(|ms| ms.parse().ok())
            .filter(|ms| *ms > 0)
            .map(Durability::Interval)
            .ok_or_else(|| HOW.to_owned()),
    }
}

/// The text that [`parse_durability`] reads.
pub fn durability_text(durability: Durability) -> String {
    match durability {
        Durability::Sync => "sync".to_owned(),
        Durability::None => "none".to_owned(),
        Durability::Interval(ms) => format!("interval:{ms}"),
    }
}

/// A size with three significant digits, such as `1.50 MiB`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {unit}")
}

/// A duration with three significant digits, such as `12.3 ms`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 100.0 {
        format!("{seconds:.0} s")
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-3 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.1} us", seconds * 1e6)
    }
}

#[cfg(test)]
mod tests;

//! The `Range` header: one range of bytes (RFC 9110, section 14).

use std::ops::Range;

/// One range of bytes, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first position to the last, both included.
    Bounded(u64, u64),
    /// From a position to the end.
    From(u64),
    /// As many bytes from the end.
    Suffix(u64),
}

/// What a `Range` header means for a value of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// These bytes.
    Satisfiable(Range<u64>),
    /// No byte of the value lies in the range.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads the header. `None` for what a server ignores: another unit, several ranges, and
    /// syntax that is none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, set) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
        let (spec, None) = (specs.next()?, specs.next()) else { return None };
        let (first, last) = spec.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", "") => None,
            ("", length) => number(length).map(Self::Suffix),
            (first, "") => number(first).map(Self::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Bounded(first, last))
            }
        }
    }

    /// The bytes of a value of `size` bytes that lie in the range.
    #[must_use]
    pub fn resolve(self, size: u64) -> Resolved {
        let range = match self {
            Self::Bounded(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Suffix(length) => size.saturating_sub(length)..size,
        };
        if range.start < range.end { Resolved::Satisfiable(range) } else { Resolved::Unsatisfiable }
    }
}

/// Digits only; a number too large for 64 bits is the largest one.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;

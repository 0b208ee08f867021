//! Versions and times in engines whose integers are signed.

use sira_store::Version;

/// A version as a signed number of the same order.
pub(crate) fn from_version(version: Version) -> i64 {
    (version.as_u64() ^ (1 << 63)) as i64
}

/// The version that [`from_version`] made a number of.
pub(crate) fn to_version(number: i64) -> Version {
    Version::from_u64((number as u64) ^ (1 << 63))
}

/// A time, a size or a count as a signed number. What is past the end of the range, 292 million
/// years from now, is its end.
pub(crate) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{clamp, from_version, to_version};
    use sira_store::Version;

    #[test]
    fn order_of_versions_is_that_of_their_numbers() {
        let versions =
            [0, 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX].map(Version::from_u64);
        assert!(versions.map(from_version).is_sorted_by(|a, b| a < b));
        assert_eq!(versions.map(|version| to_version(from_version(version))), versions);
    }

    #[test]
    fn times_past_the_range_are_its_end() {
        assert_eq!([clamp(7), clamp(u64::MAX)], [7, i64::MAX]);
    }
}

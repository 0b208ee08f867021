//! Versions: hybrid logical clocks.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Version of an object: unique and ordered within a store, never 0 for a stored object.
///
/// The upper 48 bits are wall-clock milliseconds since the Unix epoch, the lower 16 a counter that
/// orders what happened within one millisecond (Kulkarni et al., "Logical Physical Clocks", 2014).
/// It is the ETag of every front end, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

/// Set in versions that are no clocks: as a time they would lie past the year 10,000.
const STATE_BITS: u64 = 0xFFFF << 48;

impl Version {
    /// The version with this number.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The version's number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// What stands for a state of an object that has no version, as where other programs write
    /// plain bytes: 48 bits of a hash of its bytes or its ETag. It identifies the state and has no
    /// order.
    #[must_use]
    pub const fn of_state(hash: u64) -> Self {
        Self(STATE_BITS | hash >> 16)
    }

    /// Whether the version identifies a state and is no clock, see [`Version::of_state`].
    #[must_use]
    pub const fn is_state(self) -> bool {
        self.0 & STATE_BITS == STATE_BITS
    }

    /// Wall-clock part: milliseconds since the Unix epoch; 0 where the version is no clock.
    #[must_use]
    pub const fn time_ms(self) -> u64 {
        if self.is_state() { 0 } else { self.0 >> 16 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is 16 hexadecimal digits")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseVersionError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseVersionError)
    }
}

/// Bits of a version that engines count in.
const OF_ENGINES: u64 = 0b11;

/// Hands out versions that only grow, whatever the wall clock does.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: AtomicU64,
}

impl HybridClock {
    /// The next version at wall-clock time `now_ms`.
    pub fn next(&self, now_ms: u64) -> Version {
        let physical = now_ms << 16;
        let mut next = 0;
        let _ = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
            next = physical.max(last + 1);
            Some(next)
        });
        Version(next)
    }

    /// As [`HybridClock::next`], with random numbers in the lower bits, so that the clocks of several
    /// processes that write to one engine hardly ever hand out the same version. The lowest two bits
    /// are 0: where writes of a key arrive in another order than their versions have, an engine gives
    /// the later one the version after what it holds, which no clock has handed out for another key.
    pub fn next_spread(&self, now_ms: u64, random: u64) -> Version {
        let physical = (now_ms << 16) | (random & 0xFFFF & !OF_ENGINES);
        // Clocks that are behind the same version must not go on with the same one after it.
        let step = (1 + ((random >> 16) & 0xFF)) * (OF_ENGINES + 1);
        let mut next = 0;
        let _ = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
            let after = (last & !OF_ENGINES).saturating_add(step);
            next = if physical > last { physical } else { after };
            Some(next)
        });
        Version(next)
    }

    /// A version to put in the place of `held`: greater than that one, and not necessarily greater
    /// than those that were handed out for other keys. Writers that race for a key, in whatever
    /// processes, draw the same one in 1 of 65,536 cases, and only within one millisecond or behind
    /// the same clock that is ahead.
    pub fn next_after(&self, held: Version, now_ms: u64, random: u64) -> Version {
        let spread = random & 0xFFFF;
        let next = if now_ms > held.time_ms() {
            (now_ms << 16) | spread
        } else {
            held.0.saturating_add(1 + spread)
        };
        self.last.fetch_max(next, Ordering::AcqRel);
        Version(next)
    }

    /// Makes every later version greater than `seen`.
    pub fn observe(&self, seen: Version) {
        self.last.fetch_max(seen.0, Ordering::AcqRel);
    }
}

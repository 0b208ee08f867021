//! What must hold for a write to an outside engine.

use crate::error::{Result, StorageError};
use crate::options::Condition;
use crate::version::Version;

/// What must hold for a write, and how its version is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// What the caller demands of what the key holds.
    pub condition: Condition,
    /// The record's version is stored as it is or not at all.
    pub exact: bool,
    /// The time at which expiry is judged, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What a key holds, as far as a guard looks at it. Expired records count as well: their versions
/// are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Version of the record.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

impl Held {
    /// Whether the record has not expired at `now_ms`.
    #[must_use]
    pub fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| now_ms < at)
    }
}

impl Guard {
    /// A guard that lets every write through.
    #[must_use]
    pub const fn always(now_ms: u64) -> Self {
        Self { condition: Condition::Always, exact: false, now_ms }
    }

    /// Whether a write can be made without a look at what the key holds.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.condition == Condition::Always && !self.exact
    }

    /// Judges a write of `version` over what the key holds, and answers the version to store: this
    /// one, or, unless `exact` is set, the one after what is held where that is greater. Versions of
    /// a key only grow.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when the condition does not hold,
    /// [`StorageError::Conflict`] when an exact version is not greater than the one that is held.
    pub fn admit(&self, held: Option<Held>, version: Version) -> Result<Version> {
        self.condition.require(self.live(held))?;
        let Some(held) = held else { return Ok(version) };
        if version > held.version {
            return Ok(version);
        }
        if self.exact {
            return Err(stale(version, held.version));
        }
        Ok(Version::from_u64(held.version.as_u64().saturating_add(1)))
    }

    /// Judges a removal of what the key holds, and says whether that had not expired.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when the condition does not hold.
    pub fn admit_removal(&self, held: Option<Held>) -> Result<bool> {
        let live = self.live(held);
        self.condition.require(live)?;
        Ok(live.is_some())
    }

    /// Version of what is held, if it has not expired.
    fn live(&self, held: Option<Held>) -> Option<Version> {
        held.filter(|held| held.lives(self.now_ms)).map(|held| held.version)
    }
}

/// Checks that an exact version is greater than the one that is held.
///
/// # Errors
/// [`StorageError::Conflict`] when it is not.
pub(crate) fn check_newer(version: Version, held: Option<Version>) -> Result<()> {
    match held {
        Some(held) if held >= version => Err(stale(version, held)),
        _ => Ok(()),
    }
}

/// The error of an exact version that is not newer than what is held.
pub(crate) fn stale(version: Version, held: Version) -> StorageError {
    StorageError::conflict(format!(
        "the key holds version {held}, which is not older than version {version}; \
         the newer one stays"
    ))
}

#[cfg(test)]
mod tests;

//! A state that is left only when several looks agree.

use super::HealthState;

/// How many looks in a row must agree before a state is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a worse one.
    pub worsen_looks: u32,
    /// For a better one.
    pub recover_looks: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { worsen_looks: 2, recover_looks: 3 }
    }
}

/// The state that stands, and what has been seen since that is not it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hysteresis {
    standing: HealthState,
    /// Looks in a row that were worse, and the mildest of them.
    worse: Option<(u32, HealthState)>,
    /// Looks in a row that were better, and the worst of them.
    better: Option<(u32, HealthState)>,
}

impl Hysteresis {
    /// The state that stands.
    #[must_use]
    pub fn standing(&self) -> HealthState {
        self.standing
    }

    /// Takes in what a look saw, and answers the state that was left, if one was.
    ///
    /// The new state is the least change that all looks of the run agree on: of worse ones the
    /// mildest, of better ones the worst.
    pub fn look(&mut self, seen: HealthState, patience: Patience) -> Option<HealthState> {
        let (run, looks) = match seen.cmp(&self.standing) {
            std::cmp::Ordering::Equal => {
                (self.worse, self.better) = (None, None);
                return None;
            }
            std::cmp::Ordering::Greater => {
                let (count, mildest) = self.worse.unwrap_or((0, seen));
                (self.worse, self.better) = (Some((count + 1, mildest.min(seen))), None);
                (self.worse, patience.worsen_looks)
            }
            std::cmp::Ordering::Less => {
                let (count, worst) = self.better.unwrap_or((0, seen));
                (self.worse, self.better) = (None, Some((count + 1, worst.max(seen))));
                (self.better, patience.recover_looks)
            }
        };
        let (count, agreed) = run?;
        if count < looks {
            return None;
        }
        (self.worse, self.better) = (None, None);
        Some(std::mem::replace(&mut self.standing, agreed))
    }
}

//! Choices of the simulated disk.

use crate::env::SeededRandom;

/// Random choices that follow from a seed.
#[derive(Debug, Clone)]
pub(super) struct Rng(SeededRandom);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to `bound - 1`, and 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// How much of the unsynced survives, in percent: nothing, all, or a share.
    pub(super) fn survival(&mut self) -> usize {
        match self.below(6) {
            0 => 0,
            1 => 100,
            2 => 10,
            3 => 90,
            _ => 50,
        }
    }
}

//! A generated load: skewed, drifting, with peaks.

use crate::env::SeededRandom;

use super::super::hash::unit;
use super::super::request::Operation;
use super::log::Access;

/// A load in which few keys are hot, the hot ones change, and the rate goes up and down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkewedLoad {
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Length, in milliseconds.
    pub length_ms: u64,
    /// Mean operations a second.
    pub per_second: f64,
    /// How far the rate goes above and below the mean, as a part of it, from 0 to 1.
    pub swing: f64,
    /// Time from peak to peak, in milliseconds.
    pub period_ms: u64,
    /// How many keys there are.
    pub keys: u64,
    /// Time after which other keys are the hot ones, in milliseconds.
    pub drift_ms: u64,
    /// Part of the operations, from 0 to 1, that write.
    pub writes: f64,
    /// Least and largest size of a value, in bytes; a key keeps its size.
    pub sizes: (u64, u64),
}

impl SkewedLoad {
    /// The accesses, in the order of time: arrivals are a Poisson process whose rate swings, ranks
    /// of keys follow Zipf's law with exponent 1 (in its continuous form), sizes are spread evenly
    /// over their logarithm.
    #[must_use]
    pub fn accesses(&self) -> Vec<Access> {
        let mut random = SeededRandom::new(self.seed);
        let mut draw = || unit(random.next_u64());
        let mut log = Vec::new();
        let mut time_ms = 0.0_f64;
        let rate_max = self.per_second * (1.0 + self.swing) / 1000.0;
        loop {
            // Thinning (Lewis and Shedler 1979): arrivals at the largest rate, some left out.
            time_ms += -draw().ln() / rate_max.max(1e-9);
            let now_ms = time_ms as u64;
            if now_ms >= self.length_ms {
                return log;
            }
            let phase = time_ms / self.period_ms.max(1) as f64 * std::f64::consts::TAU;
            let rate = self.per_second * (1.0 + self.swing * phase.sin()) / 1000.0;
            if draw() * rate_max > rate {
                continue;
            }
            let rank = (self.keys as f64 + 1.0).powf(draw()) as u64 - 1;
            let drift = now_ms / self.drift_ms.max(1);
            let number = rank.wrapping_add(drift.wrapping_mul(7919)) % self.keys.max(1);
            let (least, largest) = (self.sizes.0.max(1) as f64, self.sizes.1.max(1) as f64);
            let part = unit(SeededRandom::new(number).next_u64());
            log.push(Access {
                time_ms: now_ms,
                operation: if draw() < self.writes { Operation::Write } else { Operation::Read },
                key: format!("key:{number}"),
                size: (least * (largest / least).powf(part)) as u64,
                region: None,
            });
        }
    }
}

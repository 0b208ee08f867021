//! Hashes and random numbers of the router.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::{Env, SeededRandom};

/// A hash of the parts that is the same on every machine and in every version (FNV-1a, mixed once
/// more so that keys alike come out unlike).
pub(super) fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for part in parts {
        // A byte that no UTF-8 holds keeps ("a", "bc") and ("ab", "c") apart.
        for byte in part.bytes().chain([0xFF]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    SeededRandom::new(hash).next_u64()
}

/// A number from 0 to 1, neither included.
pub(super) fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Random numbers for many threads, seeded once.
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn new(env: &dyn Env) -> Self {
        Self(AtomicU64::new(env.random_u64()))
    }

    /// A number from 0 to 1, neither included.
    pub(super) fn unit(&self) -> f64 {
        // Each caller has a state of its own, from which one number is drawn.
        unit(
            SeededRandom::new(self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed))
                .next_u64(),
        )
    }

    /// A number of the normal distribution with mean 0 and deviation 1 (Box and Muller, 1958).
    pub(super) fn normal(&self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

//! What is done in which order: the same seed does the same.

use std::str::FromStr;

use sira_store::env::SeededRandom;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Get,
    /// Write.
    Put,
    /// Remove.
    Delete,
}

impl Op {
    /// All kinds, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Delete];

    /// Name on the command line and in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }
}

/// Shares of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix([u32; 3]);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "write shares such as get=80,put=20";
        let mut shares = [0_u32; 3];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or(HOW)?;
            let at = Op::ALL.iter().position(|op| op.name() == name.trim()).ok_or(HOW)?;
            let share = share.trim().parse::<u32>().ok().filter(|share| *share <= 1_000_000);
            shares[at] = share.ok_or(HOW)?;
        }
        if shares.iter().sum::<u32>() == 0 { Err(HOW.to_owned()) } else { Ok(Self(shares)) }
    }
}

impl Mix {
    /// Whether a kind happens at all.
    pub fn has(self, op: Op) -> bool {
        self.0[op as usize] > 0
    }

    fn pick(self, random: u64) -> Op {
        let all: u32 = self.0.iter().sum();
        let mut at = (random % u64::from(all)) as u32;
        for op in Op::ALL {
            let share = self.0[op as usize];
            if at < share {
                return op;
            }
            at -= share;
        }
        Op::Get
    }
}

/// Operations, keys and values.
#[derive(Debug, Clone)]
pub struct Workload {
    mix: Mix,
    keys: u64,
    value: Vec<u8>,
    pipeline: usize,
    seed: u64,
}

impl Workload {
    /// A workload; its values cannot be compressed.
    pub fn new(mix: Mix, keys: u64, value_bytes: usize, pipeline: usize, seed: u64) -> Self {
        let mut random = seeded(seed, u64::MAX);
        let mut value = Vec::with_capacity(value_bytes + 8);
        while value.len() < value_bytes {
            value.extend_from_slice(&random.next_u64().to_le_bytes());
        }
        value.truncate(value_bytes);
        Self { mix, keys, value, pipeline, seed }
    }

    /// The value of every write.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Operations in flight for a client.
    pub fn pipeline(&self) -> usize {
        self.pipeline
    }

    /// Number of keys.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Whether reads need something to find.
    pub fn reads(&self) -> bool {
        self.mix.has(Op::Get)
    }

    /// The source of random numbers of one client of one run.
    pub fn random(&self, client: u32, run: u64) -> SeededRandom {
        seeded(self.seed, (run << 32) | u64::from(client))
    }

    /// The next operation and key.
    pub fn next(&self, random: &mut SeededRandom) -> (Op, u64) {
        (self.mix.pick(random.next_u64() >> 16), random.next_u64() % self.keys)
    }
}

/// Writes the name of a key into `out`.
pub fn push_key(out: &mut Vec<u8>, key: u64) {
    let mut digits = *b"key-000000000000";
    let mut left = key;
    for digit in digits.iter_mut().rev().take(12) {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(&digits);
}

/// The numbers of one of a seed's streams.
fn seeded(seed: u64, stream: u64) -> SeededRandom {
    let mut random = SeededRandom::new(seed ^ stream.wrapping_mul(0xD134_2543_DE82_EF95));
    random.next_u64();
    random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes() {
        assert_eq!("get=80,put=20".parse(), Ok(Mix([80, 20, 0])));
        assert_eq!("delete=1".parse(), Ok(Mix([0, 0, 1])));
        for wrong in ["", "get", "get=x", "get=0", "set=1", "get=-1", "get=9999999"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_seed_does_the_same_in_the_asked_shares() {
        let workload = Workload::new(Mix([75, 25, 0]), 100, 100, 1, 7);
        let mut random = workload.random(3, 1);
        let ops: Vec<_> = (0..10_000).map(|_| workload.next(&mut random)).collect();
        let mut again = workload.random(3, 1);
        assert!(ops.iter().all(|op| *op == workload.next(&mut again)));
        let gets = ops.iter().filter(|(op, _)| *op == Op::Get).count();
        assert!((7_200..7_800).contains(&gets), "{gets}");
        assert!(ops.iter().all(|(_, key)| *key < 100));
        assert_ne!(workload.random(4, 1).next_u64(), workload.random(3, 1).next_u64());
        assert_eq!(workload.value().len(), 100);
    }

    #[test]
    fn keys_sort_as_their_numbers() {
        let name = |key| {
            let mut out = Vec::new();
            push_key(&mut out, key);
            out
        };
        assert_eq!(name(42), b"key-000000000042");
        assert!(name(9) < name(10));
    }
}

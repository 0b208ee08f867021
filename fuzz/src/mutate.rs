//! Makes new inputs out of those of the corpus.

use sira_log::env::{Env, SimEnv};

/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 4096;

/// Most changes between an input of the corpus and what is made of it.
const CHANGES_MAX: usize = 6;

/// A source of inputs that gives the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator<'a> {
    random: SimEnv,
    corpus: &'a [Vec<u8>],
    words: &'a [&'a [u8]],
}

impl<'a> Mutator<'a> {
    /// A source over a corpus, and words that inputs are made of.
    #[must_use]
    pub fn new(seed: u64, corpus: &'a [Vec<u8>], words: &'a [&'a [u8]]) -> Self {
        Self { random: SimEnv::new(seed, 0), corpus, words }
    }

    /// The next input.
    pub fn make(&mut self) -> Vec<u8> {
        let mut bytes = self.seed().to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut bytes);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn seed(&self) -> &'a [u8] {
        self.corpus.get(self.below(self.corpus.len())).map_or(&[], Vec::as_slice)
    }

    /// A number below `limit`, or 0.
    fn below(&self, limit: usize) -> usize {
        match limit as u64 {
            0 => 0,
            limit => (self.random.random_u64() % limit) as usize,
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let len = self.below((bytes.len() - at).min(32) + 1);
        match self.below(9) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.random.random_u64() as u8;
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    let step = self.below(9) as u8;
                    *byte = byte.wrapping_add(step).wrapping_sub(4);
                }
            }
            3 => {
                bytes.drain(at..at + len);
            }
            4 => {
                let again = bytes[at..at + len].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, again);
            }
            5 => bytes.truncate(at),
            6 => {
                let word = self.words.get(self.below(self.words.len())).copied().unwrap_or(&[]);
                let over = if self.below(2) == 0 { 0 } else { word.len().min(bytes.len() - at) };
                bytes.splice(at..at + over, word.iter().copied());
            }
            7 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                const NUMBERS: [u32; 8] =
                    [0, 1, 40, 255, u16::MAX as u32, i32::MAX as u32, 1 << 31, u32::MAX];
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let over = number.len().min(bytes.len() - at);
                bytes.splice(at..at + over, number);
            }
        }
    }
}

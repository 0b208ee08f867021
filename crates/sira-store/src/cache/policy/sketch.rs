//! How often hashes were seen lately, in four bits each.

/// Counters of a hash; the smallest tells.
const DEPTH: u64 = 4;

/// Additions for each counted entry after which every counter is halved.
const SAMPLE: u64 = 10;

/// Keeps a counter's bits to itself when all are shifted together.
const HALVES: u64 = 0x7777_7777_7777_7777;

/// A count-min sketch with aging (Cormode and Muthukrishnan 2005; Einziger and others, "TinyLFU",
/// 2017). Counts go up to 15 and are never too small but by aging.
#[derive(Debug)]
pub(super) struct Sketch {
    /// Words of sixteen counters, a power of two of them.
    words: Vec<u64>,
    additions: u64,
}

impl Sketch {
    /// A sketch for about this many entries.
    pub(super) fn new(entries: usize) -> Self {
        Self { words: vec![0; entries.max(16).next_power_of_two()], additions: 0 }
    }

    /// Grows to this many entries; what was counted stays.
    pub(super) fn reserve(&mut self, entries: usize) {
        while self.words.len() < entries {
            self.words.extend_from_within(..);
        }
    }

    /// Where the counter of a row lies: the word, and the shift within it.
    fn place(&self, hash: u64, row: u64) -> (usize, u64) {
        let spread = (hash ^ (row << 32)).wrapping_add(row).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let spread = spread ^ (spread >> 31);
        let word = spread as usize & (self.words.len() - 1);
        // Each row has four of the sixteen counters of a word.
        (word, (row * 4 + (spread >> 62)) * 4)
    }

    /// Counts a hash once more.
    pub(super) fn add(&mut self, hash: u64) {
        let mut added = false;
        for row in 0..DEPTH {
            let (word, shift) = self.place(hash, row);
            if let Some(word) = self.words.get_mut(word)
                && (*word >> shift) & 0xF < 0xF
            {
                *word += 1 << shift;
                added = true;
            }
        }
        self.additions += u64::from(added);
        if self.additions >= SAMPLE * self.words.len() as u64 {
            self.additions /= 2;
            for word in &mut self.words {
                *word = (*word >> 1) & HALVES;
            }
        }
    }

    /// How often a hash was counted.
    pub(super) fn count(&self, hash: u64) -> u8 {
        (0..DEPTH)
            .map(|row| {
                let (word, shift) = self.place(hash, row);
                self.words.get(word).map_or(0, |word| (word >> shift) & 0xF) as u8
            })
            .min()
            .unwrap_or(0)
    }
}

//! Keys and values that can be checked.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbers `0..count`, shuffled.
pub fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..count as u32).collect();
    Random(seed).shuffle(&mut ids);
    ids
}

/// The key of a number: 16 bytes.
pub fn key(id: u32) -> [u8; 16] {
    let mut key = *b"user000000000000";
    let mut rest = id;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Values of one size: windows of one incompressible buffer, so that making one costs nothing and
/// every byte read back can be checked.
pub struct Values {
    bytes: Vec<u8>,
    size: usize,
}

/// Places at which windows begin.
const WINDOWS: u64 = 64 << 10;

impl Values {
    pub fn new(size: usize) -> Self {
        let mut random = Random(7);
        let words = (size + WINDOWS as usize).div_ceil(8);
        let bytes = (0..words).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        Self { bytes, size }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The value of a number.
    pub fn of(&self, id: u32) -> &[u8] {
        let start = (mix(u64::from(id) + 1) % WINDOWS) as usize;
        &self.bytes[start..start + self.size]
    }

    /// Looks at every byte, and compares length and 24 of them: quick enough for timed loops.
    pub fn check_quickly(&self, id: u32, value: &[u8]) {
        let right = self.of(id);
        assert_eq!(value.len(), right.len(), "value {id} has another length");
        for at in [0, right.len() / 2, right.len() - 8] {
            assert_eq!(value[at..at + 8], right[at..at + 8], "value {id} differs at {at}");
        }
        let (words, rest) = value.as_chunks::<8>();
        let sum =
            words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        std::hint::black_box((sum, rest));
    }

    /// All of it.
    pub fn check(&self, id: u32, value: &[u8]) {
        assert!(value == self.of(id), "value {id} differs");
    }
}

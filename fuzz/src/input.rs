//! Takes structure out of bytes.

/// The bytes of an input, taken from the front. When they are used up, all that follows is zeros, so
/// that every input means something.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.split(1).first().copied().unwrap_or(0)
    }

    /// A number of two bytes, little-endian.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number up to and with `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        let number = if most < 256 { usize::from(self.byte()) } else { usize::from(self.short()) };
        number % (most + 1)
    }

    /// A run of bytes that says itself how long it is, up to 255.
    pub fn run(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.split(len)
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn split(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

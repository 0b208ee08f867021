//! The record of all calls.

use std::fmt::Write;

/// A running hash of all calls, and their text where it is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    hash: u64,
    text: Option<String>,
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn record_text(&mut self) {
        self.text.get_or_insert_default();
    }

    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    fn mix(&mut self, word: u64) {
        // One round of MurmurHash3's finalizer over the state and the word.
        let mut z = (self.hash ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        z ^= z >> 33;
        self.hash = z.wrapping_add(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    /// A call on an open file.
    pub(super) fn file(&mut self, call: &str, node: u64, offset: u64, len: u64, checksum: u32) {
        for byte in call.bytes() {
            self.mix(byte.into());
        }
        for word in [node, offset, len, checksum.into()] {
            self.mix(word);
        }
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{call} #{node} {offset}+{len} {checksum:08x}");
        }
    }

    /// A call on paths.
    pub(super) fn path(&mut self, call: &str, path: &str, other: &str) {
        for part in [call, path, other] {
            self.mix(part.len() as u64);
            self.mix(crc32c::crc32c(part.as_bytes()).into());
        }
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{call} {path} {other}");
        }
    }
}

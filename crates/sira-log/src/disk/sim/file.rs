//! What one file holds in the page cache and on the medium.

use super::super::SECTOR_BYTES;
use super::rng::Rng;

/// A torn sector is new up to a multiple of this many bytes.
const TORN_BYTES: usize = 8;

/// Bytes of a file; the zeros at its end take no memory until they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    bytes: Vec<u8>,
    len: usize,
}

impl Image {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn set_len(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.len = len;
    }

    /// Overwrites a range within the length.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }

    /// The bytes of a range that are not zeros at the end.
    fn written(&self, start: usize, end: usize) -> &[u8] {
        let held = self.bytes.len();
        &self.bytes[start.min(held)..end.min(held)]
    }

    /// A range, if it lies within the length.
    pub(super) fn read(&self, start: usize, len: usize) -> Option<Vec<u8>> {
        let end = start.checked_add(len).filter(|end| *end <= self.len)?;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(self.written(start, end));
        out.resize(len, 0);
        Some(out)
    }

    /// Copies a range from another image, within the length of both.
    fn copy_from(&mut self, from: &Self, start: usize, end: usize) {
        let written = from.written(start, end);
        self.write(start, written);
        let zeros_from = (start + written.len()).min(self.bytes.len());
        let zeros_to = end.min(self.bytes.len());
        self.bytes[zeros_from..zeros_to.max(zeros_from)].fill(0);
    }
}

/// Content of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// What the running system sees.
    pub(super) cache: Image,
    /// What the medium holds.
    durable: Image,
    /// Length changes since the medium's length, in order.
    lengths: Vec<usize>,
    /// Sectors in which the cache is ahead of the medium, one bit each.
    dirty: Vec<u64>,
    /// Folder entries that name the file now.
    pub(super) links: u32,
    /// Open handles.
    pub(super) handles: u32,
    /// Text of whoever has it locked.
    pub(super) locked_by: Option<String>,
}

impl FileNode {
    /// Copies the parts into the cache. `limit` cuts the write short, as a failed one is.
    pub(super) fn write(&mut self, offset: usize, parts: &[&[u8]], limit: usize) {
        let mut at = offset;
        let mut left = limit;
        for part in parts {
            let part = &part[..part.len().min(left)];
            self.cache.write(at, part);
            at += part.len();
            left -= part.len();
        }
        if at > offset {
            self.mark(offset / SECTOR_BYTES, at.div_ceil(SECTOR_BYTES));
        }
    }

    fn mark(&mut self, from: usize, to: usize) {
        if self.dirty.len() < to.div_ceil(64) {
            self.dirty.resize(to.div_ceil(64), 0);
        }
        for sector in from..to {
            self.dirty[sector / 64] |= 1 << (sector % 64);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.cache.len() {
            let keep = len.div_ceil(SECTOR_BYTES);
            let dirty: Vec<usize> = self.dirty_sectors().filter(|sector| *sector >= keep).collect();
            for sector in dirty {
                self.dirty[sector / 64] &= !(1 << (sector % 64));
            }
        }
        self.cache.set_len(len);
        self.lengths.push(len);
    }

    fn dirty_sectors(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.dirty.iter().enumerate().flat_map(|(index, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// Brings the medium's length up to date.
    fn settle_length(&mut self) {
        for len in self.lengths.drain(..) {
            self.durable.set_len(len);
        }
    }

    /// Moves the chosen dirty sectors to the medium and takes those for clean that `clean` names.
    fn write_back(&mut self, mut chosen: impl FnMut() -> bool, clean: impl Fn(bool) -> bool) {
        self.settle_length();
        for index in 0..self.dirty.len() {
            let mut word = self.dirty[index];
            while word != 0 {
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                let start = (index * 64 + bit) * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(self.cache.len());
                let written = chosen();
                if written {
                    self.durable.copy_from(&self.cache, start, end);
                }
                if clean(written) {
                    self.dirty[index] &= !(1 << bit);
                }
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.write_back(|| true, |_| true);
        self.dirty.clear();
    }

    /// A sync that fails: some sectors reach the medium, and all are taken for clean.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let percent = rng.survival();
        self.write_back(|| rng.chance(percent), |_| true);
    }

    /// Writeback by the system at a moment of its own choice.
    pub(super) fn some_writeback(&mut self, rng: &mut Rng) {
        self.write_back(|| rng.chance(50), |written| written);
    }

    pub(super) fn flip(&mut self, offset: usize, bit: u8) -> bool {
        let mask = 1 << (bit & 7);
        for image in [&mut self.durable, &mut self.cache] {
            if let Some(byte) = image.read(offset, 1) {
                image.write(offset, &[byte[0] ^ mask]);
            }
        }
        offset < self.cache.len()
    }

    /// The file as it is found after a loss of power.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let kept = match rng.below(3) {
            0 => self.lengths.len(),
            _ => rng.below(self.lengths.len() + 1),
        };
        let mut image = self.durable.clone();
        for len in &self.lengths[..kept] {
            image.set_len(*len);
        }
        let percent = rng.survival();
        let end_of_both = image.len().min(self.cache.len());
        for sector in self.dirty_sectors() {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(end_of_both);
            if start >= end {
                continue;
            }
            let torn = rng.chance(10);
            let end = match (torn, rng.chance(percent)) {
                (true, _) => start + rng.below((end - start) / TORN_BYTES + 1) * TORN_BYTES,
                (false, true) => end,
                (false, false) => start,
            };
            image.copy_from(&self.cache, start, end);
        }
        Self { cache: image.clone(), durable: image, ..Self::default() }
    }
}

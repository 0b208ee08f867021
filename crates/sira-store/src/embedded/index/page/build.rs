//! Leaves that are built anew from parts of others: splits, evening out, merges, compaction.

use std::ops::Range;

use super::super::Location;
use super::{AREA_BYTES, Body, KeyBuffer, LOCATION_BYTES, common_prefix, entry_bytes, fence};

/// Keys in a row that were added at the end, from which on a full leaf is taken to be filled in
/// order: it stays full, and the new key begins the next leaf.
const ASCENDING_MIN: u16 = 16;

/// Most bytes that two leaves may need together to be merged: room is left for new keys.
const MERGED_BYTES_MAX: usize = AREA_BYTES / 4 * 3;

/// Most bytes that a leaf may need after it evened out with a neighbour: with less room to spare
/// it would soon be full again.
const SHARED_BYTES_MAX: usize = AREA_BYTES / 100 * 85;

/// What a leaf is made of when it is built anew.
#[derive(Clone)]
pub(super) enum Part<'a> {
    /// Entries of another leaf.
    Old(&'a Body, Range<usize>),
    /// A new key.
    New(&'a [u8], Location),
}

impl<'a> Part<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Old(_, range) => range.len(),
            Self::New(..) => 1,
        }
    }

    /// The parts before and from `at` on.
    fn cut(&self, at: usize) -> (Self, Self) {
        match self {
            Self::Old(leaf, range) => (
                Self::Old(leaf, range.start..range.start + at),
                Self::Old(leaf, range.start + at..range.end),
            ),
            Self::New(..) if at == 0 => (Self::Old(&NOTHING, 0..0), self.clone()),
            Self::New(..) => (self.clone(), Self::Old(&NOTHING, 0..0)),
        }
    }

    fn key<'b>(&self, at: usize, buffer: &'b mut KeyBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Old(leaf, range) => {
                buffer.enter(leaf);
                buffer.key(leaf, range.start + at)
            }
            Self::New(key, _) => key,
        }
    }

    /// Length of a key.
    fn key_bytes(&self, at: usize) -> usize {
        match self {
            Self::Old(leaf, range) => {
                usize::from(leaf.prefix) + leaf.slot(range.start + at).length()
            }
            Self::New(key, _) => key.len(),
        }
    }
}

/// The prefix that all keys of some parts share.
fn shared_prefix(parts: &[Part<'_>]) -> Vec<u8> {
    let mut filled = parts.iter().filter(|part| part.len() > 0);
    let Some(first) = filled.next() else { return Vec::new() };
    let last = filled.next_back().unwrap_or(first);
    let (mut low, mut high) = (KeyBuffer::new(&NOTHING), KeyBuffer::new(&NOTHING));
    let low = first.key(0, &mut low);
    low[..common_prefix(low, last.key(last.len() - 1, &mut high))].to_vec()
}

static NOTHING: Body = Body::empty();

impl Body {
    /// Becomes what the parts are together. Everything fits, with [`HEAD_BYTES`] to spare. The
    /// generation stays.
    pub(super) fn fill(&mut self, parts: &[Part<'_>]) {
        self.clear(&shared_prefix(parts));
        for part in parts {
            match part {
                Part::Old(source, range) => self.append(source, range.clone()),
                Part::New(key, location) => self.insert(self.count(), key, *location),
            }
        }
        self.ascending = 0;
    }

    /// Adds entries of `source` behind all others; they begin with the prefix and fit.
    fn append(&mut self, source: &Self, range: Range<usize>) {
        if self.prefix == source.prefix {
            for at in range {
                let slot = source.slot(at);
                let bytes = slot.tail_bytes() + LOCATION_BYTES;
                let offset = usize::from(self.heap) - bytes;
                let entry = &source.area[slot.offset()..slot.offset() + bytes];
                self.area[offset..offset + bytes].copy_from_slice(entry);
                self.set_slot(self.count(), slot.moved(offset));
                self.heap = offset as u16;
                self.count += 1;
            }
        } else {
            let mut buffer = KeyBuffer::new(source);
            for at in range {
                let (key, location) = buffer.entry(source, at);
                self.insert(self.count(), key, location);
            }
        }
    }

    /// The leaf's entries and a new one before `at`.
    pub(super) fn with<'a>(
        &'a self,
        at: usize,
        key: &'a [u8],
        location: Location,
    ) -> [Part<'a>; 3] {
        [Part::Old(self, 0..at), Part::New(key, location), Part::Old(self, at..self.count())]
    }

    /// Whether `key` goes on with keys that come in order, so that a full leaf should stay full.
    pub(in super::super) fn ascends(&self, key: &[u8]) -> bool {
        self.ascending >= ASCENDING_MIN && self.lower_bound(key) == self.count()
    }

    /// Adds a key that has no room, and moves the upper entries to `right` for it. Returns the
    /// fence: the shortest key that is over all keys here and not over those in `right`.
    pub(in super::super) fn split(
        &mut self,
        right: &mut Self,
        key: &[u8],
        location: Location,
    ) -> Vec<u8> {
        let source = *self;
        let at = source.lower_bound(key);
        if source.ascends(key) || !key.starts_with(source.prefix()) {
            // Keys without the prefix are before or after all others.
            if at == source.count() {
                right.fill(&[Part::New(key, location)]);
                right.ascending = source.ascending;
            } else {
                right.copy(&source);
                self.fill(&[Part::New(key, location)]);
            }
        } else {
            Division::of(&source.with(at, key, location)).fill(self, right);
        }
        self.fence_to(right)
    }

    /// Adds a key that has no room by evening out with `right`, the next leaf, if both have room
    /// to spare then. `in_left` says where the key belongs. Returns the new fence.
    pub(in super::super) fn share(
        &mut self,
        right: &mut Self,
        in_left: bool,
        key: &[u8],
        location: Location,
    ) -> Option<Vec<u8>> {
        if self.live() + right.live() > 2 * SHARED_BYTES_MAX {
            return None;
        }
        let (low, high) = (*self, *right);
        let at = if in_left { low.lower_bound(key) } else { high.lower_bound(key) };
        let both = if in_left {
            let [a, b, c] = low.with(at, key, location);
            [a, b, c, Part::Old(&high, 0..high.count())]
        } else {
            let [a, b, c] = high.with(at, key, location);
            [Part::Old(&low, 0..low.count()), a, b, c]
        };
        let division = Division::of(&both);
        if division.low_bytes.max(division.high_bytes) > SHARED_BYTES_MAX {
            return None;
        }
        division.fill(self, right);
        Some(self.fence_to(right))
    }

    /// The fence between this leaf and the next one; both have entries.
    fn fence_to(&self, right: &Self) -> Vec<u8> {
        let (mut low, mut high) = (KeyBuffer::new(self), KeyBuffer::new(right));
        fence(low.key(self, self.count() - 1), high.key(right, 0)).to_vec()
    }

    /// Takes the entries of a range out.
    pub(in super::super) fn remove_all(&mut self, range: Range<usize>) {
        if range.len() == self.count() {
            self.clear(&[]);
        } else if !range.is_empty() {
            let source = *self;
            let (low, high) = (0..range.start, range.end..source.count());
            self.fill(&[Part::Old(&source, low), Part::Old(&source, high)]);
        }
    }

    /// Keeps only the entries of a range, without dead bytes between them.
    pub(in super::super) fn keep(&mut self, range: Range<usize>) {
        if range.len() != self.count() || self.dead > 0 {
            let source = *self;
            self.fill(&[Part::Old(&source, range)]);
        }
    }

    /// Takes the contents of another leaf; the generation stays.
    fn copy(&mut self, other: &Self) {
        let generation = self.generation;
        *self = *other;
        self.generation = generation;
    }

    /// Takes over all entries of `right`, whose keys are all greater, if the result has room to
    /// spare.
    pub(in super::super) fn merge(&mut self, right: &Self) -> bool {
        if right.count == 0 {
            return true;
        }
        if self.count == 0 {
            self.copy(right);
            return true;
        }
        let source = *self;
        let both = [Part::Old(&source, 0..source.count()), Part::Old(right, 0..right.count())];
        let fits = entries_bytes(&both, shared_prefix(&both).len()) <= MERGED_BYTES_MAX;
        if fits {
            self.fill(&both);
        }
        fits
    }
}

/// Bytes that the entries of some parts need, and the prefix that they share.
fn entries_bytes(parts: &[Part<'_>], prefix: usize) -> usize {
    let part_bytes = |part: &Part<'_>| -> usize {
        (0..part.len()).map(|at| entry_bytes(part.key_bytes(at) - prefix)).sum()
    };
    prefix + parts.iter().map(part_bytes).sum::<usize>()
}

/// Entries for two leaves that need about the same number of bytes.
struct Division<'a> {
    low: Vec<Part<'a>>,
    high: Vec<Part<'a>>,
    low_bytes: usize,
    high_bytes: usize,
}

impl<'a> Division<'a> {
    /// Divides at least two entries; each side gets one or more.
    fn of(parts: &[Part<'a>]) -> Self {
        let prefix = shared_prefix(parts).len();
        let total = entries_bytes(parts, prefix);
        let mut sum = prefix;
        let mut division =
            Self { low: Vec::new(), high: Vec::new(), low_bytes: prefix, high_bytes: prefix };
        let mut left: usize = parts.iter().map(Part::len).sum();
        for part in parts {
            let mut at = 0;
            while at < part.len() && left > 1 && (sum < total / 2 || sum == prefix) {
                sum += entry_bytes(part.key_bytes(at) - prefix);
                at += 1;
                left -= 1;
            }
            let (low, high) = part.cut(at);
            division.low.push(low);
            division.high.push(high);
        }
        division.low_bytes = sum;
        division.high_bytes = total - sum + prefix;
        division
    }

    fn fill(&self, left: &mut Body, right: &mut Body) {
        left.fill(&self.low);
        right.fill(&self.high);
    }
}

//! The leaf: one page of packed keys and their locations.
//!
//! A leaf keeps the prefix that all its keys share once. Slots are sorted and hold the next four
//! bytes of each key, so that a search touches a key only where those are equal. The rest of each
//! key (its tail), followed by its location, lies in a heap that grows down from the prefix.
//! `docs/formats/index.md` has the diagram.

mod build;
mod record;

use std::cmp::Ordering;

use super::{KEY_BYTES_MAX, Location};

/// Bytes of a leaf for slots, free space, heap and prefix.
pub(super) const AREA_BYTES: usize = 4072;
pub(super) const SLOT_BYTES: usize = 8;
pub(super) const LOCATION_BYTES: usize = 20;
const HEAD_BYTES: usize = 4;

/// A leaf whose entries need less than this looks for a neighbour to share a page with.
const SPARSE_BYTES: usize = AREA_BYTES / 3;

/// A leaf, without the lock that guards it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Body {
    /// Changed whenever the leaf hands a part of its key range to another one.
    pub(super) generation: u32,
    /// Number of entries.
    count: u16,
    /// Length of the prefix, which ends where the area ends.
    prefix: u16,
    /// Where the heap begins.
    heap: u16,
    /// Bytes of the heap that no entry uses.
    dead: u16,
    /// Keys in a row that were added at the end.
    ascending: u16,
    _reserved: u16,
    area: [u8; AREA_BYTES],
}

/// What [`Body::put`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    Added,
    Replaced(Location),
    /// Nothing: the leaf has no room.
    Full,
}

/// One slot: `head << 32 | offset << 16 | length`, where the length counts the key's bytes after
/// the prefix.
#[derive(Clone, Copy)]
struct Slot(u64);

impl Slot {
    fn new(suffix: &[u8], offset: usize) -> Self {
        Self(u64::from(head(suffix)) << 32 | (offset as u64) << 16 | suffix.len() as u64)
    }
    fn read(bytes: &[u8; SLOT_BYTES]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }
    /// The same for an entry that lies elsewhere.
    fn moved(self, offset: usize) -> Self {
        Self(self.0 & !0xFFFF_0000 | (offset as u64) << 16)
    }
    fn head(self) -> u32 {
        (self.0 >> 32) as u32
    }
    fn offset(self) -> usize {
        usize::from((self.0 >> 16) as u16)
    }
    fn length(self) -> usize {
        usize::from(self.0 as u16)
    }
    fn tail_bytes(self) -> usize {
        self.length().saturating_sub(HEAD_BYTES)
    }
}

/// The first four bytes, zeros for those that are not there. With the length as the last
/// criterion, padding keeps the order.
fn head(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<HEAD_BYTES>() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; HEAD_BYTES];
            bytes[..suffix.len()].copy_from_slice(suffix);
            u32::from_be_bytes(bytes)
        }
    }
}

fn tail(suffix: &[u8]) -> &[u8] {
    suffix.get(HEAD_BYTES..).unwrap_or_default()
}

/// Number of leading bytes that are the same.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut same = 0;
    for (a, b) in words_a.iter().zip(words_b) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return same + difference.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

/// Heads and short tails are copied whole, whatever their length.
const KEY_BUFFER_BYTES: usize = KEY_BYTES_MAX + HEAD_BYTES + SHORT_TAIL_BYTES;
/// Tails of up to so many bytes are copied as if they had as many: behind each lies a location.
const SHORT_TAIL_BYTES: usize = 16;
const _: () = assert!(SHORT_TAIL_BYTES <= LOCATION_BYTES);

/// Room for any key, to rebuild the keys of one leaf in.
pub(super) struct KeyBuffer {
    bytes: [u8; KEY_BUFFER_BYTES],
    prefix: usize,
}

impl KeyBuffer {
    pub(super) fn new(leaf: &Body) -> Self {
        let mut buffer = Self { bytes: [0; KEY_BUFFER_BYTES], prefix: 0 };
        buffer.enter(leaf);
        buffer
    }

    /// Turns to another leaf.
    pub(super) fn enter(&mut self, leaf: &Body) {
        let prefix = leaf.prefix();
        self.bytes[..prefix.len()].copy_from_slice(prefix);
        self.prefix = prefix.len();
    }

    /// The key at `at` of the leaf that was entered last.
    pub(super) fn key(&mut self, leaf: &Body, at: usize) -> &[u8] {
        self.entry(leaf, at).0
    }

    /// The key and the location at `at` of the leaf that was entered last.
    pub(super) fn entry(&mut self, leaf: &Body, at: usize) -> (&[u8], Location) {
        let slot = leaf.slot(at);
        let entry = &leaf.area[slot.offset()..];
        let start = self.prefix + HEAD_BYTES;
        self.bytes[self.prefix..start].copy_from_slice(&slot.head().to_be_bytes());
        let tail = slot.tail_bytes();
        if tail <= SHORT_TAIL_BYTES {
            self.bytes[start..start + SHORT_TAIL_BYTES].copy_from_slice(&entry[..SHORT_TAIL_BYTES]);
        } else {
            self.bytes[start..start + tail].copy_from_slice(&entry[..tail]);
        }
        let location = entry[tail..].first_chunk().map_or([0; LOCATION_BYTES], |bytes| *bytes);
        (&self.bytes[..self.prefix + slot.length()], Location::from_bytes(&location))
    }
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self {
            generation: 0,
            count: 0,
            prefix: 0,
            heap: AREA_BYTES as u16,
            dead: 0,
            ascending: 0,
            _reserved: 0,
            area: [0; AREA_BYTES],
        }
    }

    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.area[AREA_BYTES - usize::from(self.prefix)..]
    }

    fn slots(&self) -> &[[u8; SLOT_BYTES]] {
        self.area[..self.count() * SLOT_BYTES].as_chunks().0
    }

    fn slot(&self, at: usize) -> Slot {
        Slot::read(&self.slots()[at])
    }

    fn set_slot(&mut self, at: usize, slot: Slot) {
        let start = at * SLOT_BYTES;
        self.area[start..start + SLOT_BYTES].copy_from_slice(&slot.0.to_le_bytes());
    }

    fn tail(&self, slot: Slot) -> &[u8] {
        &self.area[slot.offset()..slot.offset() + slot.tail_bytes()]
    }

    pub(super) fn location(&self, at: usize) -> Location {
        let slot = self.slot(at);
        let start = slot.offset() + slot.tail_bytes();
        Location::from_bytes(self.area[start..].first_chunk().unwrap_or(&[0; LOCATION_BYTES]))
    }

    pub(super) fn set_location(&mut self, at: usize, location: Location) {
        let slot = self.slot(at);
        let start = slot.offset() + slot.tail_bytes();
        self.area[start..start + LOCATION_BYTES].copy_from_slice(&location.to_bytes());
    }

    /// Bytes between slots and heap.
    fn free(&self) -> usize {
        usize::from(self.heap) - self.count() * SLOT_BYTES
    }

    /// Bytes that the entries and their prefix need.
    fn live(&self) -> usize {
        AREA_BYTES - self.free() - usize::from(self.dead)
    }

    /// Whether the leaf should be offered to a neighbour after a removal. With many keys only one
    /// removal in eight asks, as it may be in vain.
    pub(super) fn is_sparse(&self) -> bool {
        self.live() < SPARSE_BYTES && (self.count < 8 || self.count.is_multiple_of(8))
    }

    /// Where the key is, or where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(suffix) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.count() });
        };
        let head = head(suffix);
        let slots = self.slots();
        let start = slots.partition_point(|slot| Slot::read(slot).head() < head);
        let same = |slot: &[u8; SLOT_BYTES]| Slot::read(slot).head() == head;
        if !slots.get(start).is_some_and(same) {
            return Err(start);
        }
        let run = if slots.get(start + 1).is_some_and(same) {
            slots[start..].partition_point(same)
        } else {
            1
        };
        let compare = |slot: &[u8; SLOT_BYTES]| -> Ordering {
            let slot = Slot::read(slot);
            self.tail(slot).cmp(tail(suffix)).then(slot.length().cmp(&suffix.len()))
        };
        match slots[start..start + run].binary_search_by(compare) {
            Ok(at) => Ok(start + at),
            Err(at) => Err(start + at),
        }
    }

    /// Number of keys before `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(at) | Err(at) => at,
        }
    }

    /// Sets the location of a key.
    pub(super) fn put(&mut self, key: &[u8], location: Location) -> Put {
        let at = match self.search(key) {
            Ok(at) => {
                let previous = self.location(at);
                self.set_location(at, location);
                return Put::Replaced(previous);
            }
            Err(at) => at,
        };
        if self.count == 0 {
            self.clear(key);
        }
        let prefix = usize::from(self.prefix);
        let shared =
            if key.starts_with(self.prefix()) { prefix } else { common_prefix(self.prefix(), key) };
        let growth = (prefix - shared) * self.count();
        let entry = entry_bytes(key.len() - shared);
        if shared == prefix && entry <= self.free() {
            self.insert(at, key, location);
        } else if self.live() + growth + entry + HEAD_BYTES <= AREA_BYTES {
            let source = *self;
            self.fill(&source.with(at, key, location));
            if at == source.count() {
                self.ascending = source.ascending.saturating_add(1);
            }
        } else {
            return Put::Full;
        }
        Put::Added
    }

    /// Drops all entries; `prefix` is what the next ones share.
    fn clear(&mut self, prefix: &[u8]) {
        let heap = AREA_BYTES - prefix.len();
        self.area[heap..].copy_from_slice(prefix);
        self.count = 0;
        self.dead = 0;
        self.ascending = 0;
        self.prefix = prefix.len() as u16;
        self.heap = heap as u16;
    }

    /// Adds a key that begins with the prefix, at its place; there is room for it.
    fn insert(&mut self, at: usize, key: &[u8], location: Location) {
        let suffix = &key[usize::from(self.prefix)..];
        let tail = tail(suffix);
        let count = self.count();
        let offset = usize::from(self.heap) - LOCATION_BYTES - tail.len();
        let (place, rest) = self.area[offset..].split_at_mut(tail.len());
        place.copy_from_slice(tail);
        rest[..LOCATION_BYTES].copy_from_slice(&location.to_bytes());
        let start = at * SLOT_BYTES;
        self.area.copy_within(start..count * SLOT_BYTES, start + SLOT_BYTES);
        self.set_slot(at, Slot::new(suffix, offset));
        self.heap = offset as u16;
        self.count += 1;
        self.ascending = if at == count { self.ascending.saturating_add(1) } else { 0 };
    }

    /// Takes one entry out.
    pub(super) fn remove(&mut self, at: usize) {
        let slot = self.slot(at);
        let start = at * SLOT_BYTES;
        let end = self.count() * SLOT_BYTES;
        self.area.copy_within(start + SLOT_BYTES..end, start);
        self.count -= 1;
        self.ascending = 0;
        if self.count == 0 {
            self.clear(&[]);
        } else {
            self.dead += (slot.tail_bytes() + LOCATION_BYTES) as u16;
        }
    }
}

/// Bytes that an entry needs whose key has `suffix` bytes after the prefix.
pub(super) fn entry_bytes(suffix: usize) -> usize {
    SLOT_BYTES + suffix.saturating_sub(HEAD_BYTES) + LOCATION_BYTES
}

/// The shortest key that is over `low` and not over `high`, which is greater than `low`.
pub(super) fn fence<'a>(low: &[u8], high: &'a [u8]) -> &'a [u8] {
    &high[..(common_prefix(low, high) + 1).min(high.len())]
}

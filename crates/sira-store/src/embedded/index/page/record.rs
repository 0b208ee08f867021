//! A leaf as a record of an image: the leaf without its free bytes.

use std::cmp::Ordering;

use super::{AREA_BYTES, Body, HEAD_BYTES, KEY_BYTES_MAX, LOCATION_BYTES, SLOT_BYTES, Slot};

/// Number of entries, length of the prefix.
const HEADER_BYTES: usize = 4;

impl Body {
    /// Appends the leaf, which has entries and no dead bytes, as a record.
    pub(in super::super) fn write_record(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.count.to_le_bytes());
        to.extend_from_slice(&self.prefix.to_le_bytes());
        to.extend_from_slice(self.slots().as_flattened());
        to.extend_from_slice(&self.area[usize::from(self.heap)..]);
    }

    /// Becomes the leaf of a record. What the code relies on is checked first, so that also a
    /// record that no leaf was written to (with a checksum that is right) is refused.
    pub(in super::super) fn read_record(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let Some(([c0, c1, p0, p1], rest)) = record.split_first_chunk::<HEADER_BYTES>() else {
            return Err("a page is too short for its header");
        };
        let count = u16::from_le_bytes([*c0, *c1]);
        let prefix = u16::from_le_bytes([*p0, *p1]);
        if count == 0 || rest.len() > AREA_BYTES || usize::from(prefix) > KEY_BYTES_MAX {
            return Err("a page's header is out of its limits");
        }
        let Some((slots, heap)) = rest.split_at_checked(usize::from(count) * SLOT_BYTES) else {
            return Err("a page's slots do not fit its size");
        };
        if heap.len() < usize::from(prefix) {
            return Err("a page's prefix does not fit its size");
        }
        let start = AREA_BYTES - heap.len();
        self.area[..slots.len()].copy_from_slice(slots);
        self.area[start..].copy_from_slice(heap);
        (self.count, self.prefix, self.heap) = (count, prefix, start as u16);
        (self.dead, self.ascending) = (0, 0);
        self.check()
    }

    /// Entries lie in the heap and fill it, and their keys ascend.
    fn check(&self) -> Result<(), &'static str> {
        let key_bytes_max = KEY_BYTES_MAX - usize::from(self.prefix);
        let heap = usize::from(self.heap);
        let mut used = usize::from(self.prefix);
        let mut previous: Option<Slot> = None;
        for bytes in self.slots() {
            let slot = Slot::read(bytes);
            let end = slot.offset() + slot.tail_bytes() + LOCATION_BYTES;
            if slot.length() > key_bytes_max
                || slot.offset() < heap
                || end + usize::from(self.prefix) > AREA_BYTES
            {
                return Err("an entry lies outside its page");
            }
            let padding = HEAD_BYTES.saturating_sub(slot.length()) as u32 * 8;
            if padding > 0 && u64::from(slot.head()) & ((1 << padding) - 1) != 0 {
                return Err("the head of a short key is not padded with zeros");
            }
            used += slot.tail_bytes() + LOCATION_BYTES;
            if let Some(previous) = previous {
                let order = previous
                    .head()
                    .cmp(&slot.head())
                    .then_with(|| self.tail(previous).cmp(self.tail(slot)))
                    .then(previous.length().cmp(&slot.length()));
                if order != Ordering::Less {
                    return Err("the keys of a page are out of order");
                }
            }
            previous = Some(slot);
        }
        if used == AREA_BYTES - heap { Ok(()) } else { Err("the entries do not fill their page") }
    }
}

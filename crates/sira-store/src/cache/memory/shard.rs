//! One part of the memory tier: entries by key, and the policy that says which goes next.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{Hit, Place};
use crate::cache::entry::Entry;
use crate::cache::options::EvictionPolicy;
use crate::cache::policy::{Item, Policy, hand_over, policy};

/// Reads that are remembered of an entry for the next policy.
const READS_MAX: u8 = 3;

#[derive(Debug)]
struct Slot {
    space: u32,
    key: Box<str>,
    entry: Arc<Entry>,
    item: Item,
    reads: u8,
    /// Read ahead, and not read since.
    ahead: bool,
}

/// Entries that weigh at most `capacity` together. `table` names exactly the slots that are taken,
/// and so does the policy.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    policy: Box<dyn Policy>,
    kind: EvictionPolicy,
    bytes: u64,
    capacity: u64,
}

/// What went to make room.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) evicted: Vec<Arc<Entry>>,
    /// Of those, how many were read ahead in vain.
    pub(super) unread: u64,
    _replaced: Option<Arc<Entry>>,
}

impl Shard {
    pub(super) fn new(kind: EvictionPolicy, capacity: u64) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            policy: policy(kind, capacity),
            kind,
            bytes: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.table.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn find(&self, place: Place<'_>) -> Option<u32> {
        let slots = &self.slots;
        let same = |slot: &u32| {
            slots.get(*slot as usize).and_then(Option::as_ref).is_some_and(|slot| {
                slot.item.hash == place.hash && slot.space == place.space && *slot.key == *place.key
            })
        };
        self.table.find(place.hash, same).copied()
    }

    pub(super) fn contains(&self, place: Place<'_>) -> bool {
        self.find(place).is_some()
    }

    pub(super) fn get(&mut self, place: Place<'_>, reader: bool) -> Option<(Hit, Item)> {
        let number = self.find(place)?;
        let slot = self.slots.get_mut(number as usize)?.as_mut()?;
        let hit = Hit { entry: Arc::clone(&slot.entry), ahead: slot.ahead && reader };
        if reader {
            slot.reads = (slot.reads + 1).min(READS_MAX);
            slot.ahead = false;
            self.policy.access(number);
        }
        Some((hit, slot.item))
    }

    pub(super) fn insert(
        &mut self,
        place: Place<'_>,
        entry: Arc<Entry>,
        ahead: bool,
        item: Item,
    ) -> Gone {
        let mut gone = Gone::default();
        if let Some(number) = self.find(place)
            && let Some(Some(slot)) = self.slots.get_mut(number as usize)
            && slot.item.weight == item.weight
            && slot.item.until_ms == item.until_ms
        {
            gone._replaced = Some(std::mem::replace(&mut slot.entry, entry));
            return gone;
        }
        gone._replaced = self.remove(place);
        let slot = Slot { space: place.space, key: place.key.into(), entry, item, reads: 0, ahead };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(free) = self.slots.get_mut(number as usize) {
            *free = Some(slot);
        }
        let slots = &self.slots;
        self.table.insert_unique(place.hash, number, |slot| {
            slots.get(*slot as usize).and_then(Option::as_ref).map_or(0, |slot| slot.item.hash)
        });
        self.policy.insert(number, item);
        self.bytes += item.weight;
        while self.bytes > self.capacity {
            let Some(victim) = self.policy.evict() else { break };
            if let Some(slot) = self.release(victim) {
                gone.unread += u64::from(slot.ahead);
                gone.evicted.push(slot.entry);
            }
        }
        gone
    }

    pub(super) fn remove(&mut self, place: Place<'_>) -> Option<Arc<Entry>> {
        let number = self.find(place)?;
        self.policy.remove(number);
        self.release(number).map(|slot| slot.entry)
    }

    pub(super) fn clear(&mut self, space: u32) -> Vec<Arc<Entry>> {
        let of_space = |(number, slot): (usize, &Option<Slot>)| {
            slot.as_ref().is_some_and(|slot| slot.space == space).then_some(number as u32)
        };
        let numbers: Vec<_> = self.slots.iter().enumerate().filter_map(of_space).collect();
        let mut removed = Vec::with_capacity(numbers.len());
        for number in numbers {
            self.policy.remove(number);
            removed.extend(self.release(number).map(|slot| slot.entry));
        }
        removed
    }

    /// Frees a slot that the policy has forgotten.
    fn release(&mut self, number: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(number as usize)?.take()?;
        if let Ok(place) = self.table.find_entry(slot.item.hash, |other| *other == number) {
            place.remove();
        }
        self.bytes -= slot.item.weight;
        self.free.push(number);
        Some(slot)
    }

    /// Runs another policy from now on; the entries stay.
    pub(super) fn switch(&mut self, kind: EvictionPolicy) {
        if self.kind == kind {
            return;
        }
        let mut next = policy(kind, self.capacity);
        let slots = &self.slots;
        hand_over(&mut *self.policy, &mut *next, |number| {
            let slot = slots.get(number as usize)?.as_ref()?;
            Some((slot.item, slot.reads))
        });
        self.policy = next;
        self.kind = kind;
    }
}

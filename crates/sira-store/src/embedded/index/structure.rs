//! Changes of the tree's shape: splits, merges, and ranges that are dropped.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{self as epoch, Atomic, Guard, Owned};
use parking_lot::MutexGuard;

use super::arena::PageId;
use super::node::Builder;
use super::page::{Body, Put};
use super::{Index, IndexError, Leaf, Location, Middle, Path, Root};

/// Most leaves of a middle node; it is split in two when it gets more.
pub(super) const MIDDLE_LEN_MAX: usize = 256;
/// A middle node with fewer leaves is joined with a neighbour.
const MIDDLE_LEN_SPARSE: usize = MIDDLE_LEN_MAX / 4;
/// Leaves of a middle node that was joined or loaded: room is left for splits.
pub(super) const MIDDLE_LEN_JOINED: usize = MIDDLE_LEN_MAX / 4 * 3;

impl Index {
    /// Sets the location of a key whose leaf is full or missing.
    pub(super) fn put_with_split(
        &self,
        key: &[u8],
        location: Location,
        guard: &Guard,
    ) -> Result<Put, IndexError> {
        let structure = self.structure.lock();
        let path = match self.descend(key, guard) {
            Some(path) => path,
            None => self.plant(guard)?,
        };
        let leaf = path.leaf();
        let mut left = self.arena.page(leaf.page).write();
        // Another thread may have made room in the meantime.
        let put = left.put(key, location);
        if put != Put::Full {
            return Ok(put);
        }
        if !left.ascends(key) && self.share(&structure, &path, &mut left, key, location, guard) {
            return Ok(Put::Added);
        }
        let page = self.arena.allocate()?;
        let mut right = self.arena.page(page).write();
        let fence = left.split(&mut right, key, location);
        left.generation = left.generation.wrapping_add(1);
        right.generation = left.generation;
        let generation = left.generation;
        let mut middle = Builder::new(path.middle.len() + 1);
        middle.extend(path.middle, 0..path.slot);
        middle.push(path.middle.fence(path.slot), Leaf { page: leaf.page, generation });
        middle.push(&fence, Leaf { page, generation });
        middle.extend(path.middle, path.slot + 1..path.middle.len());
        self.publish(&structure, &path, middle.finish(), guard);
        Ok(Put::Added)
    }

    /// Sets the location of a key whose leaf, `body`, is full, if a neighbour has room for both.
    /// Pages are fuller so than with splits alone: four fifths instead of seven tenths.
    fn share(
        &self,
        structure: &MutexGuard<'_, ()>,
        path: &Path<'_>,
        body: &mut Body,
        key: &[u8],
        location: Location,
        guard: &Guard,
    ) -> bool {
        let middle = path.middle;
        for next in [path.slot.checked_add(1), path.slot.checked_sub(1)].into_iter().flatten() {
            if next >= middle.len() {
                continue;
            }
            let mut other = self.arena.page(middle.value(next).page).write();
            let fence = if next > path.slot {
                body.share(&mut other, true, key, location)
            } else {
                other.share(body, false, key, location)
            };
            let Some(fence) = fence else { continue };
            body.generation = body.generation.wrapping_add(1);
            other.generation = other.generation.wrapping_add(1);
            let first = path.slot.min(next);
            let leaf = |slot: usize| Leaf {
                page: middle.value(slot).page,
                generation: if slot == next { other.generation } else { body.generation },
            };
            let mut new = Builder::new(middle.len());
            new.extend(middle, 0..first);
            new.push(middle.fence(first), leaf(first));
            new.push(&fence, leaf(first + 1));
            new.extend(middle, first + 2..middle.len());
            self.publish(structure, path, new.finish(), guard);
            return true;
        }
        false
    }

    /// Gives an empty tree its first leaf.
    fn plant<'g>(&self, guard: &'g Guard) -> Result<Path<'g>, IndexError> {
        let page = self.arena.allocate()?;
        let mut middle = Builder::new(1);
        middle.push(&[], Leaf { page, generation: 0 });
        let middle = middle.finish();
        self.inner_bytes.add(middle.memory_bytes() as u64);
        let mut root = Builder::new(1);
        root.push(&[], Atomic::new(middle));
        self.set_root(root.finish(), guard);
        self.descend(&[], guard).ok_or(IndexError::OutOfMemory)
    }

    /// Replaces the middle node of `path`, with two if it is too long.
    fn publish(
        &self,
        _structure: &MutexGuard<'_, ()>,
        path: &Path<'_>,
        new: Middle,
        guard: &Guard,
    ) {
        let slot = path.root.value(path.at);
        if new.len() <= MIDDLE_LEN_MAX {
            self.inner_bytes.add(new.memory_bytes() as u64);
            let old = slot.swap(Owned::new(new), Ordering::AcqRel, guard);
            self.retire_middle(old, guard);
            return;
        }
        // Leaves that were added in order stay together in a full node.
        let half = if path.slot + 2 >= new.len() { MIDDLE_LEN_JOINED } else { new.len() / 2 };
        let mut root = Builder::new(path.root.len() + 1);
        root.extend(path.root, 0..path.at);
        for range in [0..half, half..new.len()] {
            let mut part = Builder::new(range.len());
            part.extend(&new, range);
            let part = part.finish();
            self.inner_bytes.add(part.memory_bytes() as u64);
            let fence = part.fence(0).to_vec();
            root.push(&fence, Atomic::new(part));
        }
        root.extend(path.root, path.at + 1..path.root.len());
        let old = slot.load(Ordering::Acquire, guard);
        self.set_root(root.finish(), guard);
        self.retire_middle(old, guard);
    }

    pub(super) fn set_root(&self, root: Root, guard: &Guard) {
        self.inner_bytes.add(root.memory_bytes() as u64);
        let old = self.root.swap(Owned::new(root), Ordering::AcqRel, guard);
        // SAFETY: see `retire_middle`. A root does not own the nodes that it points to.
        unsafe {
            if let Some(old_root) = old.as_ref() {
                self.inner_bytes.subtract(old_root.memory_bytes() as u64);
                guard.defer_destroy(old);
            }
        }
    }

    /// Drops a middle node that was just replaced, when no thread can hold it any more.
    fn retire_middle(&self, old: epoch::Shared<'_, Middle>, guard: &Guard) {
        // SAFETY: `old` was reachable until now, so it is whole, and it is retired once: by the
        // holder of `structure` who unlinked it.
        unsafe {
            if let Some(node) = old.as_ref() {
                self.inner_bytes.subtract(node.memory_bytes() as u64);
                guard.defer_destroy(old);
            }
        }
    }

    /// Frees pages that no inner node names any more, when no thread can hold them.
    fn retire_pages(&self, pages: Vec<PageId>, guard: &Guard) {
        let arena = Arc::clone(&self.arena);
        guard.defer(move || {
            for page in pages {
                arena.free(page);
            }
        });
    }

    /// Merges the leaf of `key` with a neighbour, if the two fit in one page.
    pub(super) fn tidy(&self, key: &[u8], guard: &Guard) {
        let structure = self.structure.lock();
        let Some(mut path) = self.descend(key, guard) else { return };
        if path.middle.len() < MIDDLE_LEN_SPARSE && path.root.len() > 1 {
            self.join_middles(&structure, path.at.saturating_sub(1)..path.at + 2, guard);
            match self.descend(key, guard) {
                Some(joined) => path = joined,
                None => return,
            }
        }
        for first in [Some(path.slot), path.slot.checked_sub(1)].into_iter().flatten() {
            if first + 1 < path.middle.len() && self.merge_leaves(&structure, &path, first, guard) {
                return;
            }
        }
    }

    /// Merges two neighbours under one middle node, if they fit in one page.
    fn merge_leaves(
        &self,
        structure: &MutexGuard<'_, ()>,
        path: &Path<'_>,
        first: usize,
        guard: &Guard,
    ) -> bool {
        let (left, right) = (*path.middle.value(first), *path.middle.value(first + 1));
        let mut body = self.arena.page(left.page).write();
        let mut gone = self.arena.page(right.page).write();
        if !body.merge(&gone) {
            return false;
        }
        gone.generation = gone.generation.wrapping_add(1);
        let mut middle = Builder::new(path.middle.len());
        middle.extend(path.middle, 0..first + 1);
        middle.extend(path.middle, first + 2..path.middle.len());
        self.publish(structure, path, middle.finish(), guard);
        self.retire_pages(vec![right.page], guard);
        true
    }

    /// Joins neighbouring middle nodes of which one is short.
    fn join_middles(&self, _structure: &MutexGuard<'_, ()>, range: Range<usize>, guard: &Guard) {
        let root = self.root.load(Ordering::Acquire, guard);
        // SAFETY: as in `descend`.
        let Some(root) = (unsafe { root.as_ref() }) else { return };
        let middle = |at: usize| {
            let node = root.value(at).load(Ordering::Acquire, guard);
            // SAFETY: as in `descend`; nodes in a root are never null.
            unsafe { node.deref() }
        };
        let range = range.start..range.end.min(root.len());
        let mut new = Builder::new(root.len());
        let mut retired = Vec::new();
        new.extend(root, 0..range.start);
        let mut at = range.start;
        while at < range.end {
            let start = at;
            let mut len = middle(at).len();
            at += 1;
            while at < range.end {
                let next = middle(at).len();
                if len.min(next) >= MIDDLE_LEN_SPARSE || len + next > MIDDLE_LEN_JOINED {
                    break;
                }
                len += next;
                at += 1;
            }
            if at == start + 1 {
                new.extend(root, start..at);
                continue;
            }
            let mut joined = Builder::new(len);
            for part in start..at {
                joined.extend(middle(part), 0..middle(part).len());
                retired.push(root.value(part).load(Ordering::Acquire, guard));
            }
            let joined = joined.finish();
            self.inner_bytes.add(joined.memory_bytes() as u64);
            new.push(root.fence(start), Atomic::new(joined));
        }
        new.extend(root, range.end..root.len());
        if retired.is_empty() {
            return;
        }
        self.set_root(new.finish(), guard);
        for old in retired {
            self.retire_middle(old, guard);
        }
    }

    /// Removes the keys from `from` up to, not including, `to`; returns how many. Leaves that lie
    /// in the range are emptied and freed whole. Keys that are written meanwhile may stay.
    pub fn remove_range(&self, from: &[u8], to: &[u8]) -> u64 {
        let mut removed = 0;
        if from >= to {
            return removed;
        }
        // A node keeps one leaf, empty as it may be. Once such nodes are joined, a second round
        // finds them under few nodes.
        for _ in 0..2 {
            let mut cursor = from.to_vec();
            while cursor.as_slice() < to {
                let guard = epoch::pin();
                match self.remove_in_middle(&cursor, from, to, &mut removed, &guard) {
                    Some(end) => cursor = end,
                    None => break,
                }
            }
            let guard = epoch::pin();
            let structure = self.structure.lock();
            self.join_middles(&structure, 0..usize::MAX, &guard);
        }
        epoch::pin().flush();
        removed
    }

    /// Removes what one middle node has of a range, from `cursor` on. Returns the node's end.
    fn remove_in_middle(
        &self,
        cursor: &[u8],
        from: &[u8],
        to: &[u8],
        removed: &mut u64,
        guard: &Guard,
    ) -> Option<Vec<u8>> {
        let structure = self.structure.lock();
        let path = self.descend(cursor, guard)?;
        let middle = path.middle;
        let mut empty = Vec::new();
        for slot in path.slot..middle.len() {
            if slot > path.slot && middle.fence(slot) >= to {
                break;
            }
            let mut body = self.arena.page(middle.value(slot).page).write();
            let before = body.count();
            let end = if slot + 1 < middle.len() {
                Some(middle.fence(slot + 1))
            } else {
                path.middle_end()
            };
            let low = if middle.fence(slot) >= from { 0 } else { body.lower_bound(from) };
            let high = if end.is_some_and(|end| end <= to) { before } else { body.lower_bound(to) };
            body.remove_all(low..high.max(low));
            let gone = (before - body.count()) as u64;
            self.keys.subtract(gone);
            *removed += gone;
            // Some leaf must stay: the first may, if all others go.
            if body.count() == 0 && empty.len() + 1 < middle.len() {
                empty.push((slot, body));
            }
        }
        if !empty.is_empty() {
            let mut new = Builder::new(middle.len());
            let mut pages = Vec::with_capacity(empty.len());
            let mut next = 0;
            for (slot, body) in &mut empty {
                keep(&mut new, middle, next..*slot);
                next = *slot + 1;
                body.generation = body.generation.wrapping_add(1);
                pages.push(middle.value(*slot).page);
            }
            keep(&mut new, middle, next..middle.len());
            self.publish(&structure, &path, new.finish(), guard);
            drop(empty);
            self.retire_pages(pages, guard);
        }
        path.middle_end().map(<[u8]>::to_vec)
    }
}

/// Takes leaves over into a new middle node. The first one begins where the old node does.
fn keep(new: &mut Builder<Leaf>, middle: &Middle, range: Range<usize>) {
    if new.len() == 0 && !range.is_empty() {
        new.push(middle.fence(0), *middle.value(range.start));
        new.extend(middle, range.start + 1..range.end);
    } else {
        new.extend(middle, range);
    }
}

//! Ordered visits, a copied leaf at a time.

use std::ops::{Bound, ControlFlow, Range};

use crossbeam_epoch as epoch;

use super::arena::PAGE_BYTES;
use super::page::{Body, KeyBuffer};
use super::{Index, Location};

/// Where a walk over the leaves stands.
///
/// Each step copies one leaf and takes from it the keys between `cursor` and the leaf's end, as
/// the inner nodes knew it; the next step goes on at that end. Ranges of two steps never overlap,
/// so a key that is there all the time is met once, whatever is split or merged meanwhile.
pub(super) struct Walk {
    /// The copy of the step's leaf.
    pub(super) leaf: Body,
    cursor: Vec<u8>,
    done: bool,
}

impl Walk {
    pub(super) fn new(from: &[u8]) -> Self {
        Self { leaf: Body::empty(), cursor: from.to_vec(), done: false }
    }

    /// Copies the next leaf; returns the entries in it that belong to this step.
    pub(super) fn step(&mut self, index: &Index) -> Option<Range<usize>> {
        if self.done {
            return None;
        }
        let guard = epoch::pin();
        loop {
            let path = index.descend(&self.cursor, &guard)?;
            let leaf = path.leaf();
            index.arena.prefetch::<PAGE_BYTES>(leaf.page);
            let body = index.arena.page(leaf.page).read();
            if body.generation != leaf.generation {
                continue;
            }
            self.leaf = *body;
            drop(body);
            if let Some(next) = path.next() {
                index.arena.prefetch::<PAGE_BYTES>(next.page);
            }
            let start =
                if self.cursor.is_empty() { 0 } else { self.leaf.lower_bound(&self.cursor) };
            let end = match path.end() {
                Some(end) => {
                    self.cursor.clear();
                    self.cursor.extend_from_slice(end);
                    self.leaf.lower_bound(end)
                }
                None => {
                    self.done = true;
                    self.leaf.count()
                }
            };
            return Some(start..end.max(start));
        }
    }
}

impl Index {
    /// Visits keys from `from` on in byte order, until `visit` breaks or all are visited.
    ///
    /// Writers go on meanwhile: a key that is there all the time is visited exactly once, one that
    /// comes or goes at most once. No lock is held while `visit` runs, so it may use the index;
    /// locations are those of a moment before.
    pub fn scan(
        &self,
        from: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Location) -> ControlFlow<()>,
    ) {
        let (start, excluded) = match from {
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
            Bound::Unbounded => (&[][..], false),
        };
        let mut walk = Walk::new(start);
        let mut first = excluded;
        while let Some(range) = walk.step(self) {
            let leaf = &walk.leaf;
            let mut keys = KeyBuffer::new(leaf);
            for at in range {
                let (key, location) = keys.entry(leaf, at);
                if std::mem::take(&mut first) && key == start {
                    continue;
                }
                if visit(key, location).is_break() {
                    return;
                }
            }
        }
    }
}

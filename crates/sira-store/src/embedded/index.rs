//! The ordered index in memory: from keys to places in the log.
//!
//! A B+tree of three levels. The leaves are packed pages of 4 KiB (`page`) in one `arena`,
//! each behind a shared lock. The two levels above (`node`) never change: a split or merge makes
//! new nodes and swaps a pointer, and old ones are dropped when no thread can hold them any more
//! (epochs). So readers descend without a lock and take one lock, shared, at the leaf.
//!
//! Invariants:
//! - Leaves cover the key space in order, without gaps. A leaf's range shrinks only under its
//!   exclusive lock and with a new generation. Whoever comes to a leaf compares the generation with
//!   the one that led there, and descends again if it differs.
//! - Only the holder of `structure` changes inner nodes, frees a leaf or locks two leaves. Nobody
//!   waits for it while holding a leaf.
//! - The first fence of a middle node is the one that the root has for it.
//! - New inner nodes are published before the leaves that they describe are unlocked.
//! - A page is freed after the epoch in which the last node that names it was replaced, so no
//!   thread reads a page that is used again.
//!
//! Absent on purpose: versions of entries and snapshots (the log has them), and leaf chains (a scan
//! descends again for each leaf, so that it holds nothing between two).

mod arena;
mod image;
mod node;
mod page;
mod scan;
mod structure;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::{self as epoch, Atomic, Guard};
use parking_lot::Mutex;

pub use image::SavedIndex;

use arena::{Arena, PageId};
use node::Node;
use page::{Body, LOCATION_BYTES, Put};

/// Longest key of the index, in bytes: a namespace and a user's key.
pub const KEY_BYTES_MAX: usize = 4 + crate::limits::KEY_BYTES_MAX;

/// Bytes of a page that a search reads, but for one entry: lock, header and slots.
const SEARCHED_BYTES: usize = 12 * 64;

/// Where the newest frame of a key lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// Number of the segment.
    pub segment: u32,
    /// Start of the frame in the segment, in units of 4 bytes.
    pub offset: u32,
    /// Start of the item, in bytes from the start of the frame.
    pub item: u32,
    /// Size of the value, in bytes.
    pub size: u32,
    /// When the object may have expired, in coarse units; 0 when never.
    pub expiry: u32,
}

impl Location {
    fn to_bytes(self) -> [u8; LOCATION_BYTES] {
        let mut bytes = [0; LOCATION_BYTES];
        let fields = [self.segment, self.offset, self.item, self.size, self.expiry];
        for (place, field) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; LOCATION_BYTES]) -> Self {
        let mut fields = [0; 5];
        for (field, place) in fields.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *field = u32::from_le_bytes(*place);
        }
        let [segment, offset, item, size, expiry] = fields;
        Self { segment, offset, item, size, expiry }
    }
}

/// Why the index could not do what was asked. It is unchanged then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The key is over the limit.
    #[error("key of {bytes} bytes is over the index's limit of {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Size of the key.
        bytes: usize,
    },
    /// The operating system gave no memory for another page.
    #[error("no memory for another page of the index: free memory or raise the process' limit")]
    OutOfMemory,
    /// An image is damaged, cut, or none at all.
    #[error("index image is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// Where in the image the damage was found.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
}

/// A leaf, as the level above knows it.
#[derive(Clone, Copy)]
struct Leaf {
    page: PageId,
    generation: u32,
}

type Middle = Node<Leaf>;
type Root = Node<Atomic<Middle>>;

/// Alone in its cache lines, as every writer changes it.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
    fn subtract(&self, by: u64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }
    fn get(&self) -> u64 {
        // A removal may be counted before the insertion that it follows.
        self.0.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }
}

/// An ordered map from keys of up to [`KEY_BYTES_MAX`] bytes to [`Location`]s, for any number of
/// readers and writers at once.
///
/// Each call on one key is atomic. See the [module's documentation](self) for how it is built, and
/// `docs/formats/index.md` for the bytes.
pub struct Index {
    root: Atomic<Root>,
    arena: Arc<Arena>,
    structure: Mutex<()>,
    keys: Counter,
    inner_bytes: Counter,
}

/// The way from the root to a leaf.
struct Path<'g> {
    root: &'g Root,
    at: usize,
    middle: &'g Middle,
    slot: usize,
}

impl<'g> Path<'g> {
    fn leaf(&self) -> Leaf {
        *self.middle.value(self.slot)
    }

    /// The leaf behind, if it hangs on the same node.
    fn next(&self) -> Option<Leaf> {
        (self.slot + 1 < self.middle.len()).then(|| *self.middle.value(self.slot + 1))
    }

    /// First key that is behind the leaf, if any is.
    fn end(&self) -> Option<&'g [u8]> {
        if self.slot + 1 < self.middle.len() {
            Some(self.middle.fence(self.slot + 1))
        } else {
            self.middle_end()
        }
    }

    /// First key that is behind all leaves of the middle node.
    fn middle_end(&self) -> Option<&'g [u8]> {
        (self.at + 1 < self.root.len()).then(|| self.root.fence(self.at + 1))
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An empty index. It takes memory with its first key.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: Atomic::null(),
            arena: Arc::new(Arena::new()),
            structure: Mutex::new(()),
            keys: Counter::default(),
            inner_bytes: Counter::default(),
        }
    }

    /// The location of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Location> {
        let guard = epoch::pin();
        loop {
            let leaf = self.descend(key, &guard)?.leaf();
            self.arena.prefetch::<SEARCHED_BYTES>(leaf.page);
            let body = self.arena.page(leaf.page).read();
            if body.generation == leaf.generation {
                return body.search(key).ok().map(|at| body.location(at));
            }
        }
    }

    /// Sets the location of a key; returns the one it had.
    ///
    /// # Errors
    /// [`IndexError::KeyTooLong`]; [`IndexError::OutOfMemory`] when a page is needed.
    pub fn insert(&self, key: &[u8], location: Location) -> Result<Option<Location>, IndexError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(IndexError::KeyTooLong { bytes: key.len() });
        }
        let guard = epoch::pin();
        let put = match self.write(key, &guard, |body| body.put(key, location)) {
            Some(Put::Full) | None => self.put_with_split(key, location, &guard)?,
            Some(put) => put,
        };
        Ok(match put {
            Put::Replaced(previous) => Some(previous),
            Put::Added | Put::Full => {
                self.keys.add(1);
                None
            }
        })
    }

    /// Sets the location of a key if it is `expected`; says whether it was.
    pub fn replace(&self, key: &[u8], expected: Location, new: Location) -> bool {
        let guard = epoch::pin();
        self.write(key, &guard, |body| match body.search(key) {
            Ok(at) if body.location(at) == expected => {
                body.set_location(at, new);
                true
            }
            _ => false,
        })
        .unwrap_or(false)
    }

    /// Removes a key; returns the location it had.
    pub fn remove(&self, key: &[u8]) -> Option<Location> {
        self.remove_when(key, |_| true)
    }

    /// Removes a key if its location is `expected`; says whether it was.
    pub fn remove_if(&self, key: &[u8], expected: Location) -> bool {
        self.remove_when(key, |location| location == expected).is_some()
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.keys.get()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the index holds: pages in use and free ones kept for reuse, and inner
    /// nodes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.arena.resident_bytes() + self.inner_bytes.get()
    }

    fn remove_when(
        &self,
        key: &[u8],
        condition: impl FnOnce(Location) -> bool,
    ) -> Option<Location> {
        let guard = epoch::pin();
        let (location, sparse) = self.write(key, &guard, |body| {
            let at = body.search(key).ok()?;
            let location = body.location(at);
            if !condition(location) {
                return None;
            }
            body.remove(at);
            Some((location, body.is_sparse()))
        })??;
        self.keys.subtract(1);
        if sparse {
            self.tidy(key, &guard);
        }
        Some(location)
    }

    /// Runs `change` on the leaf that is responsible for `key`; `None` if the tree has no leaf.
    fn write<R>(
        &self,
        key: &[u8],
        guard: &Guard,
        change: impl FnOnce(&mut Body) -> R,
    ) -> Option<R> {
        loop {
            let leaf = self.descend(key, guard)?.leaf();
            self.arena.prefetch::<SEARCHED_BYTES>(leaf.page);
            let mut body = self.arena.page(leaf.page).write();
            if body.generation == leaf.generation {
                return Some(change(&mut body));
            }
        }
    }

    /// The way to the leaf that is responsible for `key`, as it was a moment ago.
    fn descend<'g>(&self, key: &[u8], guard: &'g Guard) -> Option<Path<'g>> {
        let root = self.root.load(Ordering::Acquire, guard);
        // SAFETY: the root is published whole (release) and dropped only after the epoch in which
        // it was replaced; the guard holds ours.
        let root = unsafe { root.as_ref() }?;
        let at = root.find(key);
        let middle = root.value(at).load(Ordering::Acquire, guard);
        // SAFETY: the same holds for the nodes below.
        let middle = unsafe { middle.as_ref() }?;
        Some(Path { root, at, middle, slot: middle.find(key) })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // SAFETY: `&mut self` says that no other thread uses the index, so the nodes are reachable
        // from here alone; those that were replaced are not among them.
        unsafe {
            let guard = epoch::unprotected();
            let root = self.root.swap(epoch::Shared::null(), Ordering::Relaxed, guard);
            if root.is_null() {
                return;
            }
            let root = root.into_owned();
            for at in 0..root.len() {
                drop(root.value(at).load(Ordering::Relaxed, guard).into_owned());
            }
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("keys", &self.len())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

//! Where pages live: anonymous memory in big extents that are never unmapped while the index lives.
//!
//! Extent `k` holds `64 << k` pages, so a page's address follows from its number and a table of 27
//! pointers. Memory is only taken when a page is first written; extents of 2 MiB and more ask for
//! huge pages.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::IndexError;
use super::page::Body;

/// Bytes of one page, its lock included.
pub(super) const PAGE_BYTES: usize = 4096;

const FIRST_EXTENT_PAGES: u64 = 64;
const EXTENTS: usize = 27;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Free pages that are kept for reuse besides a quarter of those in use; more go back to the
/// operating system.
const KEPT_PAGES_MIN: usize = 512;

/// A lock and the leaf it guards, in one page of memory.
#[repr(C, align(4096))]
pub(super) struct Page(RwLock<Body>);

const _: () = assert!(size_of::<Page>() == PAGE_BYTES);

/// Number of a page that [`Arena::allocate`] gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageId(u32);

pub(super) struct Arena {
    extents: [AtomicPtr<Page>; EXTENTS],
    resident: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    maps: Vec<Extent>,
    /// Pages given out at least once: the next new one.
    next: u32,
    used: usize,
    /// Free pages that still hold memory.
    kept: Vec<PageId>,
    /// Free pages whose memory the operating system has.
    returned: Vec<PageId>,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            extents: [const { AtomicPtr::new(std::ptr::null_mut()) }; EXTENTS],
            resident: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Bytes of pages in use, and of free ones that are kept.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident.load(Ordering::Relaxed) * PAGE_BYTES as u64
    }

    /// The lock and leaf of a page that was allocated and not freed.
    pub(super) fn page(&self, id: PageId) -> &RwLock<Body> {
        // SAFETY: `PageId`s are made by `allocate` only, which maps the extent and initializes the
        // page before it returns one. Extents stay mapped as long as `self`. A page that is free
        // is not reached: the tree frees one only after every thread that could have found it has
        // left its epoch.
        unsafe { &(*self.address(id)).0 }
    }

    /// Asks the processor to fetch the first bytes of a page and its last ones.
    pub(super) fn prefetch<const BYTES: usize>(&self, id: PageId) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let address = self.address(id).cast::<i8>();
            for line in 0..BYTES.min(PAGE_BYTES) / 64 {
                // SAFETY: a prefetch has no effect that a program can see, whatever the address;
                // this one lies within the page.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.add(line * 64)) };
            }
            // SAFETY: the same.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.add(PAGE_BYTES - 64)) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = id;
    }

    fn address(&self, id: PageId) -> *mut Page {
        let (extent, within) = position(id);
        // SAFETY: the id was given out by `allocate`, so the extent is mapped and `within` lies in
        // it.
        unsafe { self.extents[extent].load(Ordering::Acquire).add(within) }
    }

    /// A page with an empty leaf.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`] when the operating system gives no more.
    pub(super) fn allocate(&self) -> Result<PageId, IndexError> {
        let mut state = self.state.lock();
        let id = if let Some(id) = state.kept.pop() {
            id
        } else {
            let id = match state.returned.pop() {
                Some(id) => id,
                None => self.grow(&mut state)?,
            };
            self.resident.fetch_add(1, Ordering::Relaxed);
            id
        };
        state.used += 1;
        // SAFETY: the page is mapped and no one else has its number: it is new, or was freed by
        // the last one who could reach it.
        unsafe { self.address(id).write(Page(RwLock::new(Body::empty()))) };
        Ok(id)
    }

    fn grow(&self, state: &mut State) -> Result<PageId, IndexError> {
        let id = PageId(state.next);
        let next = state.next.checked_add(1).ok_or(IndexError::OutOfMemory)?;
        let (extent, _) = position(id);
        if extent == state.maps.len() {
            let map = Extent::map(PAGE_BYTES * (FIRST_EXTENT_PAGES << extent) as usize)?;
            self.extents[extent].store(map.base, Ordering::Release);
            state.maps.push(map);
        }
        state.next = next;
        Ok(id)
    }

    /// Takes a page back. No thread may be able to reach it any more.
    pub(super) fn free(&self, id: PageId) {
        let mut state = self.state.lock();
        state.used -= 1;
        state.kept.push(id);
        // Two a call, so that what is kept also shrinks while what is in use does.
        for _ in 0..2 {
            if state.kept.len() <= KEPT_PAGES_MIN + state.used / 4 {
                break;
            }
            let Some(id) = state.kept.pop() else { break };
            let (extent, within) = position(id);
            state.maps[extent].release(within);
            state.returned.push(id);
            self.resident.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Extent of a page, and its place there.
fn position(id: PageId) -> (usize, usize) {
    let biased = u64::from(id.0) + FIRST_EXTENT_PAGES;
    let extent = biased.ilog2() - FIRST_EXTENT_PAGES.ilog2();
    (extent as usize, (biased - (FIRST_EXTENT_PAGES << extent)) as usize)
}

struct Extent {
    map: memmap2::MmapMut,
    base: *mut Page,
}

impl Extent {
    fn map(bytes: usize) -> Result<Self, IndexError> {
        let huge = bytes >= HUGE_PAGE_BYTES;
        let (slack, align) =
            if huge { (HUGE_PAGE_BYTES, HUGE_PAGE_BYTES) } else { (0, PAGE_BYTES) };
        let length = bytes.checked_add(slack).ok_or(IndexError::OutOfMemory)?;
        let mut map = memmap2::MmapOptions::new()
            .len(length)
            .no_reserve_swap()
            .map_anon()
            .map_err(|_| IndexError::OutOfMemory)?;
        #[cfg(target_os = "linux")]
        if huge {
            // Only advice: without huge pages everything works, slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = map.as_mut_ptr();
        let skip = start.align_offset(align);
        if skip > slack {
            return Err(IndexError::OutOfMemory);
        }
        // SAFETY: `skip` is at most the slack that was mapped besides the extent's bytes.
        let base = unsafe { start.add(skip) }.cast::<Page>();
        Ok(Self { map, base })
    }

    /// Gives the memory of a page back; it reads as zeros until it is written again.
    fn release(&mut self, within: usize) {
        #[cfg(target_os = "linux")]
        {
            let skip = self.base as usize - self.map.as_ptr() as usize;
            // SAFETY: the page lies within this map, and nobody reads it before `allocate` has
            // written it whole again.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    skip + within * PAGE_BYTES,
                    PAGE_BYTES,
                )
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = within;
    }
}

// SAFETY: an extent owns its memory; the pointer is only a place within it.
unsafe impl Send for Extent {}

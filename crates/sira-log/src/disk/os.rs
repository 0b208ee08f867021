//! The operating system's files, memory-mapped.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::{Errno, pwritev};

use super::{Disk, DiskEntry, DiskFile, OpenMode};

/// Bytes of zeros written at a time when space is written out ahead.
const ZEROS: &[u8] = &[0; 64 * 1024];

/// Writes from this size on go through the operating system, which fills whole pages without
/// clearing them first; smaller ones are copied into the map, which needs no call.
const CALL_BYTES_MIN: usize = 16 << 10;

/// A sync of at least so many mapped bytes takes them out of the page table first: else the system
/// does it page by page, each time interrupting every processor that the process runs on.
const UNMAP_BYTES_MIN: u64 = 128 << 10;

/// Length that is a multiple of every page size in use.
const PAGE_BYTES: u64 = 64 << 10;

/// Parts that one call writes.
const WRITE_PARTS_MAX: usize = 16;

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode, reserve: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::Truncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        let file = options.open(path)?;
        let len = file.metadata()?.len();
        let span = usize::try_from(reserve.max(len)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = match span {
            0 => None,
            _ => {
                let mut request = MmapOptions::new();
                request.len(span);
                Some(if mode == OpenMode::Read {
                    request.map_raw_read_only(&file)?
                } else {
                    request.map_raw(&file)?
                })
            }
        };
        let map = map.map(|raw| Arc::new(Map { raw }));
        Ok(Arc::new(OsFile {
            file,
            map,
            len: AtomicU64::new(len),
            copied: AtomicU64::new(len),
            unmapped: AtomicU64::new(len),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DiskEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Send + Sync>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text.trim().to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(holder.as_bytes())?;
        Ok(Box::new(file))
    }
}

#[derive(Debug)]
struct Map {
    raw: MmapRaw,
}

/// A file and the shared map of its reserved span.
#[derive(Debug)]
struct OsFile {
    file: File,
    map: Option<Arc<Map>>,
    len: AtomicU64,
    /// End of what was copied into the map.
    copied: AtomicU64,
    /// Before this, syncs have taken it out of the page table.
    unmapped: AtomicU64,
}

impl OsFile {
    fn span(&self, offset: u64, len: usize) -> Option<(&Arc<Map>, usize)> {
        let end = offset.checked_add(len as u64)?;
        let map = self.map.as_ref()?;
        if end > self.len.load(Ordering::Acquire) || end > map.raw.len() as u64 {
            return None;
        }
        Some((map, usize::try_from(offset).ok()?))
    }

    /// Takes what was copied into the map out of the page table, where that is much. It is mapped
    /// again when it is next touched.
    fn unmap_copied(&self) {
        let Some(map) = &self.map else { return };
        // Where the next bytes go stays mapped.
        let end = self.copied.load(Ordering::Acquire).min(map.raw.len() as u64) / PAGE_BYTES;
        let start = self.unmapped.load(Ordering::Relaxed) / PAGE_BYTES;
        let (start, end) = (start * PAGE_BYTES, end * PAGE_BYTES);
        if end < start + UNMAP_BYTES_MIN {
            return;
        }
        if let (Ok(offset), Ok(len)) = (usize::try_from(start), usize::try_from(end - start)) {
            // SAFETY: for a shared map of a file, dropping pages from the page table changes
            // nothing that a read or a write can see: both find the page cache again.
            let advised =
                unsafe { map.raw.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
            if advised.is_ok() {
                self.unmapped.store(end, Ordering::Relaxed);
            }
        }
    }
}

/// A range of a map, kept alive by it.
struct MapRange {
    map: Arc<Map>,
    offset: usize,
    len: usize,
}

impl AsRef<[u8]> for MapRange {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `OsFile::read` checked the range against the map and the file's length, the
        // `Arc` keeps the map, and `DiskFile` forbids writing a range that was handed out.
        unsafe { std::slice::from_raw_parts(self.map.raw.as_ptr().add(self.offset), self.len) }
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let total = parts.iter().map(|part| part.len()).sum();
        let Some((map, start)) = self.span(offset, total) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "write past the allocated end of the file",
            ));
        };
        if total >= CALL_BYTES_MIN {
            return write_all(&self.file, offset, parts);
        }
        let mut at = start;
        for part in parts {
            // SAFETY: `span` checked the whole range against the map and the file's length, and
            // `DiskFile` promises that nobody reads or writes this range at the same time.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    part.as_ptr(),
                    map.raw.as_mut_ptr().add(at),
                    part.len(),
                );
            }
            at += part.len();
        }
        // Writers take turns, and nearly all write behind the last.
        if self.copied.load(Ordering::Relaxed) < at as u64 {
            self.copied.store(at as u64, Ordering::Release);
        }
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let Some((map, offset)) = self.span(offset, len) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok(Bytes::from_owner(MapRange { map: Arc::clone(map), offset, len }))
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let (map, offset) = self.span(offset, len)?;
        // SAFETY: as in `MapRange::as_ref`; the borrow of `self` keeps the map.
        Some(unsafe { std::slice::from_raw_parts(map.raw.as_ptr().add(offset), len) })
    }

    fn allocate(&self, len: u64, written: bool) -> io::Result<()> {
        let old = self.len();
        if len <= old {
            return Ok(());
        }
        if self.map.as_ref().is_none_or(|map| (map.raw.len() as u64) < len) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "allocate past the reserve"));
        }
        match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
            Ok(()) => {}
            // File systems without fallocate: writing the zeros reserves the space.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&self.file, old, len)?,
            Err(error) => {
                // A partial reservation must not stay behind as length.
                self.file.set_len(old)?;
                return Err(error.into());
            }
        }
        if written {
            write_zeros(&self.file, old, len)
                .and_then(|()| self.file.sync_data())
                // The space was there: whatever this is, it is no lack of it.
                .map_err(|error| io::Error::other(format!("cannot write zeros: {error}")))?;
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len.fetch_min(len, Ordering::AcqRel);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.unmap_copied();
        self.file.sync_data()
    }
}

/// Writes all parts through the operating system.
fn write_all(file: &File, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); WRITE_PARTS_MAX];
    let mut at = offset;
    for some in parts.chunks(WRITE_PARTS_MAX) {
        for (slice, part) in slices.iter_mut().zip(some) {
            *slice = IoSlice::new(part);
        }
        let mut rest = &mut slices[..some.len()];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match pwritev(file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let count = usize::try_from(to - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all_at(&ZEROS[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

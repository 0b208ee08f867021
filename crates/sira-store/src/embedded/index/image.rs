//! The index as a stream of bytes, and back. `docs/formats/index.md` has the diagrams.

use std::io;

use crossbeam_epoch::{self as epoch, Atomic};

use super::node::Builder;
use super::page::{KeyBuffer, fence};
use super::scan::Walk;
use super::structure::MIDDLE_LEN_JOINED;
use super::{Index, IndexError, Leaf};

const MAGIC: [u8; 8] = *b"SIRAIDX\x01";
const MAGIC_END: [u8; 8] = *b"SIRAEND\x01";
/// Magic, zeros, checksum.
const HEADER_BYTES: usize = 16;
/// Size of the record, checksum.
const RECORD_HEADER_BYTES: usize = 8;
/// Zero, checksum, magic, pages, keys.
const TRAILER_BYTES: usize = 32;
/// Bytes that are collected before they are handed to the sink.
const CHUNK_BYTES: usize = 256 << 10;

/// What an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SavedIndex {
    /// Number of pages.
    pub pages: u64,
    /// Number of keys.
    pub keys: u64,
    /// Size of the image.
    pub bytes: u64,
}

impl Index {
    /// Writes an image of the index, in order and in pieces of some hundred KiB.
    ///
    /// Writers go on meanwhile: a key that is there all the time is in the image exactly once, with
    /// a location that it had at some moment of the call.
    ///
    /// # Errors
    /// The sink's. What it took until then is not an image.
    pub fn save(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<SavedIndex> {
        let mut saved = SavedIndex::default();
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + 2 * super::arena::PAGE_BYTES);
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        let mut chain = crc32c::crc32c(&buffer);
        buffer.extend_from_slice(&chain.to_le_bytes());
        let mut walk = Walk::new(&[]);
        while let Some(range) = walk.step(self) {
            let leaf = &mut walk.leaf;
            if range.is_empty() {
                continue;
            }
            leaf.keep(range);
            saved.pages += 1;
            saved.keys += leaf.count() as u64;
            let start = buffer.len();
            buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
            leaf.write_record(&mut buffer);
            let bytes = (buffer.len() - start - RECORD_HEADER_BYTES) as u32;
            buffer[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
            chain = record_checksum(chain, bytes, &buffer[start + RECORD_HEADER_BYTES..]);
            buffer[start + 4..start + 8].copy_from_slice(&chain.to_le_bytes());
            if buffer.len() >= CHUNK_BYTES {
                sink(&buffer)?;
                saved.bytes += buffer.len() as u64;
                buffer.clear();
            }
        }
        let trailer = trailer(chain, &saved);
        buffer.extend_from_slice(&trailer);
        sink(&buffer)?;
        saved.bytes += buffer.len() as u64;
        Ok(saved)
    }

    /// The index that an image was made of. Pages are copied as they are; only the inner nodes are
    /// built anew.
    ///
    /// # Errors
    /// [`IndexError::Corrupt`] for anything but a whole and undamaged image;
    /// [`IndexError::OutOfMemory`].
    pub fn load(image: &[u8]) -> Result<Self, IndexError> {
        let mut reader = Reader { image, at: 0 };
        let header = reader.take::<HEADER_BYTES>()?;
        let checksum = crc32c::crc32c(&header[..12]);
        if header[..8] != MAGIC || header[8..12] != [0; 4] || header[12..] != checksum.to_le_bytes()
        {
            return Err(reader.corrupt("no header of an index image"));
        }
        let mut chain = checksum;
        let index = Self::new();
        let mut saved = SavedIndex::default();
        let mut inner = InnerBuilder::default();
        let mut last = Vec::new();
        loop {
            let record = reader.at;
            let size = u32::from_le_bytes(reader.take()?);
            let found = u32::from_le_bytes(reader.take()?);
            if size == 0 {
                reader.at = record;
                let bytes = reader.take::<TRAILER_BYTES>()?;
                if bytes != trailer(chain, &saved) {
                    return Err(reader.corrupt("the trailer does not match the pages"));
                }
                if reader.at != image.len() {
                    return Err(reader.corrupt("bytes after the trailer"));
                }
                break;
            }
            let bytes = reader.slice(size as usize)?;
            chain = record_checksum(chain, size, bytes);
            if found != chain {
                return Err(reader.corrupt("a page does not match its checksum"));
            }
            let page = index.arena.allocate()?;
            let mut body = index.arena.page(page).write();
            body.read_record(bytes).map_err(|reason| reader.corrupt(reason))?;
            let (mut first, mut end) = (KeyBuffer::new(&body), KeyBuffer::new(&body));
            let first = first.key(&body, 0);
            let leaf = Leaf { page, generation: body.generation };
            if saved.pages == 0 {
                inner.push(&[], leaf);
            } else if first <= last.as_slice() {
                return Err(reader.corrupt("pages are out of order"));
            } else {
                inner.push(fence(&last, first), leaf);
            }
            last.clear();
            last.extend_from_slice(end.key(&body, body.count() - 1));
            saved.pages += 1;
            saved.keys += body.count() as u64;
        }
        inner.finish(&index);
        index.keys.add(saved.keys);
        Ok(index)
    }
}

/// Checksum of a page that follows on the record with checksum `chain`.
fn record_checksum(chain: u32, size: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &size.to_le_bytes()), bytes)
}

fn trailer(chain: u32, saved: &SavedIndex) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    bytes[8..16].copy_from_slice(&MAGIC_END);
    bytes[16..24].copy_from_slice(&saved.pages.to_le_bytes());
    bytes[24..].copy_from_slice(&saved.keys.to_le_bytes());
    let checksum = crc32c::crc32c_append(chain, &bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The inner levels over leaves that come in order.
#[derive(Default)]
struct InnerBuilder {
    leaves: Vec<(Box<[u8]>, Leaf)>,
    middles: Vec<super::Middle>,
}

impl InnerBuilder {
    fn push(&mut self, fence: &[u8], leaf: Leaf) {
        self.leaves.push((fence.into(), leaf));
        if self.leaves.len() == MIDDLE_LEN_JOINED {
            self.close();
        }
    }

    fn close(&mut self) {
        let mut middle = Builder::new(self.leaves.len());
        for (fence, leaf) in self.leaves.drain(..) {
            middle.push(&fence, leaf);
        }
        self.middles.push(middle.finish());
    }

    fn finish(mut self, index: &Index) {
        if !self.leaves.is_empty() {
            self.close();
        }
        if self.middles.is_empty() {
            return;
        }
        let mut root = Builder::new(self.middles.len());
        for middle in self.middles {
            index.inner_bytes.add(middle.memory_bytes() as u64);
            let fence = middle.fence(0).to_vec();
            root.push(&fence, Atomic::new(middle));
        }
        index.set_root(root.finish(), &epoch::pin());
    }
}

struct Reader<'a> {
    image: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, bytes: usize) -> Result<&'a [u8], IndexError> {
        let slice = self
            .image
            .get(self.at..)
            .and_then(|rest| rest.get(..bytes))
            .ok_or_else(|| self.corrupt("the image ends too early"))?;
        self.at += bytes;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| self.corrupt("the image ends too early"))
    }

    fn corrupt(&self, reason: &'static str) -> IndexError {
        IndexError::Corrupt { offset: self.at as u64, reason }
    }
}

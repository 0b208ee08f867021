//! The index beside the segments: which times and sequences lie where.
//!
//! Derived from sealed segments, one `.idx` file a month. A file that does not verify is made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, read_all, write_atomically};
use crate::error::{LogError, Result};
use crate::log::{Found, SEGMENT_START, Segment, SegmentLog};
use crate::record::ContentKind;

const MAGIC: [u8; 8] = *b"SIRALIX1";
const BLOCK_ENTRY_BYTES: usize = 40;

/// Log bytes that one block of the index covers, at least.
const BLOCK_BYTES: u64 = 64 << 10;

/// A run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub offset: u64,
    pub end: u64,
    pub sequence: u64,
    pub time_min: u64,
    pub time_max: u64,
}

/// The blocks of one sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SegmentIndex {
    pub blocks: Vec<Block>,
}

impl SegmentIndex {
    /// Newest time of a record; `None` without records.
    pub(super) fn time_max(&self) -> Option<u64> {
        self.blocks.iter().map(|block| block.time_max).max()
    }

    fn build(segment: &Segment) -> Result<Self> {
        let bytes = segment.read_used()?;
        let scanner = segment.scanner(&bytes);
        let mut blocks: Vec<Block> = Vec::new();
        let mut offset = SEGMENT_START;
        while offset < segment.used() {
            let record = match scanner.at(offset, None) {
                Found::Record(record) => record,
                // Damage is the reader's to report.
                _ => match scanner.resync(offset + 4, 0) {
                    Some(record) => record,
                    None => break,
                },
            };
            offset = record.end();
            if ContentKind::from_u8(record.header.kind).is_none() {
                if let Some(block) = blocks.last_mut() {
                    block.end = offset;
                }
                continue;
            }
            let time = record.header.time;
            match blocks.last_mut() {
                Some(block) if block.end - block.offset < BLOCK_BYTES => {
                    block.end = record.end();
                    block.time_min = block.time_min.min(time);
                    block.time_max = block.time_max.max(time);
                }
                _ => blocks.push(Block {
                    offset: record.position.offset,
                    end: record.end(),
                    sequence: record.header.sequence,
                    time_min: time,
                    time_max: time,
                }),
            }
        }
        Ok(Self { blocks })
    }
}

/// Indexes of sealed segments, read or made when first asked for.
#[derive(Debug, Default)]
pub(super) struct SegmentIndexes {
    known: Mutex<BTreeMap<u32, Arc<SegmentIndex>>>,
}

impl SegmentIndexes {
    /// The index of a sealed segment.
    pub(super) fn get(&self, log: &SegmentLog, segment: &Segment) -> Result<Arc<SegmentIndex>> {
        let mut known = self.known.lock();
        if let Some(index) = known.get(&segment.id) {
            return Ok(Arc::clone(index));
        }
        let path = index_path(log, &segment.path);
        let mut stored = load(&**log.disk(), &path).unwrap_or_default();
        let index = match stored.get(&segment.id).filter(|index| covers(index, segment)) {
            Some(index) => Arc::new(index.clone()),
            None => {
                let index = SegmentIndex::build(segment)?;
                stored.insert(segment.id, index.clone());
                write_atomically(&**log.disk(), &path, &encode(&stored))
                    .map_err(LogError::io("write", &path))?;
                Arc::new(index)
            }
        };
        known.insert(segment.id, Arc::clone(&index));
        Ok(index)
    }

    /// Drops the index of a segment that was removed.
    pub(super) fn forget(&self, log: &SegmentLog, id: u32) -> Result<()> {
        self.known.lock().remove(&id);
        let disk = &**log.disk();
        let root = log.root();
        for month in disk.list(root).map_err(LogError::io("list", root))? {
            let path = root.join(&month.name).join(format!("{}.idx", log.options().stem));
            if !month.is_dir || !disk.exists(&path) {
                continue;
            }
            let mut stored = load(disk, &path).unwrap_or_default();
            if stored.remove(&id).is_none() {
                continue;
            }
            if stored.is_empty() {
                disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
            } else {
                write_atomically(disk, &path, &encode(&stored))
                    .map_err(LogError::io("write", &path))?;
            }
        }
        Ok(())
    }
}

fn index_path(log: &SegmentLog, segment: &Path) -> PathBuf {
    segment.with_file_name(format!("{}.idx", log.options().stem))
}

/// Whether the blocks reach to the end of the segment.
fn covers(index: &SegmentIndex, segment: &Segment) -> bool {
    index.blocks.last().map_or(segment.used() == SEGMENT_START, |last| last.end == segment.used())
}

fn encode(indexes: &BTreeMap<u32, SegmentIndex>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (id, index) in indexes {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&(index.blocks.len() as u32).to_le_bytes());
        for block in &index.blocks {
            for word in [block.offset, block.end, block.sequence, block.time_min, block.time_max] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads an index file; `None` for one that is not there or does not verify.
fn load(disk: &dyn Disk, path: &Path) -> Option<BTreeMap<u32, SegmentIndex>> {
    if !disk.exists(path) {
        return None;
    }
    decode(&read_all(disk, path).ok()?)
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<u32, SegmentIndex>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = body.strip_prefix(&MAGIC)?;
    let mut indexes = BTreeMap::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let count = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (blocks, after) = after.split_at_checked(count.checked_mul(BLOCK_ENTRY_BYTES)?)?;
        let mut index = SegmentIndex::default();
        for entry in blocks.as_chunks::<BLOCK_ENTRY_BYTES>().0 {
            let mut words = entry.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            index.blocks.push(Block {
                offset: words.next()?,
                end: words.next()?,
                sequence: words.next()?,
                time_min: words.next()?,
                time_max: words.next()?,
            });
        }
        indexes.insert(id, index);
        rest = after;
    }
    rest.is_empty().then_some(indexes)
}

//! Codec contexts and buffers that wait for their next use: to make them takes longer than to
//! compress a small value.

use parking_lot::Mutex;

/// Most of a kind that wait; more are in use only while more threads seal at once.
const KEPT: usize = 16;

/// Highest level of Zstandard whose contexts are kept: those of higher ones take much memory.
const LEVEL_MAX: i32 = 9;

/// What compresses.
pub(super) struct Press {
    pub(super) level: i32,
    pub(super) zstd: zstd::bulk::Compressor<'static>,
    /// At least as long as the longest segment so far.
    pub(super) buffer: Vec<u8>,
}

static PRESSES: Mutex<Vec<Press>> = Mutex::new(Vec::new());

static DECOMPRESSORS: Mutex<Vec<zstd::bulk::Decompressor<'static>>> = Mutex::new(Vec::new());

impl Press {
    /// One for a level; `None` when there is no memory for it.
    pub(super) fn take(level: i32) -> Option<Self> {
        let kept = if level <= LEVEL_MAX { PRESSES.lock().pop() } else { None };
        if let Some(mut press) = kept {
            if press.level == level {
                return Some(press);
            }
            if press.zstd.set_compression_level(level).is_ok() {
                press.level = level;
                return Some(press);
            }
        }
        let zstd = zstd::bulk::Compressor::new(level).ok()?;
        Some(Self { level, zstd, buffer: Vec::new() })
    }

    pub(super) fn give_back(self) {
        if self.level <= LEVEL_MAX {
            keep(&PRESSES, self);
        }
    }
}

/// What decompresses; `None` when there is no memory for it.
pub(super) fn take_decompressor() -> Option<zstd::bulk::Decompressor<'static>> {
    let kept = DECOMPRESSORS.lock().pop();
    kept.or_else(|| zstd::bulk::Decompressor::new().ok())
}

pub(super) fn give_back_decompressor(decompressor: zstd::bulk::Decompressor<'static>) {
    keep(&DECOMPRESSORS, decompressor);
}

fn keep<T>(pool: &Mutex<Vec<T>>, item: T) {
    let mut pool = pool.lock();
    if pool.len() < KEPT {
        pool.push(item);
    }
}

//! A few objects of each namespace, read.

use std::collections::BTreeMap;
use std::io::Read;

use sira_store::{ListOptions, StorageError};

use crate::failure::Outcome;
use crate::path::Location;
use crate::target::{HttpTarget, Target};

/// Keys of a namespace that are looked at.
const KEYS: usize = 1_000;

/// Bytes of an object that are read.
const BYTES_MAX: u64 = 256 << 10;

/// Level of Zstandard: the codec's own.
const LEVEL: i32 = 3;

/// What was sampled of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// What Zstandard makes of these bytes.
    pub zstd_bytes: u64,
    /// When each was written, in milliseconds since the Unix epoch, and its size in bytes.
    pub written: Vec<(u64, u64)>,
}

/// Reads up to `count` objects of each namespace, spread over its first keys.
///
/// # Errors
/// Those of the server.
pub fn take(target: &HttpTarget, count: usize) -> Outcome<BTreeMap<String, Sample>> {
    let mut samples = BTreeMap::new();
    if count == 0 {
        return Ok(samples);
    }
    for namespace in target.namespaces()? {
        let options = ListOptions { limit: KEYS, ..ListOptions::default() };
        let page = match target.list(&namespace, options, false) {
            Ok(page) => page,
            // One that cannot be listed says nothing of the others.
            Err(StorageError::Unsupported(_) | StorageError::Unavailable(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let step = page.entries.len().div_ceil(count).max(1);
        let mut sample = Sample::default();
        for entry in page.entries.iter().step_by(step).filter(|entry| entry.size > 0) {
            let at = Location { namespace: namespace.clone(), key: entry.key.clone() };
            read(target, &at, entry.size, &mut sample)?;
        }
        if sample.objects > 0 {
            samples.insert(namespace, sample);
        }
    }
    Ok(samples)
}

fn read(target: &HttpTarget, at: &Location, size: u64, sample: &mut Sample) -> Outcome {
    let range = (size > BYTES_MAX).then_some(0..BYTES_MAX);
    let download = match target.get(at, range) {
        Ok(Some(download)) => download,
        // It went meanwhile, or cannot be read: the health of the backend tells of that.
        Ok(None) | Err(StorageError::Corrupt(_) | StorageError::Unavailable(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    let mut reader = download.reader.take(BYTES_MAX);
    if reader.read_to_end(&mut bytes).is_err() {
        return Ok(());
    }
    let Ok(packed) = zstd::bulk::compress(&bytes, LEVEL) else { return Ok(()) };
    sample.objects += 1;
    sample.bytes += bytes.len() as u64;
    sample.zstd_bytes += packed.len().min(bytes.len()) as u64;
    sample.written.push((download.head.version.time_ms(), download.head.size));
    Ok(())
}

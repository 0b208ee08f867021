//! Payloads that hold whole frames of the log, made for the very place where they will lie.

use std::path::{Path, PathBuf};

use sira_log::disk::{SimDisk, read_all};
use sira_log::env::SeededRandom;
use sira_log::frame::{BinaryLogCursor, BinaryLogFormat, BinaryLogWriter};
use sira_log::record::{
    ContentKind, LogPosition, RECORD_BODY_OFFSET, RECORD_HEADER_BYTES, RecordHeader,
};

/// Bytes of an item's fixed part, and where its checksum lies in it.
const ITEM_BYTES: usize = 28;
const ITEM_CRC: usize = 24;

pub(super) struct Forgery {
    pub(super) payload: Vec<u8>,
    /// Where the frame that carries the payload will lie.
    pub(super) path: PathBuf,
    pub(super) frame: u64,
}

struct Known {
    path: PathBuf,
    segment: u32,
    bytes: Vec<u8>,
}

/// Segment files, oldest first.
fn segments(disk: &SimDisk) -> Vec<Known> {
    let number = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("store.")?.parse().ok()
    };
    let mut known: Vec<Known> = disk
        .files()
        .into_iter()
        .filter_map(|(path, _)| {
            let segment = number(&path)?;
            let bytes = read_all(disk, &path).ok()?.to_vec();
            Some(Known { path, segment, bytes })
        })
        .collect();
    known.sort_by_key(|known| known.segment);
    known
}

/// A payload with a record that was never written, for a value whose item begins with `before`
/// bytes of key and metadata. Its salt is `salt`, or else that of an older segment, as the author
/// could have learned it from a copy of the files.
pub(super) fn payload(
    disk: &SimDisk,
    rng: &mut SeededRandom,
    before: usize,
    salt: Option<u64>,
) -> Option<Forgery> {
    let segments = segments(disk);
    let newest = segments.last()?;
    let mut cursor = BinaryLogCursor::at_start(newest.bytes.as_slice());
    let mut next_sequence = 0;
    let mut victims = Vec::new();
    while let Ok(Some(frame)) = cursor.next_frame() {
        let place = LogPosition { segment: newest.segment, offset: frame.start };
        let header = RecordHeader::decode(&frame.envelope, place, frame.envelope.len() as u32)?;
        next_sequence = header.sequence + u64::from(header.count);
        let body = &frame.envelope[RECORD_HEADER_BYTES..];
        let plain = header.kind == ContentKind::Custom as u8 && header.flags == 0;
        if plain && body.len() < 3_000 && body.starts_with(&[1, 0]) {
            victims.push((header, frame.envelope));
        }
    }
    let end = cursor.position();
    let (mut header, envelope) = victims.get(rng.below(victims.len() as u64) as usize)?.clone();
    let older = || -> Option<u64> {
        let oldest = segments.first().filter(|oldest| oldest.segment != newest.segment)?;
        let at = BinaryLogFormat::HEAD_BYTES + 8;
        Some(u64::from_le_bytes(*oldest.bytes.get(at..)?.first_chunk()?))
    };
    header.salt = salt.or_else(older)?;
    header.sequence = next_sequence + rng.below(3);
    // A version that nobody was given.
    header.time += (1 << 30) + rng.below(1 << 20);

    let start = end + (RECORD_BODY_OFFSET + ITEM_BYTES + before) as u64;
    let place = LogPosition { segment: newest.segment, offset: start.next_multiple_of(4) };
    let mut forged = envelope.to_vec();
    let item = &envelope[RECORD_HEADER_BYTES..];
    let crc = crc32c::crc32c(&item[..ITEM_CRC]);
    let crc = crc32c::crc32c_append(crc, &header.time.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &item[ITEM_BYTES..]);
    let at = RECORD_HEADER_BYTES + ITEM_CRC;
    forged[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    forged[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode(place, envelope.len() as u32));

    let mut payload = vec![b'x'; (place.offset - start) as usize];
    let mut writer = BinaryLogWriter::new(&mut payload);
    writer.append(&[&forged]).ok()?;
    let tail = rng.below(600) as usize;
    payload.extend(std::iter::repeat_n(b'y', tail));
    Some(Forgery { payload, path: newest.path.clone(), frame: end })
}

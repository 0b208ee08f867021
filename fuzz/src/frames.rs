//! Frames and records out of any bytes, forward and backward.

use std::io::Cursor;

use bytes::Bytes;
use sira_log::frame::{Frame, FrameError, FrameSource, ReaderSource};
use sira_log::log::{Found, SegmentBytes};
use sira_log::record::{LogPosition, RecordHeader};
use sira_log::{BinaryLogCursor, BinaryLogFormat, BinaryLogWriter};

use crate::Input;

/// Words of the format.
pub const WORDS: &[&[u8]] = &[
    b"ELOG",
    b"ELOG\0\0\0\0",
    b"ELOG\x28\0\0\0",
    b"ELOG\xFF\xFF\xFF\xFF",
    b"\xFC\xFF\xFF\xFF",
    &[0; 8],
    &[0; 64],
];

const SEGMENT: u32 = 3;
const SALT: u64 = 0x5A17;

/// The rest of the input as it is, or frames and records that it describes with bytes changed in
/// them: checksums are right there, and the fuzzer gets past them.
///
/// ```text
/// raw:   | 0 | bytes |
/// built: | 1 | then: 0 | envelope run; 1 | record run; 2 | bytes run; 3 | place 2, byte 1 |
/// ```
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes = if input.byte().is_multiple_of(2) { input.rest().to_vec() } else { built(input) };
    frames(&bytes);
    records(&bytes);
}

fn built(mut input: Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sequence = 0;
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => bytes.extend(frame(&[input.run()])),
            1 => {
                let (kind, data) = (input.byte(), input.run());
                let header = RecordHeader {
                    kind,
                    flags: 0,
                    data_offset: 40 + u32::from(kind) % 8,
                    salt: SALT,
                    sequence,
                    time: 0,
                    count: u32::from(kind) % 3,
                };
                sequence += u64::from(header.count);
                let place = LogPosition { segment: SEGMENT, offset: bytes.len() as u64 };
                let header = header.encode(place, (40 + data.len()) as u32);
                bytes.extend(frame(&[&header, data]));
            }
            2 => bytes.extend_from_slice(input.run()),
            _ => {
                let (at, byte) = (input.short(), input.byte());
                let len = bytes.len().max(1);
                if let Some(place) = bytes.get_mut(usize::from(at) % len) {
                    *place = byte;
                }
            }
        }
    }
    bytes
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut writer = BinaryLogWriter::new(Vec::new());
    writer.append(parts).expect("memory takes every frame of this size");
    writer.into_inner()
}

type Step = Result<Option<Frame>, String>;

fn told<T>(result: Result<T, FrameError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Walks forward from the start. Every source tells the same.
fn forward(source: impl FrameSource, steps: &mut Vec<Step>) {
    let mut cursor = BinaryLogCursor::at_start(source);
    loop {
        let before = cursor.position();
        let step = told(cursor.next_frame());
        match &step {
            Ok(Some(frame)) => {
                let total = BinaryLogFormat::frame_len(frame.envelope.len() as u64);
                assert_eq!((frame.start, frame.end), (before, before + total));
                assert_eq!(cursor.position(), frame.end);
            }
            _ => assert_eq!(cursor.position(), before, "the cursor moved and gave no frame"),
        }
        let ended = !matches!(step, Ok(Some(_)));
        steps.push(step);
        if ended {
            return;
        }
    }
}

fn frames(bytes: &[u8]) {
    let (mut slice, mut shared, mut reader) = (Vec::new(), Vec::new(), Vec::new());
    forward(bytes, &mut slice);
    forward(Bytes::copy_from_slice(bytes), &mut shared);
    forward(ReaderSource(Cursor::new(bytes)), &mut reader);
    assert_eq!(slice, shared);
    assert_eq!(slice, reader);

    // Each step forward can be undone.
    let mut cursor = BinaryLogCursor::at_start(bytes);
    for frame in slice.iter().filter_map(|step| step.as_ref().ok()?.as_ref()) {
        cursor.seek(frame.end);
        assert_eq!(told(cursor.previous_frame()).as_ref(), Ok(&Some(frame.clone())));
    }
    // And what is found backward, from wherever it is looked for, is there forward too.
    for end in (0..=bytes.len() as u64 + 8).step_by(4) {
        cursor.seek(end);
        if let Ok(Some(frame)) = cursor.previous_frame() {
            assert_eq!((cursor.position(), frame.end), (frame.start, end));
            assert_eq!(told(cursor.next_frame()).as_ref(), Ok(&Some(frame)));
        } else {
            assert_eq!(cursor.position(), end, "the cursor moved and gave no frame");
        }
    }
}

fn records(bytes: &[u8]) {
    let scanner = SegmentBytes { bytes, segment: SEGMENT, salt: SALT };
    for offset in (0..=bytes.len() as u64 + 4).step_by(4) {
        match scanner.at(offset, None) {
            Found::Record(record) => {
                assert_eq!(record.position, LogPosition { segment: SEGMENT, offset });
                assert_eq!(record.header.salt, SALT);
                assert!(offset < record.end() && record.end() <= bytes.len() as u64);
                assert!(record.data().len() + record.head().len() + 40 == record.envelope.len());
                let wanted = record.header.sequence;
                assert!(matches!(scanner.at(offset, Some(wanted)), Found::Record(_)));
                assert!(!matches!(scanner.at(offset, Some(wanted + 1)), Found::Record(_)));
                let found = scanner.resync(offset, wanted).map(|record| record.position.offset);
                assert_eq!(found, Some(offset));
            }
            Found::End => {
                let rest = bytes.get(offset as usize..).unwrap_or(&[]);
                assert!(rest.iter().all(|byte| *byte == 0), "an end with bytes behind it");
            }
            Found::Bad { complete } => {
                let whole = complete.is_none_or(|end| offset < end && end <= bytes.len() as u64);
                assert!(whole, "a damaged frame that reaches over the end");
            }
        }
    }
}

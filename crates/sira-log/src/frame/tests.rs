use std::io::Cursor;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn written(envelopes: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = BinaryLogWriter::new(Vec::new());
    for envelope in envelopes {
        let (a, b) = envelope.split_at(envelope.len() / 2);
        writer.append(&[a, b]).unwrap();
    }
    writer.into_inner()
}

#[test]
fn golden_frame() {
    // Magic, length 5, "hello", padding 3, length 5, CRC32C over "hello", padding and length.
    let bytes = written(&[b"hello".to_vec()]);
    let crc = crc32c::crc32c(b"hello\0\0\0\x05\0\0\0").to_le_bytes();
    let mut expected = b"ELOG\x05\0\0\0hello\0\0\0\x05\0\0\0".to_vec();
    expected.extend_from_slice(&crc);
    assert_eq!(bytes, expected);
    assert_eq!(bytes, include_bytes!("../../tests/golden/frame-v1.bin"));
}

#[test]
fn streamed_frames_equal_one_shot_frames() {
    let mut streamed = BinaryLogWriter::new(Cursor::new(Vec::new()));
    for envelope in [b"".as_slice(), b"abc", b"abcdefgh"] {
        let mut frame = streamed.stream().unwrap();
        for byte in envelope {
            frame.write(&[*byte]).unwrap();
        }
        frame.finish().unwrap();
    }
    let expected = written(&[b"".to_vec(), b"abc".to_vec(), b"abcdefgh".to_vec()]);
    assert_eq!(streamed.into_inner().into_inner(), expected);
}

#[test]
fn an_unfinished_stream_is_no_frame() {
    let mut writer = BinaryLogWriter::new(Cursor::new(Vec::new()));
    writer.append(&[b"first"]).unwrap();
    writer.stream().unwrap().write(b"half of it").unwrap();
    let bytes = writer.into_inner().into_inner();
    let mut cursor = BinaryLogCursor::at_start(bytes.as_slice());
    assert_eq!(cursor.next_frame().unwrap().unwrap().envelope.as_ref(), b"first");
    assert!(cursor.next_frame().is_err());
    assert!(BinaryLogCursor::at_end(bytes.as_slice()).unwrap().previous_frame().is_err());
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = written(&[b"one".to_vec(), b"two, longer".to_vec()]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut cursor = BinaryLogCursor::at_start(flipped.as_slice());
        let mut seen = Vec::new();
        let failed = loop {
            match cursor.next_frame() {
                Ok(Some(frame)) => seen.push(frame.envelope),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(failed, "bit {bit} went unseen: {seen:?}");
    }
}

proptest! {
    #[test]
    fn both_ways_over_every_source(envelopes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let bytes = written(&envelopes);
        prop_assert_eq!(bytes.len() % 4, 0);
        let mut forward = BinaryLogCursor::at_start(bytes.as_slice());
        let mut backward = BinaryLogCursor::at_end(ReaderSource(Cursor::new(bytes.clone()))).unwrap();
        let mut shared = BinaryLogCursor::at_start(Bytes::from(bytes.clone()));
        for envelope in &envelopes {
            prop_assert_eq!(&forward.next_frame().unwrap().unwrap().envelope, envelope);
            prop_assert_eq!(&shared.next_frame().unwrap().unwrap().envelope, envelope);
        }
        prop_assert!(forward.next_frame().unwrap().is_none());
        for envelope in envelopes.iter().rev() {
            prop_assert_eq!(&backward.previous_frame().unwrap().unwrap().envelope, envelope);
        }
        prop_assert!(backward.previous_frame().unwrap().is_none());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_u64..310) {
        let mut cursor = BinaryLogCursor::at_start(bytes.as_slice());
        cursor.seek(at);
        let _ = cursor.next_frame();
        cursor.seek(at.min(bytes.len() as u64));
        let _ = cursor.previous_frame();
    }
}

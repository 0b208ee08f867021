use proptest::prelude::*;

use super::*;

fn record() -> impl Strategy<Value = Record> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    (1..u64::MAX, prop::option::of(1..u64::MAX), any::<u64>(), bytes(), bytes()).prop_map(
        |(version, expires_at_ms, size, envelope, body)| Record {
            version: Version::from_u64(version),
            expires_at_ms,
            size,
            envelope,
            body,
        },
    )
}

proptest! {
    #[test]
    fn decodes_what_it_encodes(record in record()) {
        let bytes = record.encode();
        prop_assert_eq!(bytes.len(), record.encoded_bytes());
        prop_assert_eq!(bytes.len() % 2 == 1, record.expires_at_ms.is_some());
        prop_assert_eq!(Record::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn any_flipped_bit_before_the_body_is_found(record in record(), bit in any::<prop::sample::Index>()) {
        let mut bytes = record.encode().to_vec();
        let bit = bit.index((HEAD_BYTES + record.envelope.len()) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Record::decode(&bytes.into()).is_err());
    }

    #[test]
    fn a_cut_record_is_refused(record in record(), end in any::<prop::sample::Index>()) {
        let bytes = record.encode();
        let whole = HEAD_BYTES + record.envelope.len() + record.body.len();
        prop_assert!(Record::decode(&bytes.slice(..end.index(whole))).is_err());
    }
}

/// Format 1, byte by byte: what is stored today must be readable for ever.
#[test]
fn golden() {
    let record = Record {
        version: Version::from_u64(0x0102_0304_0506_0708),
        expires_at_ms: Some(0x1112_1314),
        size: 3,
        envelope: Bytes::from("env"),
        body: Bytes::from("abc"),
    };
    let golden: &[u8] = &[
        b'S', b'R', b'E', b'C', 1, 0, 0, 0, // magic, format
        8, 7, 6, 5, 4, 3, 2, 1, // version
        0x14, 0x13, 0x12, 0x11, 0, 0, 0, 0, // expiry
        3, 0, 0, 0, 0, 0, 0, 0, // size
        3, 0, 0, 0, 0, 0, 0, 0, // body
        3, 0, 0, 0, // envelope
        0x7e, 0x21, 0x2f, 0x6b, // CRC-32C of head and envelope
        b'e', b'n', b'v', b'a', b'b', b'c', 0,
    ];
    assert_eq!(record.encode(), golden);
    assert_eq!(Record::decode(&Bytes::from_static(golden)).unwrap(), record);
}

use proptest::prelude::*;

use super::*;

fn envelope() -> impl Strategy<Value = Envelope> {
    let chunks = (any::<u64>(), 1..8_u32).prop_map(|(generation, blocks)| Manifest {
        generation,
        bytes: blocks * BLOCK_BYTES as u32,
    });
    let metadata = prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    (metadata, prop::option::of(chunks), prop::collection::vec(any::<u32>(), 0..10))
        .prop_map(|(metadata, chunks, checksums)| Envelope { metadata, chunks, checksums })
}

proptest! {
    #[test]
    fn decodes_what_it_encodes(envelope in envelope()) {
        prop_assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
    }

    #[test]
    fn any_flipped_bit_is_found(envelope in envelope(), bit in any::<prop::sample::Index>()) {
        let mut bytes = envelope.encode().to_vec();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Envelope::decode(&bytes.into()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Envelope::decode(&bytes.into()).is_err());
    }
}

#[test]
fn every_block_is_verified() {
    let mut value = vec![7; 3 * BLOCK_BYTES + 10];
    let envelope = Envelope::new(Vec::new(), &value);
    assert_eq!(envelope.checksums.len(), 4);
    envelope.verify(0, &value).unwrap();
    envelope.verify(2, &value[2 * BLOCK_BYTES..]).unwrap();
    assert!(envelope.verify(1, &value[2 * BLOCK_BYTES..]).is_err());
    assert!(envelope.verify(0, &value[..10]).is_err());
    value.push(0);
    assert!(envelope.verify(0, &value).is_err());
    value.pop();
    value[3 * BLOCK_BYTES] ^= 1;
    assert!(envelope.verify(3, &value[3 * BLOCK_BYTES..]).is_err());
    assert!(envelope.verify(9, &value).is_err());
}

/// Format 1, byte by byte: what is stored today must be readable for ever.
#[test]
fn golden() {
    let envelope = Envelope {
        metadata: Bytes::from("meta"),
        chunks: Some(Manifest { generation: 0x0102_0304_0506_0708, bytes: 0x2_0000 }),
        checksums: vec![0x1112_1314, 0x2122_2324],
    };
    let golden: &[u8] = &[
        1, 0, 0, 0, // format
        0, 0, 2, 0, // bytes of a chunk
        8, 7, 6, 5, 4, 3, 2, 1, // generation
        4, 0, 0, 0, // bytes of the metadata
        2, 0, 0, 0, // checksums
        0xb1, 0xb6, 0x62, 0x5b, // CRC-32C of the rest
        b'm', b'e', b't', b'a', 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21,
    ];
    assert_eq!(envelope.encode(), golden);
    assert_eq!(Envelope::decode(&Bytes::from_static(golden)).unwrap(), envelope);
}

//! What was not stored for this object and version is refused, and nothing of it is given out.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{OBJECT, every, is_corrupt, keyring, noise, open, options, sealed, text};
use crate::error::StorageError;
use crate::limits::{SEAL_SEGMENT_BYTES, VALUE_BYTES_MAX};
use crate::options::{CompressionType, EncryptionType};
use crate::seal::header::{Protection, Segment};
use crate::seal::{Binding, Codec, Keyring, Seal, SealOptions, Sealed, seal};
use crate::version::Version;

/// Three segments and a bit, which shrink little, so that every byte counts.
fn value() -> Vec<u8> {
    let mut value = noise(3 * SEAL_SEGMENT_BYTES + 100);
    for segment in value.chunks_mut(SEAL_SEGMENT_BYTES) {
        segment[..40].fill(b'a');
    }
    value
}

fn encrypted() -> impl Iterator<Item = SealOptions> {
    every().filter(SealOptions::is_encrypted)
}

/// Checksums that fit what is stored, as someone makes them who forges bytes on purpose.
fn with_checksums(mut forged: Sealed) -> Sealed {
    let mut at = 0;
    for segment in &mut forged.seal.segments {
        let end = (at + segment.stored_bytes as usize).min(forged.payload.len());
        segment.checksum = crc32c::crc32c(&forged.payload[at..end]);
        at = end;
    }
    forged
}

/// Opens with segment checksums that fit, and with those that were there.
fn refused(forged: Sealed, what: &str) {
    for forged in [forged.clone(), with_checksums(forged)] {
        let opened = forged.seal.open(&forged.payload, &keyring(), &OBJECT);
        assert!(is_corrupt(&opened), "{what}: {:?}", opened.map(|value| value.len()));
    }
}

#[test]
fn another_key_of_the_same_id() {
    for options in encrypted() {
        let Sealed { seal, payload } = sealed(b"secret", &options).unwrap();
        let key = |byte| Zeroizing::new([byte; 32]);
        let other = Keyring::new("new", key(8)).unwrap().with_key("old", key(8)).unwrap();
        assert!(is_corrupt(&seal.open(&payload, &other, &OBJECT)));
    }
}

#[test]
fn another_object() {
    for options in encrypted() {
        let Sealed { seal, payload } = sealed(b"secret", &options).unwrap();
        let (version, older) = (OBJECT.version.as_u64(), OBJECT.version.as_u64() - 1);
        for other in [
            Binding { key: "weights/8", ..OBJECT },
            Binding { namespace: "other", ..OBJECT },
            // The same text, cut elsewhere.
            Binding { namespace: "modelsw", key: "eights/7", ..OBJECT },
            Binding { version: Version::from_u64(version + 1), ..OBJECT },
            Binding { version: Version::from_u64(older), ..OBJECT },
        ] {
            assert!(is_corrupt(&seal.open(&payload, &keyring(), &other)), "{other:?}");
        }
    }
}

#[test]
fn bytes_or_seal_of_another_object() {
    for options in encrypted() {
        let seal_as = |key, version| {
            let object = Binding { key, version: Version::from_u64(version), ..OBJECT };
            seal(&text(5000), &options, &keyring(), &object).unwrap().unwrap()
        };
        let own = sealed(&text(5000), &options).unwrap();
        for other in [
            seal_as("weights/8", OBJECT.version.as_u64()),
            seal_as(OBJECT.key, OBJECT.version.as_u64() - 1),
            // Even the same value under the same name and version.
            seal_as(OBJECT.key, OBJECT.version.as_u64()),
        ] {
            refused(Sealed { payload: other.payload.clone(), ..own.clone() }, "bytes of another");
            refused(Sealed { seal: other.seal.clone(), ..own.clone() }, "seal of another");
            // Parts of the other's seal.
            for part in 0..4 {
                let mut forged = own.clone();
                let from = other.seal.encrypted().unwrap().clone();
                if let Protection::Encrypted(to) = &mut forged.seal.protection {
                    match part {
                        0 => to.wrapped = from.wrapped,
                        1 => to.salt = from.salt,
                        2 => to.commitment = from.commitment,
                        _ => (to.wrapped, to.salt) = (from.wrapped, from.salt),
                    }
                }
                refused(forged, "part of another seal");
            }
        }
    }
}

#[test]
fn segments_cut_dropped_repeated_and_exchanged() {
    let value = value();
    for options in encrypted() {
        let whole = sealed(&value, &options).unwrap();
        let segments = whole.seal.segments.clone();
        let mut parts = Vec::new();
        let mut at = 0;
        for segment in &segments {
            let end = at + segment.stored_bytes as usize;
            parts.push(whole.payload.slice(at..end));
            at = end;
        }
        let forged = |order: &[usize], plain_bytes: u64| {
            let payload: BytesMut = order.iter().flat_map(|at| parts[*at].clone()).collect();
            let mut seal = whole.seal.clone();
            seal.segments = order.iter().map(|at| segments[*at]).collect();
            seal.plain_bytes = plain_bytes;
            Sealed { seal, payload: payload.freeze() }
        };
        let len = value.len() as u64;
        let segment = SEAL_SEGMENT_BYTES as u64;
        assert_eq!(open(&forged(&[0, 1, 2, 3], len)).unwrap(), value);
        refused(forged(&[0, 1, 2], 3 * segment), "the last dropped");
        refused(forged(&[1, 2, 3], len - segment), "the first dropped");
        refused(forged(&[0, 2, 3], len - segment), "one dropped");
        refused(forged(&[0, 1, 1, 3], len), "one repeated");
        refused(forged(&[0, 0, 1, 2, 3], len + segment), "one more");
        refused(forged(&[0, 2, 1, 3], len), "two exchanged");
        // Exchanged in the bytes only.
        let mut forged = forged(&[1, 0, 2, 3], len);
        forged.seal.segments.swap(0, 1);
        refused(forged, "two exchanged in the bytes");

        for end in [0, 1, whole.payload.len() / 2, whole.payload.len() - 1] {
            let payload = whole.payload.slice(..end);
            refused(Sealed { payload, ..whole.clone() }, "cut");
        }
        let longer = [&whole.payload[..], b"x"].concat().into();
        refused(Sealed { payload: longer, ..whole.clone() }, "longer");
    }
}

/// A segment of one value in the place of the same segment of another, with the right seal.
#[test]
fn a_segment_says_which_it_is_by_itself() {
    let value = value();
    for options in encrypted() {
        let whole = sealed(&value, &options).unwrap();
        let encrypted = whole.seal.encrypted().unwrap();
        let secret = {
            let key = keyring();
            let key = key.to_decrypt(&encrypted.key_id).unwrap();
            let head = whole.seal.encode_head();
            let (salt, wrapped) = (&encrypted.salt, &encrypted.wrapped);
            super::super::Secret::unwrap(encrypted.cipher, key, salt, &head, &OBJECT, wrapped)
        };
        let secret = secret.unwrap().unwrap();
        let key = secret.data_key.segments(encrypted.cipher, &OBJECT).unwrap();
        let first = &whole.payload[..whole.seal.segments[0].stored_bytes as usize];
        let mut plain = vec![0; first.len() - 16];
        assert!(key.open(0, false, first, &mut plain));
        assert!(!key.open(1, false, first, &mut plain), "another number");
        assert!(!key.open(0, true, first, &mut plain), "as the last");
        for other in [
            Binding { version: Version::from_u64(1), ..OBJECT },
            Binding { key: "k", ..OBJECT },
            Binding { namespace: "n", ..OBJECT },
        ] {
            let key = secret.data_key.segments(encrypted.cipher, &other).unwrap();
            assert!(!key.open(0, false, first, &mut plain), "{other:?}");
        }
    }
}

#[test]
fn a_commitment_that_does_not_fit_stops_everything() {
    // Someone who holds the key of the keyring and makes a seal that claims another data key.
    for options in encrypted() {
        let Sealed { mut seal, payload } = sealed(b"secret", &options).unwrap();
        let encrypted = seal.encrypted().unwrap().clone();
        let keyring = keyring();
        let key = keyring.to_decrypt(&encrypted.key_id).unwrap();
        let (cipher, salt) = (encrypted.cipher, &encrypted.salt);
        let head = seal.encode_head();
        let secret =
            super::super::Secret::unwrap(cipher, key, salt, &head, &OBJECT, &encrypted.wrapped);
        let secret = secret.unwrap().unwrap();
        if let Protection::Encrypted(encrypted) = &mut seal.protection {
            encrypted.commitment[31] ^= 1;
        }
        seal.wrap(&secret, key, &OBJECT).unwrap();
        let opened = seal.open(&payload, &keyring, &OBJECT);
        assert!(
            matches!(&opened, Err(StorageError::Corrupt(detail))
            if detail.message.contains("not the one")),
            "{opened:?}"
        );
    }
}

#[test]
fn bombs_are_refused_at_the_size_that_the_seal_says() {
    let segment = |bytes: &[u8]| Segment {
        stored_bytes: bytes.len() as u32,
        raw: false,
        checksum: crc32c::crc32c(bytes),
    };
    let zeros = vec![0; 64 << 20];
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
        encoder.finish().unwrap()
    };
    let bombs = [
        (Codec::Gzip, gzip),
        (Codec::Zstd, zstd::bulk::compress(&zeros, 3).unwrap()),
        (Codec::Lz4, lz4_flex::block::compress(&zeros)),
    ];
    for (codec, bomb) in bombs {
        for plain_bytes in [bomb.len() as u64 + 1, SEAL_SEGMENT_BYTES as u64] {
            let seal = Seal {
                codec,
                plain_bytes,
                segments: vec![segment(&bomb)],
                protection: Protection::Checksum(0),
            };
            let opened = seal.open(&Bytes::from(bomb.clone()), &keyring(), &OBJECT);
            assert!(is_corrupt(&opened), "{codec:?}: {:?}", opened.map(|value| value.len()));
        }
        // Sizes past a segment, or past all values, are no seal.
        let count = VALUE_BYTES_MAX / SEAL_SEGMENT_BYTES + 1;
        for (plain_bytes, count) in [
            (2 * SEAL_SEGMENT_BYTES as u64, 1),
            ((count * SEAL_SEGMENT_BYTES) as u64, count),
            (u64::MAX, 1),
        ] {
            let segments = vec![Segment { stored_bytes: 9, raw: false, checksum: 0 }; count];
            let seal = Seal { codec, plain_bytes, segments, protection: Protection::Checksum(0) };
            assert!(is_corrupt(&Seal::decode(&seal.encode().unwrap())), "{plain_bytes}");
        }
    }
}

#[test]
fn garbage_behind_compressed_bytes_is_refused() {
    for codec in [CompressionType::Gzip, CompressionType::Zstd, CompressionType::Lz4] {
        let whole = sealed(&text(5000), &options(codec, EncryptionType::None)).unwrap();
        let mut forged = whole.clone();
        forged.payload = [&whole.payload[..], b"more"].concat().into();
        forged.seal.segments[0].stored_bytes += 4;
        refused(forged, "garbage behind");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A bit of the stored bytes or of the encoded seal; its own checksum is made to fit, as by
    /// someone who flips on purpose.
    #[test]
    fn a_flipped_bit(which in 0..15usize, at in any::<prop::sample::Index>(), bit in 0..8u8, fix: bool) {
        let options = every().nth(which).unwrap();
        let value = text(3000);
        let Some(sealed) = sealed(&value, &options) else { return Ok(()) };
        let mut payload = sealed.payload.to_vec();
        let mut encoded = sealed.seal.encode().unwrap().to_vec();
        let at = at.index(payload.len() + encoded.len());
        match at.checked_sub(payload.len()) {
            None => payload[at] ^= 1 << bit,
            Some(at) => encoded[at] ^= 1 << bit,
        }
        if fix && at >= payload.len() && options.is_encrypted() {
            let body = encoded.len() - 4;
            if at - payload.len() >= body {
                // The bit was the checksum's own.
                return Ok(());
            }
            let checksum = crc32c::crc32c(&encoded[..body]);
            encoded[body..].copy_from_slice(&checksum.to_le_bytes());
        }
        let opened = Seal::decode(&encoded).and_then(|seal| {
            let sealed = Sealed { seal, payload: payload.into() };
            match fix && options.is_encrypted() && at < sealed.payload.len() {
                true => {
                    let Sealed { seal, payload } = with_checksums(sealed);
                    seal.open(&payload, &keyring(), &OBJECT)
                }
                false => sealed.seal.open(&sealed.payload, &keyring(), &OBJECT),
            }
        });
        prop_assert!(
            matches!(
                opened,
                Err(StorageError::Corrupt(_)
                    | StorageError::PermissionDenied(_)
                    | StorageError::Unsupported(_))
            ),
            "{opened:?}"
        );
    }

    /// Arbitrary bytes are no seal, or one that opens nothing.
    #[test]
    fn arbitrary_bytes(mut encoded in proptest::collection::vec(any::<u8>(), 0..300), payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(format) = encoded.first_mut() {
            *format = 1;
        }
        let checksum = crc32c::crc32c(&encoded).to_le_bytes();
        encoded.extend_from_slice(&checksum);
        if let Ok(seal) = Seal::decode(&encoded) {
            let _ = seal.open(&payload.into(), &keyring(), &OBJECT);
            prop_assert_eq!(&seal.encode().unwrap()[..], &encoded[..]);
        }
    }
}

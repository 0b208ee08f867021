mod attacks;
mod golden;

use bytes::Bytes;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Binding, Cipher, Codec, Keyring, Seal, SealOptions, Sealed, plain_bytes_max, seal};
use crate::error::StorageError;
use crate::limits::SEAL_SEGMENT_BYTES;
use crate::options::{CompressionType, EncryptionType};
use crate::version::Version;

const OBJECT: Binding<'static> =
    Binding { namespace: "models", key: "weights/7", version: Version::from_u64(0x7_0000) };

const CODECS: [CompressionType; 5] = [
    CompressionType::None,
    CompressionType::Gzip,
    CompressionType::Zstd,
    CompressionType::Lz4,
    CompressionType::Auto,
];

fn keyring() -> Keyring {
    let key = |byte| Zeroizing::new([byte; 32]);
    Keyring::new("new", key(7)).unwrap().with_key("old", key(9)).unwrap()
}

fn ciphers() -> [EncryptionType; 3] {
    [
        EncryptionType::None,
        EncryptionType::Aes256Gcm { key_id: String::new() },
        EncryptionType::ChaCha20Poly1305 { key_id: "old".into() },
    ]
}

fn options(compression: CompressionType, encryption: EncryptionType) -> SealOptions {
    SealOptions { compression, encryption, compression_level: None }
}

fn every() -> impl Iterator<Item = SealOptions> {
    CODECS.into_iter().flat_map(|codec| ciphers().map(|cipher| options(codec, cipher)))
}

/// Text with some noise: it shrinks, and no two segments of it are the same.
fn text(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 64);
    while out.len() < len {
        let number = out.len() as u64;
        let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        out.extend_from_slice(
            format!("line {number}: {noise:x}, and the rest is alike\n").as_bytes(),
        );
    }
    out.truncate(len);
    out
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

fn sealed(value: &[u8], options: &SealOptions) -> Option<Sealed> {
    seal(value, options, &keyring(), &OBJECT).unwrap()
}

/// Opens what was stored, by its encoded seal.
fn open(sealed: &Sealed) -> Result<Bytes, StorageError> {
    let seal = Seal::decode(&sealed.seal.encode().unwrap()).unwrap();
    assert_eq!(seal, sealed.seal);
    seal.open(&sealed.payload, &keyring(), &OBJECT)
}

fn is_corrupt<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Corrupt(_)))
}

#[test]
fn every_codec_and_cipher_gives_the_value_back() {
    for len in [0, 1, 100, 4096, SEAL_SEGMENT_BYTES, SEAL_SEGMENT_BYTES + 1, 3 * SEAL_SEGMENT_BYTES]
    {
        for value in [text(len), noise(len), vec![0; len]] {
            for options in every() {
                let Some(sealed) = sealed(&value, &options) else {
                    assert!(!options.is_encrypted());
                    continue;
                };
                assert_eq!(open(&sealed).unwrap(), value, "{len} bytes, {options:?}");
                let tags =
                    if options.is_encrypted() { 16 * (len / SEAL_SEGMENT_BYTES + 1) } else { 0 };
                assert!(sealed.payload.len() <= len + tags, "{len} bytes, {options:?}");
                assert_eq!(sealed.seal.stored_bytes(), sealed.payload.len() as u64);
                assert_eq!(sealed.seal.plain_bytes(), len as u64);
            }
        }
    }
}

#[test]
fn what_does_not_shrink_is_stored_as_it_is() {
    for codec in CODECS {
        for value in [noise(100_000), noise(3 * SEAL_SEGMENT_BYTES), text(20), Vec::new()] {
            assert_eq!(sealed(&value, &options(codec, EncryptionType::None)), None, "{codec:?}");
        }
        let hidden = options(codec, EncryptionType::Aes256Gcm { key_id: String::new() });
        let sealed = sealed(&noise(3 * SEAL_SEGMENT_BYTES), &hidden).unwrap();
        assert_eq!(sealed.seal.codec(), Codec::None, "{codec:?}");
    }
    // One segment that shrinks pays for itself, and the others stay as they are.
    let mut value = noise(3 * SEAL_SEGMENT_BYTES);
    value[SEAL_SEGMENT_BYTES..2 * SEAL_SEGMENT_BYTES].fill(7);
    let sealed = sealed(&value, &options(CompressionType::Zstd, EncryptionType::None)).unwrap();
    let raw: Vec<_> = sealed.seal.segments.iter().map(|segment| segment.raw).collect();
    assert_eq!(raw, [true, false, true]);
    assert_eq!(open(&sealed).unwrap(), value);
}

#[test]
fn auto_goes_by_the_value() {
    let auto = |value: &[u8]| {
        let options = options(CompressionType::Auto, EncryptionType::None);
        sealed(value, &options).map_or(Codec::None, |sealed| sealed.seal.codec())
    };
    assert_eq!(auto(&noise(1 << 20)), Codec::None);
    assert_eq!(auto(&vec![7; 1 << 20]), Codec::Lz4);
    assert_eq!(auto(&text(1 << 20)), Codec::Zstd);
    // A start that is not like the rest does not decide.
    let mut value = text(8 << 20);
    value[..1 << 20].copy_from_slice(&noise(1 << 20));
    assert_eq!(auto(&value), Codec::Zstd);
}

#[test]
fn levels_are_those_of_the_codec() {
    let value = text(200_000);
    let with = |compression, level| {
        let encryption = EncryptionType::None;
        let options = SealOptions { compression, encryption, compression_level: Some(level) };
        seal(&value, &options, &keyring(), &OBJECT)
    };
    for (codec, quick, small) in [(CompressionType::Gzip, 1, 9), (CompressionType::Zstd, -7, 19)] {
        let bytes = |level| with(codec, level).unwrap().unwrap().payload.len();
        assert!(bytes(small) < bytes(quick), "{codec:?}");
    }
    for (codec, level) in [
        (CompressionType::Gzip, 0),
        (CompressionType::Gzip, 10),
        (CompressionType::Zstd, 23),
        (CompressionType::Auto, -8),
        (CompressionType::Lz4, 1),
        (CompressionType::None, 1),
    ] {
        let refused = with(codec, level);
        assert!(matches!(refused, Err(StorageError::InvalidInput(_))), "{codec:?} {level}");
    }
}

#[test]
fn a_range_needs_the_segments_that_it_touches_only() {
    let value = text(5 * SEAL_SEGMENT_BYTES + 1000);
    let segment = SEAL_SEGMENT_BYTES as u64;
    for options in every().filter(|options| !options.is_plain()) {
        let Sealed { seal, payload } = sealed(&value, &options).unwrap();
        let of = |range: std::ops::Range<u64>| {
            let stored = seal.stored_range(&range);
            let part = payload.slice(stored.start as usize..stored.end as usize);
            let opened = seal.open_range(range, &part, &keyring(), &OBJECT).unwrap();
            (opened, part.len())
        };
        for range in [
            0..0,
            0..1,
            0..segment,
            segment - 1..segment + 1,
            2 * segment..3 * segment,
            2 * segment + 5..2 * segment + 9,
            4 * segment..value.len() as u64,
            5 * segment + 999..u64::MAX,
            value.len() as u64..u64::MAX,
            0..u64::MAX,
        ] {
            let end = range.end.min(value.len() as u64) as usize;
            let expected = &value[range.start as usize..end];
            assert_eq!(of(range.clone()).0, expected, "{range:?}, {options:?}");
        }
        let (_, one) = of(2 * segment + 5..2 * segment + 9);
        assert_eq!(one, seal.segments[2].stored_bytes as usize);
        assert_eq!(of(7..7).1, 0);
    }
}

#[test]
fn equal_values_look_different_and_no_seal_tells_of_a_secret() {
    let hidden = options(CompressionType::None, EncryptionType::Aes256Gcm { key_id: "".into() });
    let (a, b) = (sealed(b"value", &hidden).unwrap(), sealed(b"value", &hidden).unwrap());
    assert_ne!(a.payload, b.payload);
    let checksum = crc32c::crc32c(b"value").to_le_bytes();
    let encoded = a.seal.encode().unwrap();
    assert!(!encoded.windows(4).any(|window| window == checksum));
    assert_eq!(a.seal.encryption(), Some((Cipher::Aes256Gcm, "new")));
}

#[test]
fn a_new_seal_for_the_same_bytes_goes_with_the_new_version_and_key() {
    for options in every().filter(SealOptions::is_encrypted) {
        let value = text(SEAL_SEGMENT_BYTES + 5);
        let Sealed { seal, payload } = sealed(&value, &options).unwrap();
        let version = Version::from_u64(0x8_0000);
        let newer = Binding { version, ..OBJECT };
        let rewrapped = seal.rewrap(&keyring(), &OBJECT, version, "old").unwrap();
        let old_only = Keyring::new("old", Zeroizing::new([9; 32])).unwrap();
        assert_eq!(rewrapped.open(&payload, &old_only, &newer).unwrap(), value);
        assert_eq!(rewrapped.encryption().unwrap().1, "old");
        // Neither goes with the other's version, and a seal cannot be made anew from a wrong place.
        assert!(is_corrupt(&rewrapped.open(&payload, &keyring(), &OBJECT)));
        assert!(is_corrupt(&seal.open(&payload, &keyring(), &newer)));
        assert!(is_corrupt(&seal.rewrap(&keyring(), &newer, version, "old")));
        // A second time round.
        let third = Binding { version: Version::from_u64(0x9_0000), ..OBJECT };
        let again = rewrapped.rewrap(&keyring(), &newer, third.version, "").unwrap();
        assert_eq!(again.open(&payload, &keyring(), &third).unwrap(), value);
        assert_eq!(again.encryption().unwrap().1, "new");
    }
}

#[test]
fn keys_that_are_not_there_are_named() {
    let hidden = |id: &str| {
        options(CompressionType::None, EncryptionType::Aes256Gcm { key_id: id.to_owned() })
    };
    let refused = seal(b"v", &hidden("lost"), &keyring(), &OBJECT);
    assert!(
        matches!(&refused, Err(StorageError::InvalidInput(detail))
        if detail.message.contains("\"lost\"")),
        "{refused:?}"
    );
    let Sealed { seal, payload } = sealed(b"v", &hidden("old")).unwrap();
    let other = Keyring::new("new", Zeroizing::new([7; 32])).unwrap();
    let refused = seal.open(&payload, &other, &OBJECT);
    assert!(
        matches!(&refused, Err(StorageError::PermissionDenied(detail))
        if detail.message.contains("\"old\"")),
        "{refused:?}"
    );
}

#[test]
fn limits_leave_room_for_what_encryption_adds() {
    for stored in [1000, 1 << 20, (16 << 20) - 1, 512 << 20] {
        let plain = plain_bytes_max(stored);
        assert!(
            plain + 16 * plain.div_ceil(1 << 20) <= stored && plain + 16_384 > stored,
            "{stored}"
        );
    }
    assert_eq!(plain_bytes_max(u64::MAX), crate::limits::VALUE_BYTES_MAX as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_comes_back(
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..5000),
            "[a-d]{0,400}".prop_map(String::into_bytes),
        ],
        which in 0..15usize,
        range in (0u64..6000, 0u64..6000),
    ) {
        let options = every().nth(which).unwrap();
        if let Some(sealed) = sealed(&value, &options) {
            prop_assert_eq!(&open(&sealed).unwrap(), &value);
            let end = range.1.min(value.len() as u64);
            let range = range.0.min(end)..range.1;
            let stored = sealed.seal.stored_range(&range);
            let part = sealed.payload.slice(stored.start as usize..stored.end as usize);
            let opened = sealed.seal.open_range(range.clone(), &part, &keyring(), &OBJECT).unwrap();
            prop_assert_eq!(opened, &value[range.start as usize..end as usize]);
        }
    }
}

use bytes::Bytes;

use super::{Metadata, SEAL_BYTES_MAX};
use crate::error::StorageError;

fn sealed(seal: &[u8]) -> Metadata {
    Metadata { seal: Some(Bytes::copy_from_slice(seal)), ..Metadata::default() }
}

#[test]
fn a_seal_of_any_bytes_is_kept_beside_the_rest() {
    let user = [("a".to_owned(), "b".to_owned())].into();
    for seal in [&b""[..], &[0xFF, 0, 1, 0xC0], &[7; SEAL_BYTES_MAX]] {
        let metadata = Metadata {
            content_type: Some("text/plain".into()),
            user: Clone::clone(&user),
            ..sealed(seal)
        };
        assert_eq!(Metadata::decode(&metadata.encode().unwrap()).unwrap(), metadata);
        assert!(!sealed(seal).is_empty());
    }
    let large = sealed(&[0; SEAL_BYTES_MAX + 1]).encode();
    assert!(matches!(large, Err(StorageError::TooLarge(_))), "{large:?}");
}

#[test]
fn callers_cannot_write_a_seal_by_its_name() {
    let user = [(super::SEAL.to_owned(), "forged".to_owned())].into();
    let encoded = Metadata { user, ..Metadata::default() }.encode();
    assert!(matches!(encoded, Err(StorageError::InvalidInput(_))), "{encoded:?}");
}

#[test]
fn what_does_not_fit_or_is_no_text_is_malformed() {
    let encoded = sealed(b"seal").encode().unwrap();
    for end in 1..encoded.len() {
        assert!(Metadata::decode(&encoded[..end]).is_err(), "{end} bytes");
    }
    assert!(Metadata::decode(&[1, 0, b'a', 1, 0, 0xFF]).is_err());
}

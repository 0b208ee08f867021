use super::*;
use crate::limits::METADATA_BYTES_MAX;
use crate::metadata::Metadata;

fn with_ttl(ttl: Duration) -> Result<Option<u64>> {
    let options = StorageOptions { ttl: Some(ttl), ..StorageOptions::default() };
    check_write("k", 0, &options, 1_000).map(|write| write.expires_at_ms)
}

#[test]
fn keys_have_one_to_1024_bytes() {
    assert!(matches!(check_key(""), Err(StorageError::InvalidInput(_))));
    for key in ["k", "/", "..", "\0", " ", &"é".repeat(512), &"k".repeat(1024)] {
        check_key(key).unwrap();
    }
    assert!(matches!(check_key(&"k".repeat(1025)), Err(StorageError::TooLarge(_))));
    assert!(matches!(check_key(&"é".repeat(513)), Err(StorageError::TooLarge(_))));
}

#[test]
fn namespaces_are_path_segments() {
    for name in ["default", "db0", "a b", "a_b", "...", "ünï", &"n".repeat(128)] {
        check_namespace(name).unwrap();
    }
    for name in ["", ".", "..", "_a", "a/b", "a\nb", "\0"] {
        assert!(matches!(check_namespace(name), Err(StorageError::InvalidInput(_))), "{name:?}");
    }
    assert!(matches!(check_namespace(&"n".repeat(129)), Err(StorageError::TooLarge(_))));
}

#[test]
fn time_to_live_rounds_up_and_saturates() {
    assert_eq!(with_ttl(Duration::from_millis(5)).unwrap(), Some(1_005));
    assert_eq!(with_ttl(Duration::from_nanos(1)).unwrap(), Some(1_001));
    assert_eq!(with_ttl(Duration::from_nanos(1_000_001)).unwrap(), Some(1_002));
    assert_eq!(with_ttl(Duration::MAX).unwrap(), Some(u64::MAX));
    assert_eq!(with_ttl(Duration::from_millis(u64::MAX)).unwrap(), Some(u64::MAX));
    assert!(matches!(with_ttl(Duration::ZERO), Err(StorageError::InvalidInput(_))));
}

#[test]
fn what_an_engine_does_not_do_is_refused() {
    let refused = |options: &StorageOptions| check_write("k", 0, options, 0);
    for compression in [CompressionType::Gzip, CompressionType::Zstd, CompressionType::Lz4] {
        let options = StorageOptions { compression, ..StorageOptions::default() };
        assert!(matches!(refused(&options), Err(StorageError::Unsupported(_))));
    }
    let encryption = EncryptionType::Aes256Gcm { key_id: "k1".into() };
    let options = StorageOptions { encryption, ..StorageOptions::default() };
    assert!(matches!(refused(&options), Err(StorageError::Unsupported(_))));
}

#[test]
fn values_and_metadata_have_limits() {
    let plain = StorageOptions::default();
    check_write("k", VALUE_BYTES_MAX, &plain, 0).unwrap();
    assert!(matches!(
        check_write("k", VALUE_BYTES_MAX + 1, &plain, 0),
        Err(StorageError::TooLarge(_))
    ));
    let content_type = Some("x".repeat(METADATA_BYTES_MAX));
    let metadata = Metadata { content_type, ..Metadata::default() };
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    assert!(matches!(check_write("k", 0, &options, 0), Err(StorageError::TooLarge(_))));
}

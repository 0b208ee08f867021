use super::*;

#[test]
fn keys_of_copies_are_read_back_and_sort_newest_first() {
    let versions = [1, 0x10_0000, u64::MAX >> 1].map(Version::from_u64);
    for key in ["k", "a@b", "é/@@", "x@0123456789abcdef"] {
        for version in versions {
            assert_eq!(of_kept_key(&kept_key(key, version)), Some((key, version)));
        }
        assert!(kept_key(key, versions[1]) < kept_key(key, versions[0]));
        assert_eq!(kept_key(key, versions[0]).len(), key.len() + SUFFIX_BYTES);
    }
    let version = Version::from_u64(0x01a2_0489_f842_0000);
    assert_eq!(kept_key("system", version), "system@fe5dfb7607bdffff");
    for other in ["", "k", "k@", "@fffffffffffffffe", "k@FFFFFFFFFFFFFFFE", "k@ff"] {
        assert_eq!(of_kept_key(other), None, "{other}");
    }
}

#[test]
fn names_of_kept_namespaces_are_bounded() {
    assert_eq!(kept_namespace("a").unwrap(), "sira.versions.a");
    assert!(is_kept_namespace("sira.versions.a") && !is_kept_namespace("sira.version"));
    let longest = "x".repeat(NAMESPACE_BYTES_MAX - NAMESPACE_PREFIX.len());
    assert_eq!(kept_namespace(&longest).unwrap().len(), NAMESPACE_BYTES_MAX);
    let error = kept_namespace(&format!("{longest}x")).unwrap_err();
    assert!(matches!(error, StorageError::TooLarge(_)), "{error}");
}

#[test]
fn something_is_kept() {
    let keep = |count, age| KeepVersions { count, age }.check();
    assert!(keep(None, None).is_ok() && keep(Some(1), Some(Duration::from_secs(1))).is_ok());
    assert!(keep(Some(0), None).is_err() && keep(Some(1_001), None).is_err());
    assert!(keep(None, Some(Duration::ZERO)).is_err());
}

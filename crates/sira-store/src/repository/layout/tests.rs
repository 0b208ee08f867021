use super::*;

#[test]
fn names_are_a_format() {
    let layout = Layout::new("users").unwrap();
    let email = SecondaryKey::unique("email", "a/b@c%d");
    let city = SecondaryKey::shared("city", "São/Paulo");
    assert_eq!(layout.object("7/8"), "users/7/8");
    assert_eq!(layout.entry(&email, "7/8").unwrap().key, "users~email/a%2Fb@c%25d");
    assert_eq!(layout.entry(&city, "7/8").unwrap().key, "users~city/São%2FPaulo/7/8");
}

#[test]
fn a_stored_secondary_key_tells_its_object() {
    let layout = Layout::new("users").unwrap();
    for (secondary, value) in [
        (SecondaryKey::unique("email", "a/b"), &b"7/8"[..]),
        (SecondaryKey::shared("city", ""), &b""[..]),
        (SecondaryKey::shared("city", "%2F/"), &b""[..]),
    ] {
        let entry = layout.entry(&secondary, "7/8").unwrap();
        assert_eq!(entry.value("7/8"), value);
        assert_eq!(layout.owner_of(&entry.key, value).unwrap(), "7/8");
    }
}

#[test]
fn names_that_could_be_mistaken_are_refused() {
    for name in ["", "a/b", "a~b", "Users", "a b", "ü"] {
        assert!(Layout::new(name).is_err(), "{name:?}");
    }
    let layout = Layout::new("users").unwrap();
    assert!(layout.entry(&SecondaryKey::shared("a/b", "x"), "1").is_err());
    let long = SecondaryKey::shared("city", "x".repeat(1020));
    assert!(matches!(layout.entry(&long, "1"), Err(StorageError::TooLarge(_))));
}

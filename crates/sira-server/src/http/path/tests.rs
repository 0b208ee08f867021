use super::*;

#[test]
fn keys_keep_their_slashes_and_bytes() {
    let parse = |below: &str| namespace_and_key(below).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(parse("ns/a"), pair("ns", "a"));
    assert_eq!(parse("ns/a/b//c/"), pair("ns", "a/b//c/"));
    assert_eq!(parse("ns//a"), pair("ns", "/a"));
    assert_eq!(parse("ns/a%2Fb%20c+d"), pair("ns", "a/b c+d"));
    assert_eq!(parse("n%C3%A4me/%00"), pair("n\u{e4}me", "\0"));
    assert_eq!(parse("ns/_batch"), pair("ns", "_batch"));
    assert_eq!(parse("ns/.."), pair("ns", ".."));
}

#[test]
fn malformed_paths_are_refused() {
    for (path, code) in [
        ("ns/", "invalid_input"),
        ("ns", "invalid_input"),
        ("/key", "invalid_input"),
        ("ns/%", "invalid_input"),
        ("ns/%4", "invalid_input"),
        ("ns/%zz", "invalid_input"),
        ("ns/%ff", "invalid_input"),
        ("n%2Fs/key", "invalid_input"),
        ("n%0As/key", "invalid_input"),
    ] {
        assert_eq!(namespace_and_key(path).unwrap_err().code(), code, "{path}");
    }
    assert_eq!(
        namespace_and_key(&format!("ns/{}", "x".repeat(1025))).unwrap_err().code(),
        "too_large"
    );
    assert_eq!(
        namespace_and_key(&format!("{}/x", "n".repeat(129))).unwrap_err().code(),
        "too_large"
    );
    assert!(namespace_and_key(&format!("ns/{}", "%41".repeat(1024))).is_ok());
}

#[test]
fn encoded_keys_decode_to_themselves() {
    for text in ["a/b", "", "%", "a b+c", "\u{1f980}/\0\n", "?#[]@!$&'()*,;=:"] {
        let encoded = encode_key(text);
        assert_eq!(percent_decode(&encoded).unwrap(), text);
        assert!(format!("/v1/ns/{encoded}").parse::<http::Uri>().is_ok(), "{encoded}");
    }
}

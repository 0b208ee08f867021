use super::*;
use crate::failure::Exit;

#[test]
fn full_and_bare_names() {
    let of = |text| Location::parse_key(text, "default").map(|l| (l.namespace, l.key));
    let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
    assert_eq!(of("a/b"), pair("default", "a/b"));
    assert_eq!(of("sira://ns/a/b"), pair("ns", "a/b"));
    assert_eq!(of("sira://ns//a"), pair("ns", "/a"));
    for wrong in ["", "sira://", "sira://ns", "sira://ns/", "sira:///a"] {
        assert_eq!(of(wrong).map_err(|f| f.exit), Err(Exit::Usage), "{wrong}");
    }
}

#[test]
fn a_prefix_may_be_the_whole_namespace() {
    let location = Location::parse_prefix("sira://ns", "default").unwrap();
    assert_eq!((location.namespace.as_str(), location.key.as_str()), ("ns", ""));
    assert!(Location::parse_prefix("a", "bad\nname").is_err());
    assert!(Location::parse_prefix(&"k".repeat(1025), "default").is_err());
}

#[test]
fn names_cannot_drive_the_terminal() {
    let location = Location { namespace: "n".into(), key: "a\u{1b}[2Jb\n".into() };
    assert_eq!(location.to_string(), "sira://n/a\\u{1b}[2Jb\\n");
}

use super::*;

#[test]
fn patterns_match_as_in_redis() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("", "", true),
        ("h?llo", "hello", true),
        ("h?llo", "hllo", false),
        ("h*llo", "heeeello", true),
        ("h[ae]llo", "hallo", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-b]llo", "hbllo", true),
        ("h[b-a]llo", "hallo", true),
        ("h\\*llo", "h*llo", true),
        ("h\\*llo", "hello", false),
        ("a*", "a", true),
        ("a**", "a", true),
        ("*a*b*c*", "xxaxxbxxcxx", true),
        ("*a*b*c*", "xxaxxcxxbxx", false),
        ("[abc", "c", true),
        ("foo", "foobar", false),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), false),
            expected,
            "{pattern} {text}"
        );
    }
    assert!(matches(b"MAX*", b"maxmemory", true));
}

#[test]
fn hostile_patterns_end() {
    let pattern = b"a*".repeat(500);
    let text = [b"a".repeat(10_000), b"b".to_vec()].concat();
    assert!(matches(&pattern, &text, false));
    let pattern = [pattern, b"c".to_vec()].concat();
    assert!(!matches(&pattern, &text, false));
}

#[test]
fn the_literal_prefix_ends_at_the_first_special() {
    assert_eq!(literal_prefix(b"user:*"), b"user:");
    assert_eq!(literal_prefix(b"user"), b"user");
    assert_eq!(literal_prefix(b"*"), b"");
}

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, key: &str) -> bool {
    pattern.parse::<KeyPattern>().unwrap().matches(key)
}

#[test]
fn stars_marks_and_sets() {
    for (pattern, yes, no) in [
        ("cache:*", vec!["cache:", "cache:a", "cache:a/b"], vec!["cache", "a cache:"]),
        ("*", vec!["a", "/", "é"], vec![]),
        ("*.bin", vec![".bin", "a.bin", "a.bin.bin"], vec!["a.bin2", "bin"]),
        ("a*b*c", vec!["abc", "aXbYc", "abbcc"], vec!["ab", "acb", "abcd"]),
        ("a?c", vec!["abc", "aéc"], vec!["ac", "abbc"]),
        ("[a-c]x", vec!["ax", "cx"], vec!["dx", "x"]),
        ("[!a-c]x", vec!["dx"], vec!["ax"]),
        ("[a-]", vec!["a", "-"], vec!["b"]),
        ("\\*", vec!["*"], vec!["a"]),
        ("[\\]]", vec!["]"], vec!["["]),
        ("日*", vec!["日本"], vec!["本"]),
    ] {
        for key in yes {
            assert!(matches(pattern, key), "{pattern} {key}");
        }
        for key in no {
            assert!(!matches(pattern, key), "{pattern} {key}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    for pattern in ["", "a[", "[]", "[a", "[z-a]", "a\\", "[!", "[\\"] {
        let error = pattern.parse::<KeyPattern>().unwrap_err();
        assert!(matches!(error, StorageError::InvalidInput(_)), "{pattern}: {error}");
    }
}

#[test]
fn many_stars_do_not_take_for_ever() {
    let pattern = "*a".repeat(50) + "b";
    assert!(!matches(&pattern, &"a".repeat(5000)));
}

/// The same by trying everything.
fn slowly(tokens: &[char], key: &[char]) -> bool {
    match (tokens.split_first(), key.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => {
            slowly(rest, key) || key.split_first().is_some_and(|(_, key)| slowly(tokens, key))
        }
        (Some(('?', rest)), Some((_, key))) => slowly(rest, key),
        (Some((token, rest)), Some((found, key))) => token == found && slowly(rest, key),
        _ => false,
    }
}

proptest! {
    #[test]
    fn agrees_with_trying_everything(pattern in "[ab*?]{1,8}", key in "[ab]{0,10}") {
        let tokens: Vec<char> = pattern.chars().collect();
        let chars: Vec<char> = key.chars().collect();
        prop_assert_eq!(matches(&pattern, &key), slowly(&tokens, &chars));
    }

    #[test]
    fn never_panics(pattern in "[a\\\\\\[\\]!*?-]{0,10}", key in ".{0,10}") {
        if let Ok(pattern) = pattern.parse::<KeyPattern>() {
            let _ = pattern.matches(&key);
        }
    }
}

use super::*;

#[test]
fn keys_never_leave_the_folder() {
    for wrong in ["../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/.", "a/", "", "a\0b", ".."]
    {
        assert!(safe_relative(wrong).is_err(), "{wrong:?}");
    }
    for right in ["a", "a/b", "..a/b..", "a b/ç"] {
        assert_eq!(safe_relative(right).unwrap(), Path::new(right));
    }
}

#[test]
fn destinations_of_files_and_folders() {
    let remote = |text: &str, several| {
        let destination = Destination::parse(text, several, "default").unwrap();
        let single = destination.of_file("f.txt").unwrap().to_string();
        let below = destination.below("d/f.txt").unwrap().to_string();
        (single, below)
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(remote("sira://ns/k", false), pair("sira://ns/k", "sira://ns/k/d/f.txt"));
    assert_eq!(remote("sira://ns/k", true), pair("sira://ns/k/f.txt", "sira://ns/k/d/f.txt"));
    assert_eq!(remote("sira://ns/k/", false), pair("sira://ns/k/f.txt", "sira://ns/k/d/f.txt"));
    assert_eq!(remote("sira://ns", false), pair("sira://ns/f.txt", "sira://ns/d/f.txt"));
    assert_eq!(remote("no/such/x", false), pair("no/such/x", "no/such/x/d/f.txt"));
    assert_eq!(remote("no/such/x/", false), pair("no/such/x/f.txt", "no/such/x/d/f.txt"));
}

#[test]
fn two_local_sides_are_refused() {
    assert!(check_sides(&["a".into()], "b").is_err());
    assert!(check_sides(&["sira://n/a".into(), "a".into()], "b").is_err());
    assert_eq!(check_sides(&["sira://n/a".into()], "b"), Ok(()));
    assert_eq!(check_sides(&["a".into()], "sira://n/b"), Ok(()));
}

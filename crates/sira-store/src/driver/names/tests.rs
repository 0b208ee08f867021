use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), Just(b'/'), Just(b'.'), Just(b'_'), Just(b'~'), Just(b'a')];
    prop_oneof![
        vec(byte.clone(), 0..12),
        // About as long as a segment, so that cuts fall everywhere.
        (vec(Just(b'k'), 190..210), vec(byte.clone(), 0..4))
            .prop_map(|(long, end)| [long, end].concat()),
        vec(byte, 0..500),
    ]
}

#[test]
fn every_pair_of_bytes_keeps_its_order() {
    let codes: Vec<_> = (0..=u8::MAX).map(|byte| escape(&[byte])).collect();
    for (a, code_a) in codes.iter().enumerate() {
        for (b, code_b) in codes.iter().enumerate() {
            assert_eq!(a.cmp(&b), code_a.cmp(code_b), "{a:#x} {b:#x}");
            assert!(a == b || !code_b.starts_with(code_a.as_str()), "{code_a} begins {code_b}");
        }
    }
}

#[test]
fn names_are_what_the_table_says() {
    assert_eq!(encode("users/7/photo.png"), "users._7._photo.-png");
    assert_eq!(encode("a b:c@d-e_f"), "a!20b:c@d-e__f");
    assert_eq!(encode("\0é[\\]^`;?{~"), "!00~C3~A9_0_1_2_3_a=0=4~7B~7E");
    assert_eq!(encode(".."), ".-.-");
    assert_eq!(encode("k".repeat(200)), "k".repeat(200));
    assert_eq!(encode("k".repeat(201)), format!("{}_/k", "k".repeat(200)));
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "k".repeat(201);
    let other_end = format!("{}-/k", "k".repeat(200));
    let open = format!("{}_/", "k".repeat(200));
    for text in ["", "!", "!2", "!2c", "!2D", "~7A", "._.", "_4", "=5", "a/b", "/", "+a", " ", "é"]
        .into_iter()
        .chain([long.as_str(), &other_end, &open, "~80"])
    {
        assert_eq!(decode(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn names_come_back(key in "\\PC{1,40}|[a-z/._]{1,300}") {
        prop_assert_eq!(decode(&encode(&key)), Some(key));
    }

    #[test]
    fn bytes_come_back(bytes in bytes()) {
        prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
    }

    #[test]
    fn names_are_safe(bytes in bytes()) {
        prop_assume!(!bytes.is_empty());
        let path = encode(&bytes);
        let mut segments: Vec<_> = path.split('/').collect();
        let file = segments.pop().unwrap();
        prop_assert!((1..=200).contains(&file.len()) && !is_folder(file));
        for folder in &segments {
            prop_assert!(is_folder(folder));
        }
        for segment in segments.into_iter().chain([file]) {
            prop_assert!(!segment.ends_with('.') && segment != "." && segment != "..");
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"!-.:=@_~".contains(&byte);
            prop_assert!(segment.bytes().all(safe), "{}", segment);
        }
    }

    #[test]
    fn names_keep_the_order(a in bytes(), b in bytes()) {
        let (path_a, path_b) = (encode(&a), encode(&b));
        prop_assert_eq!(a.cmp(&b), path_a.cmp(&path_b));
        let (folders_a, folders_b) = (path_a.split('/'), path_b.split('/'));
        prop_assert_eq!(a.cmp(&b), folders_a.cmp(folders_b));
    }

    #[test]
    fn a_name_begins_with_the_name_of_each_prefix(bytes in bytes(), at in any::<prop::sample::Index>()) {
        let (prefix, _) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert!(encode(&bytes).starts_with(&encode(prefix)));
    }

    #[test]
    fn folders_lie_to_a_bound_as_what_is_in_them(inside in bytes(), bound in bytes()) {
        let (path, bound) = (encode(&inside), encode(&bound));
        if let Some((folder, _)) = path.rsplit_once('/') {
            let folder = format!("{folder}/");
            match folder_order(&folder, &bound) {
                Ordering::Equal => prop_assert!(bound.starts_with(&folder)),
                order => prop_assert_eq!(order, path.cmp(&bound)),
            }
        }
    }
}

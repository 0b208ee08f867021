use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use zeroize::Zeroizing;

use super::{KEY_ID_BYTES_MAX, Keyring};
use crate::error::StorageError;

const A: &str = "1CcBcs/F7p6W46ZPPUL0pnuPIOUjGHuEbjEHHKFBRS8=";
const B: &str = "IpSBqaFBK0mfTl2QlLVsrs9GGOoYyYvnFDZJSovFSZI=";

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>) -> String {
    match result {
        Err(StorageError::InvalidInput(detail)) => detail.message,
        other => panic!("expected invalid input, saw {other:?}"),
    }
}

#[test]
fn text_names_keys_and_the_current_one() {
    let keyring = Keyring::from_text(&format!("# keys\n\n old={A}\nnew = {B}  \n")).unwrap();
    assert_eq!(keyring.ids().collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(keyring.current(), Some("new"));
    let keyring = Keyring::from_text(&format!("current = old\nold = {A}\nnew = {B}")).unwrap();
    assert_eq!(keyring.current(), Some("old"));
    assert_eq!(keyring.to_encrypt("").unwrap().0, "old");
    assert_eq!(keyring.to_encrypt("new").unwrap().0, "new");
    assert_ne!(keyring.to_decrypt("new").unwrap(), keyring.to_decrypt("old").unwrap());
}

#[test]
fn malformed_text_is_refused_with_its_line_and_without_the_key() {
    for (text, expected) in [
        (String::new(), "no key"),
        (format!("a = {A}\nb"), "line 2"),
        (format!("\na = {}", &A[4..]), "line 2"),
        (format!("a = {A}{A}"), "line 1"),
        (format!("a = {A}\na = {B}"), "line 2"),
        (format!("a = {A}\ncurrent = b"), "line 2"),
        (format!("{B} = {A}"), "line 1"),
        (format!("ü = {A}"), "line 1"),
        (format!("Current = {A}"), "line 1"),
        (format!("{} = {A}", "k".repeat(KEY_ID_BYTES_MAX + 1)), "line 1"),
    ] {
        let message = refused(Keyring::from_text(&text));
        assert!(message.contains(expected), "{text}: {message}");
        for secret in [&A[4..20], &B[4..20]] {
            assert!(!message.contains(secret), "{message}");
        }
    }
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "a = {A}").unwrap();
    assert_eq!(Keyring::from_file(file.path()).unwrap().current(), Some("a"));
    for mode in [0o640, 0o604, 0o620, 0o601] {
        file.as_file().set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        match Keyring::from_file(file.path()) {
            Err(StorageError::PermissionDenied(detail)) => {
                assert!(detail.message.contains("chmod 600"), "{}", detail.message);
            }
            other => panic!("mode {mode:o}: {other:?}"),
        }
    }
    let gone = Keyring::from_file(&file.path().with_extension("gone"));
    assert!(matches!(gone, Err(StorageError::NotFound(_))), "{gone:?}");
}

#[test]
fn variables_make_a_keyring() {
    let from = |variables: &[(&str, &str)]| {
        Keyring::from_variables(
            variables.iter().map(|(id, value)| ((*id).to_owned(), Zeroizing::new((*value).into()))),
        )
    };
    assert!(from(&[]).unwrap().is_none());
    assert_eq!(from(&[("a", A)]).unwrap().unwrap().current(), Some("a"));
    let two = from(&[("current", "B"), ("a", A), ("b", B)]).unwrap().unwrap();
    assert_eq!(two.current(), Some("b"));
    assert!(refused(from(&[("a", A), ("b", B)])).contains("SIRA_KEY_CURRENT"));
    assert!(refused(from(&[("a", "short")])).contains("SIRA_KEY_A"));
    assert!(refused(from(&[("current", "c"), ("a", A)])).contains("\"c\""));
}

#[test]
fn unknown_ids_are_named_and_keys_are_never_printed() {
    let keyring = Keyring::from_text(&format!("a = {A}")).unwrap();
    assert!(refused(keyring.to_encrypt("z")).contains("\"z\""));
    assert!(refused(Keyring::default().to_encrypt("")).contains("empty"));
    match keyring.to_decrypt("z") {
        Err(StorageError::PermissionDenied(detail)) => assert!(detail.message.contains("\"z\"")),
        other => panic!("{other:?}"),
    }
    assert_eq!(format!("{keyring:?}"), "Keyring { ids: [\"a\"], current: Some(\"a\"), .. }");
}

use std::sync::Arc;

use proptest::prelude::*;
use sira_store::Version;
use sira_store::driver::Area;

use super::*;

fn place(namespace: &str) -> Place {
    Place { namespace: Arc::from(namespace), area: Area::Objects }
}

fn record(expires_at_ms: Option<u64>, body: &str) -> Record {
    Record {
        version: Version::from_u64(7),
        expires_at_ms,
        size: body.len() as u64,
        envelope: Bytes::from_static(b"an envelope"),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn the_longest_names_fit() {
    let layout = Layout::new(&"p".repeat(100));
    let place = place(&"é".repeat(64));
    for key in ["k".repeat(1024), "é".repeat(512), "k".repeat(500), "é".repeat(83)] {
        let path = layout.locate(&place, &key).path;
        assert!(path.len() <= 1024, "{} bytes", path.len());
        assert!(path.split('/').all(|segment| segment.len() <= 255));
    }
}

#[test]
fn paths_of_records_are_told_from_others() {
    for prefix in ["", "a/b"] {
        let layout = Layout::new(prefix);
        for namespace in ["default", &"é".repeat(64), "a_b"] {
            let path = layout.locate(&place(namespace), "key/1").path;
            let below = layout.below_space(&path).unwrap();
            assert_eq!(Layout::name(below), Some(Name::Key("key/1".to_owned())));
        }
        assert_eq!(layout.below_space(&layout.probe(3)), None);
    }
    assert_eq!(Layout::new("a").below_space("b/default/o/k"), None);
    assert_eq!(Layout::new("").below_space("default/x/k"), None);
}

#[test]
fn a_tombstone_is_smaller_than_any_record() {
    let location = Layout::new("").locate(&place("n"), "k");
    let tombstone = Record { envelope: Bytes::new(), ..record(Some(1), "") };
    let bytes: usize = location.encode(&tombstone).iter().map(Bytes::len).sum();
    assert_eq!(bytes as u64, TOMBSTONE_BYTES);
}

#[test]
fn an_object_of_another_key_is_refused() {
    let layout = Layout::new("");
    let (one, other) = ("k".repeat(600), "j".repeat(600));
    let object = layout.locate(&place("n"), &one).encode(&record(None, "v")).concat();
    let error = layout.locate(&place("n"), &other).record(object.into()).unwrap_err();
    assert_eq!(error.code(), "corrupt");
    assert!(carried_key(&Bytes::from_static(b"\x05\0abc")).is_err());
    assert!(carried_head(&Bytes::from_static(b"\x03\0abc\0")).is_err());
}

proptest! {
    #[test]
    fn objects_come_back(key in "[a-zé/]{1,600}", body in "[a-z]{0,9}", at in prop::option::of(1_u64..9)) {
        prop_assume!(key.len() <= 1024);
        let location = Layout::new("p").locate(&place("n"), &key);
        let record = record(at, &body);
        let object = Bytes::from(location.encode(&record).concat());
        prop_assert_eq!(object.len() % 2 == 1, at.is_some());
        if location.offset() > 0 {
            let (carried, head) = carried_head(&object).unwrap();
            prop_assert_eq!(&carried, &key);
            prop_assert_eq!(head.held(), record.held());
        }
        prop_assert_eq!(Record::decode(&location.record(object).unwrap()).unwrap(), record);
    }
}

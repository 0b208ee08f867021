use std::sync::Arc;

use proptest::prelude::*;
use sira_store::Version;
use sira_store::driver::{After, Area};

use super::*;

fn keys() -> Keys {
    Keys::of(&Place { namespace: Arc::from("näme"), area: Area::Objects })
}

proptest! {
    #[test]
    fn ids_have_the_order_of_keys_and_lead_back(a in ".{1,20}", b in ".{1,20}") {
        let keys = keys();
        prop_assert_eq!(a.cmp(&b), keys.id(&a).cmp(&keys.id(&b)));
        // Some engines compare by UTF-16.
        let utf16 = |key: &str| keys.id(key).encode_utf16().collect::<Vec<u16>>();
        prop_assert_eq!(a.cmp(&b), utf16(&a).cmp(&utf16(&b)));
        prop_assert_eq!(keys.key(&keys.id(&a)).unwrap(), a);
    }

    #[test]
    fn ranges_hold_what_a_scan_asks_for(
        prefix in "[a\u{ff}\u{10ffff}]{0,2}",
        after in proptest::option::of(("[a\u{ff}\u{10ffff}]{0,3}", any::<bool>())),
        key in "[ab\u{ff}\u{10ffff}\0]{1,4}",
    ) {
        let after = after.map(|(text, whole)| match whole {
            true => After::Prefix(text),
            false => After::Key(text),
        });
        let wanted =
            key.starts_with(&prefix) && after.as_ref().is_none_or(|after| after.precedes(&key));
        let range = keys().range(&Scan { prefix, after, limit: 1 });
        let id = keys().id(&key);
        let holds = range.iter().all(|(operator, bound)| match (operator.as_str(), bound) {
            ("$gt", Bson::String(bound)) => id > *bound,
            ("$gte", Bson::String(bound)) => id >= *bound,
            ("$lt", Bson::String(bound)) => id < *bound,
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(holds, wanted);
    }
}

#[test]
fn places_are_apart() {
    let id = |namespace: &str, area| Keys::of(&Place { namespace: namespace.into(), area }).id("k");
    let ids = [id("a", Area::Objects), id("a", Area::Chunks), id("ab", Area::Objects)];
    assert_eq!(ids, ["oa/k", "ca/k", "oab/k"]);
    assert!(keys().key("oother/k").is_err());
    assert!(keys().key(&format!("{}\u{100}", keys().id("k"))).is_err());
}

#[test]
fn records_come_back() {
    let record = Record {
        version: Version::from_u64(u64::MAX - 3),
        expires_at_ms: Some(1_700_000_000_123),
        size: 10,
        envelope: Bytes::from_static(b"envelope"),
        body: Bytes::from_static(b"0123456789"),
    };
    for expires_at_ms in [None, record.expires_at_ms] {
        let record = Record { expires_at_ms, ..record.clone() };
        let read = |part| super::record(of_record("id", &record).unwrap(), &part).unwrap();
        assert_eq!(read(Part::Whole), record);
        assert_eq!(read(Part::Head), Record { body: Bytes::new(), ..record.clone() });
        for (range, body) in [(2..5, "234"), (8..99, "89"), (10..12, ""), (99..120, "")] {
            let part = Record { body: Bytes::from(body), ..record.clone() };
            assert_eq!(read(Part::Range(range)), part);
        }
    }
}

#[test]
fn other_documents_are_corrupt() {
    let document = RawDocumentBuf::try_from(&doc! { "_id": "oa/k", "v": "text" }).unwrap();
    let error = super::record(document, &Part::Whole).unwrap_err();
    assert_eq!(error.code(), "corrupt");
}

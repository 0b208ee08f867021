use proptest::prelude::*;
use reqwest::StatusCode;
use sira_store::driver::Area;

use super::*;

fn place() -> Place {
    Place { namespace: "n".into(), area: Area::Objects }
}

fn answer(body: Value) -> Answer {
    Answer { status: StatusCode::OK, body: body.to_string().into() }
}

proptest! {
    #[test]
    fn ranges_hold_what_a_scan_asks_for(
        prefix in "[a\u{d7ff}\u{e000}\u{10ffff}]{0,2}",
        after in proptest::option::of(("[a\u{d7ff}\u{10ffff}]{0,3}", any::<bool>())),
        last in proptest::option::of("[a\u{d7ff}\u{10ffff}]{1,3}"),
        key in "[ab\u{d7ff}\u{e000}\u{10ffff}\0]{1,4}",
    ) {
        let after = after.map(|(text, whole)| match whole {
            true => After::Prefix(text),
            false => After::Key(text),
        });
        let scan = Scan { prefix, after, limit: 1 };
        // Where a page went before this one, its last key comes after all that the scan skips.
        let first = match &last {
            Some(last) => *last < key,
            None => scan.after.as_ref().is_none_or(|after| after.precedes(&key)),
        };
        let wanted = key.starts_with(&scan.prefix) && first;
        let name = Name::of(&place(), &key).full;
        let holds = ranges(&place(), &scan, last.as_deref()).iter().all(|range| {
            let bounds = range["range"]["k"].as_object().unwrap();
            bounds.iter().all(|(operator, bound)| {
                let bound = bound.as_str().unwrap();
                match operator.as_str() {
                    "gt" => name.as_str() > bound,
                    "gte" => name.as_str() >= bound,
                    "lt" => name.as_str() < bound,
                    other => panic!("{other}"),
                }
            })
        });
        prop_assert_eq!(holds, wanted);
    }
}

#[test]
fn records_come_back() {
    let record = Record {
        version: Version::from_u64(u64::MAX - 3),
        expires_at_ms: Some(1_700_000_000_123),
        size: 10,
        envelope: Bytes::from_static(b"\xff\0envelope"),
        body: Bytes::from_static(b"0123456789"),
    };
    let name = Name::of(&place(), "a\"b\0\u{10ffff}");
    for expires_at_ms in [None, record.expires_at_ms] {
        let record = Record { expires_at_ms, ..record.clone() };
        let source: Value = serde_json::from_slice(&of_record(&name, &record)).unwrap();
        assert_eq!(source["k"], "on/a\"b\0\u{10ffff}");
        let answer = answer(json!({
            "found": true, "_seq_no": 7, "_primary_term": 2, "_source": source,
        }));
        let found = found(&answer).unwrap().unwrap();
        assert_eq!((found.sequence, found.term), (7, 2));
        assert_eq!(found.held().unwrap(), record.held());
        assert_eq!(found.record(&Part::Whole).unwrap(), record);
        let head = Record { body: Bytes::new(), ..record.clone() };
        assert_eq!(found.record(&Part::Head).unwrap(), head);
        for (range, body) in [(2..5, "234"), (8..99, "89"), (10..12, ""), (99..120, "")] {
            let part = Record { body: Bytes::from(body), ..record.clone() };
            assert_eq!(found.record(&Part::Range(range)).unwrap(), part);
        }
    }
}

#[test]
fn other_documents_are_corrupt() {
    let code = |source: Value| {
        let answer = answer(json!({ "found": true, "_source": source }));
        let found = found(&answer).and_then(|found| found.unwrap().record(&Part::Whole));
        found.unwrap_err().code()
    };
    assert_eq!(code(json!({ "v": "text" })), "corrupt");
    assert_eq!(code(json!({ "v": 1, "s": 0, "e": "", "b": "no base64!" })), "corrupt");
    assert_eq!(code(Value::Null), "corrupt");
    assert!(found(&answer(json!({ "found": false }))).unwrap().is_none());
}

#[test]
fn names_of_places_are_apart() {
    let name = |namespace: &str, area, key: &str| {
        Name::of(&Place { namespace: namespace.into(), area }, key)
    };
    let names = [
        name("a", Area::Objects, "k"),
        name("a", Area::Chunks, "k"),
        name("ab", Area::Objects, "k"),
        name("a", Area::Objects, "bk"),
    ];
    for (number, name) in names.iter().enumerate() {
        assert_eq!(name.id().len(), 64);
        assert!(names[number + 1..].iter().all(|other| other.id() != name.id()));
    }
}

#[test]
fn a_listing_that_lacks_a_part_is_refused() {
    let body = |timed_out, failed| {
        json!({ "timed_out": timed_out, "_shards": { "failed": failed }, "hits": { "hits": [
            { "fields": { "k": ["on/a"], "v": [i64::MIN + 5], "s": [3] } },
            { "fields": { "k": ["on/b"], "v": [i64::MIN + 6], "x": [9], "s": [4] } },
        ] } })
    };
    let whole = listed(&answer(body(false, 0)), &place()).unwrap();
    let keys: Vec<_> = whole.iter().map(|listed| (listed.key.as_str(), listed.size)).collect();
    assert_eq!(keys, [("a", 3), ("b", 4)]);
    assert_eq!(whole[1].version, Some(Version::from_u64(6)));
    assert_eq!(whole[1].expiry, Expiry::At(9));
    assert!(listed(&answer(body(true, 0)), &place()).is_err());
    assert!(listed(&answer(body(false, 1)), &place()).is_err());
    let other = Place { namespace: "other".into(), area: Area::Objects };
    assert_eq!(listed(&answer(body(false, 0)), &other).unwrap_err().code(), "corrupt");
}

#[test]
fn versions_that_the_engine_does_not_take_are_kept_from_it() {
    let external = |version| external_version(Version::from_u64(version));
    assert_eq!(external(0), None);
    assert_eq!(external(7), Some(7));
    assert_eq!(external(1 << 63), None);
}

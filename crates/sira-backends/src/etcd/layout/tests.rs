use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use sira_store::Version;
use sira_store::driver::{Area, Place, Record};

use super::{Names, StoredHead, alive, below, encode_head, split_expiry};

fn record(version: u64, expires_at_ms: Option<u64>) -> Record {
    Record {
        version: Version::from_u64(version),
        expires_at_ms,
        size: 3,
        envelope: Bytes::from_static(b"envelope"),
        body: Bytes::from_static(b"abc"),
    }
}

#[test]
fn keys_of_a_record() {
    let place = Place { namespace: Arc::from("models"), area: Area::Chunks };
    let names = Names::new("sira/", &place, "a/b");
    assert_eq!(names.head, b"sira/ch/models/a/b");
    assert_eq!(names.body, b"sira/cb/models/a/b");
    let expiry = names.expiry(0x1234);
    assert_eq!(expiry, b"sira/cx/0000000000001234/models/a/b");
    assert_eq!(split_expiry(&expiry[8..]), Some((0x1234, &b"models/a/b"[..])));
    assert_eq!(split_expiry(b"0000000000001234"), None);
}

#[test]
fn heads_are_checked() {
    let record = record(7, Some(9));
    let stored = StoredHead::decode(encode_head(&record)).unwrap();
    assert_eq!(stored.held(), record.held());
    assert_eq!(stored.clone().with_body(record.body.clone()).unwrap(), record);
    assert_eq!(stored.clone().with_body(Bytes::new()).unwrap_err().code(), "corrupt");
    assert!(stored.without_body().unwrap().body.is_empty());
    assert_eq!(StoredHead::decode(vec![0; 15]).unwrap_err().code(), "corrupt");
}

proptest! {
    #[test]
    fn byte_order_tells_what_a_guard_does(
        held in 1_u64..5,
        expires_at_ms in prop::option::of(1_u64..5),
        version in 1_u64..5,
        now_ms in 0_u64..6,
    ) {
        let record = record(held, expires_at_ms);
        let value = encode_head(&record);
        let version_of = Version::from_u64;
        prop_assert_eq!(value < below(version_of(version)), held < version);
        let matches = value > alive(version_of(version), now_ms) && value < below(version_of(version + 1));
        prop_assert_eq!(matches, held == version && record.held().lives(now_ms));
    }
}

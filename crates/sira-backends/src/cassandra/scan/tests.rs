use proptest::prelude::*;
use sira_store::driver::After;

use super::*;

proptest! {
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
        let range = KeyRange::of(&Scan { prefix, after, limit: 1 });
        let bytes = key.as_bytes();
        prop_assert_eq!(range.first.as_slice() <= bytes && bytes < range.end.as_slice(), wanted);
    }
}

fn listed(key: &str) -> Listed {
    Listed { key: key.to_owned(), size: 0, version: None, expiry: Expiry::Never }
}

fn bucket(keys: &[&str], more: bool) -> Bucket {
    let rest = more.then(|| KeyRange { first: Vec::new(), end: Vec::new() });
    Bucket { number: 0, read: keys.iter().map(|key| listed(key)).collect(), rest }
}

fn merged(buckets: &mut [Bucket], limit: usize) -> (Vec<String>, bool) {
    let mut page = Vec::new();
    let done = merge(buckets, &mut page, limit);
    (page.into_iter().map(|listed| listed.key).collect(), done)
}

#[test]
fn buckets_are_merged_in_order() {
    let mut buckets = [bucket(&["b", "d"], false), bucket(&[], false), bucket(&["a", "c"], false)];
    assert_eq!(merged(&mut buckets, 3), (vec!["a".into(), "b".into(), "c".into()], true));
    assert_eq!(merged(&mut buckets, 3), (vec!["d".into()], true));
}

#[test]
fn a_bucket_that_may_hold_more_is_waited_for() {
    // The second bucket's next key may be smaller than "d".
    let mut buckets = [bucket(&["b", "d"], false), bucket(&["a"], true)];
    assert_eq!(merged(&mut buckets, 3), (vec!["a".into()], false));
    assert_eq!(merged(&mut buckets, 3), (vec![], false));
    buckets[1].read.push_back(listed("c"));
    assert_eq!(merged(&mut buckets, 2), (vec!["b".into(), "c".into()], true));
}

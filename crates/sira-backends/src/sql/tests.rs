use sira_store::driver::After;

use super::*;

fn bounds(prefix: &str, after: Option<After>) -> (Vec<u8>, Vec<u8>) {
    scan_bounds(&Scan { prefix: prefix.to_owned(), after, limit: 1 })
}

fn holds(bounds: &(Vec<u8>, Vec<u8>), key: &str) -> bool {
    key.as_bytes() >= &bounds.0[..] && key.as_bytes() < &bounds.1[..]
}

#[test]
fn bounds_hold_what_a_scan_asks_for() {
    let keys = ["\0", "a", "a\0", "a/", "a/\0", "a//", "a/b", "a0", "é", "\u{10FFFF}"];
    let afters = keys.iter().flat_map(|key| {
        [Some(After::Key((*key).to_owned())), Some(After::Prefix((*key).to_owned()))]
    });
    for after in afters.chain([None]) {
        for prefix in ["", "a", "a/", "é"] {
            let bounds = bounds(prefix, after.clone());
            for key in keys {
                let wanted = key.starts_with(prefix)
                    && after.as_ref().is_none_or(|after| after.precedes(key));
                assert_eq!(holds(&bounds, key), wanted, "{key:?} in {prefix:?} after {after:?}");
            }
        }
    }
}

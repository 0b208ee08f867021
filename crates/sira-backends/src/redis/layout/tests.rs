use std::collections::HashSet;
use std::sync::Arc;

use redis::cluster_routing::Slot;
use sira_store::driver::{Area, Place};

use super::{CLUSTER_BUCKETS, Layout, SLOTS};

fn place() -> Place {
    Place { namespace: Arc::from("models"), area: Area::Objects }
}

#[test]
fn names_of_one_bucket() {
    let layout = Layout::new("sira:", 1);
    let names = layout.names(&place(), "a/b");
    assert_eq!(names.value, b"sira:{0}o/models/a/b");
    assert_eq!(names.index, "sira:{0}o");
    assert_eq!(names.expiries, "sira:{0}ox");
}

#[test]
fn all_names_of_a_key_share_the_slot_that_is_told() {
    let layout = Layout::new("p:", CLUSTER_BUCKETS);
    for number in 0..500 {
        let names = layout.names(&place(), &format!("key {{{number}}}"));
        let slot = Slot::new(names.slot);
        assert_eq!(Some(Slot::for_key(&names.value)), slot);
        assert_eq!(Some(Slot::for_key(&names.index)), slot);
        assert_eq!(Some(Slot::for_key(&names.expiries)), slot);
    }
}

#[test]
fn buckets_have_equal_shares_of_the_slots() {
    let layout = Layout::new("", CLUSTER_BUCKETS);
    let share = SLOTS as u16 / CLUSTER_BUCKETS;
    let shares: HashSet<_> = layout.buckets().iter().map(|bucket| bucket.slot() / share).collect();
    assert_eq!(shares.len(), usize::from(CLUSTER_BUCKETS));
}

#[test]
fn keys_are_spread_over_all_buckets() {
    let layout = Layout::new("", CLUSTER_BUCKETS);
    let slots: HashSet<_> =
        (0..5_000).map(|number| layout.names(&place(), &number.to_string()).slot).collect();
    assert_eq!(slots.len(), usize::from(CLUSTER_BUCKETS));
}

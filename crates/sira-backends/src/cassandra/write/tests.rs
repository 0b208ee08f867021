use super::*;

fn guard(now_ms: u64) -> Guard {
    Guard::always(now_ms)
}

#[test]
fn rows_are_kept_longer_than_their_records() {
    let seconds = |expires_at_ms, now_ms| {
        ttl_seconds(&Record { expires_at_ms, ..Record::default() }, &guard(now_ms))
    };
    assert_eq!(seconds(None, 5), 0);
    assert_eq!(seconds(Some(10_001), 10_000), 601);
    assert_eq!(seconds(Some(10_000), 20_000), 600);
    assert_eq!(seconds(Some(u64::MAX), 0), 0);
    assert_eq!(seconds(Some((TTL_SECONDS_MAX - 600) * 1000), 0), 630_720_000);
    assert_eq!(seconds(Some((TTL_SECONDS_MAX - 600) * 1000 + 1), 0), 0);
}

#[test]
fn no_expiry_is_the_same_as_none() {
    assert_eq!(expiry(column_of(None)).unwrap(), None);
    assert_eq!(expiry(column_of(Some(7))).unwrap(), Some(7));
    assert!(expiry(column_of(Some(u64::MAX))).unwrap().is_some());
}

#[test]
fn bounds_hold_what_may_be_replaced() {
    let holds = |bounds: Bounds, held: Held| {
        let version = signed::from_version(held.version);
        let expiry = column_of(held.expires_at_ms);
        (bounds.versions.0..=bounds.versions.1).contains(&version)
            && (bounds.expiries.0..=bounds.expiries.1).contains(&expiry)
    };
    let held = |version, expires_at_ms| Held { version: Version::from_u64(version), expires_at_ms };
    let old = Version::from_u64(9);
    for version in [0, 9, 10, u64::MAX] {
        for expires_at_ms in [None, Some(99), Some(100), Some(101), Some(u64::MAX)] {
            let held = held(version, expires_at_ms);
            let lives = held.lives(100);
            assert!(holds(Bounds::any(), held));
            assert!(holds(Bounds::exactly(held), held));
            assert_eq!(holds(Bounds::live(&guard(100)), held), lives);
            let is_old = held.version == old;
            assert_eq!(holds(Bounds::live_version(old, &guard(100)), held), lives && is_old);
            let before = Bounds::any().before(Version::from_u64(10));
            assert_eq!(holds(before, held), version < 10);
        }
    }
}

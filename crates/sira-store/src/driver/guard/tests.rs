use super::*;

const NOW: u64 = 1_000;

fn held(version: u64, expires_at_ms: Option<u64>) -> Option<Held> {
    Some(Held { version: Version::from_u64(version), expires_at_ms })
}

fn admit(condition: Condition, exact: bool, held: Option<Held>, version: u64) -> Result<u64> {
    Guard { condition, exact, now_ms: NOW }
        .admit(held, Version::from_u64(version))
        .map(Version::as_u64)
}

#[test]
fn versions_of_a_key_only_grow() {
    let always = Condition::Always;
    assert_eq!(admit(always, false, None, 5).unwrap(), 5);
    assert_eq!(admit(always, false, held(4, None), 5).unwrap(), 5);
    assert_eq!(admit(always, false, held(5, None), 5).unwrap(), 6);
    assert_eq!(admit(always, false, held(9, None), 5).unwrap(), 10);
    // An expired record's version is not used again either.
    assert_eq!(admit(always, false, held(9, Some(NOW)), 5).unwrap(), 10);
}

#[test]
fn an_exact_version_is_stored_or_refused() {
    let always = Condition::Always;
    assert_eq!(admit(always, true, held(4, None), 5).unwrap(), 5);
    for older in [5, 6] {
        let error = admit(always, true, held(older, None), 5).unwrap_err();
        assert!(matches!(error, StorageError::Conflict(_)), "{error:?}");
    }
}

#[test]
fn expired_records_are_absent_to_conditions() {
    let expired = held(3, Some(NOW));
    let alive = held(3, Some(NOW + 1));
    assert!(admit(Condition::IfAbsent, false, expired, 5).is_ok());
    assert!(admit(Condition::IfAbsent, false, alive, 5).is_err());
    let matching = Condition::IfMatch(Version::from_u64(3));
    assert!(admit(matching, false, alive, 5).is_ok());
    assert!(admit(matching, false, expired, 5).is_err());

    let removal =
        |condition, held| Guard { condition, exact: false, now_ms: NOW }.admit_removal(held);
    assert!(removal(Condition::Always, alive).unwrap());
    assert!(!removal(Condition::Always, expired).unwrap());
    assert!(removal(Condition::IfPresent, expired).is_err());
}

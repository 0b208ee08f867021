use super::*;

fn facts(age_s: u64, size: u64) -> Facts<'static> {
    let version = Version::from_u64((1_000_000_000 - age_s * 1000) << 16);
    Facts { version: Some(version), size: Some(size), metadata: None }
}

const NOW_MS: u64 = 1_000_000_000;

#[test]
fn an_object_fits_if_all_that_is_said_holds() {
    let mut rule = LifecycleRule::new("r", LifecycleAction::Expire);
    assert!(rule.check().unwrap_err().to_string().contains("every object"));
    rule.keys = Some("logs/*".parse().unwrap());
    rule.older_than = Some(Duration::from_secs(60));
    rule.larger_than = Some(10);
    rule.smaller_than = Some(100);
    rule.check().unwrap();
    let fits = |key, age_s, size| rule.fits(key, facts(age_s, size), NOW_MS);
    assert_eq!(fits("logs/a", 60, 11), Some(true));
    assert_eq!(fits("logs/a", 59, 11), Some(false));
    assert_eq!(fits("logs/a", 60, 10), Some(false));
    assert_eq!(fits("logs/a", 60, 100), Some(false));
    assert_eq!(fits("other", 60, 11), Some(false));
    assert_eq!(rule.fits("logs/a", Facts { size: None, ..facts(60, 0) }, NOW_MS), None);
    // One thing that does not hold is enough.
    assert_eq!(rule.fits("logs/a", Facts { size: None, ..facts(1, 0) }, NOW_MS), Some(false));
    // What is no clock has no age.
    let state = Facts { version: Some(Version::of_state(7)), ..facts(0, 11) };
    assert_eq!(rule.fits("logs/a", state, NOW_MS), Some(false));

    let mut metadata = Metadata::default();
    rule.metadata.insert("class".to_owned(), "temporary".to_owned());
    assert_eq!(rule.fits("logs/a", facts(60, 11), NOW_MS), None);
    let known = Facts { metadata: Some(&metadata), ..facts(60, 11) };
    assert_eq!(rule.fits("logs/a", known, NOW_MS), Some(false));
    metadata.user = rule.metadata.clone();
    let known = Facts { metadata: Some(&metadata), ..facts(60, 11) };
    assert_eq!(rule.fits("logs/a", known, NOW_MS), Some(true));
}

#[test]
fn the_first_rule_that_fits_decides_and_waits_for_what_it_must_know() {
    let rule = |name: &str, keys: &str, action| LifecycleRule {
        keys: Some(keys.parse().unwrap()),
        ..LifecycleRule::new(name, action)
    };
    let mut keep = rule("keep", "a/*", LifecycleAction::Keep);
    let expire = rule("expire", "*", LifecycleAction::Expire);
    let named = |rules: &[&LifecycleRule], key, facts| {
        decide(rules, key, facts, NOW_MS).map(|rule| rule.map(|rule| rule.name.clone()))
    };
    let known = facts(1, 1);
    assert_eq!(named(&[&keep, &expire], "a/x", known), Ok(Some("keep".to_owned())));
    assert_eq!(named(&[&keep, &expire], "b", known), Ok(Some("expire".to_owned())));
    assert_eq!(named(&[&keep], "b", known), Ok(None));
    keep.metadata.insert("hold".to_owned(), "yes".to_owned());
    assert_eq!(named(&[&keep, &expire], "a/x", known), Err(()), "an exception may fit");
    assert_eq!(named(&[&keep, &expire], "b", known), Ok(Some("expire".to_owned())));
}

#[test]
fn rules_are_about_namespaces_and_never_about_the_stores_own() {
    let rule = LifecycleRule {
        namespaces: vec!["tenant-*".parse().unwrap(), "logs".parse().unwrap()],
        ..LifecycleRule::new("r", LifecycleAction::Expire)
    };
    assert!(rule.check().is_ok());
    assert!(rule.is_about("tenant-1") && rule.is_about("logs") && !rule.is_about("log"));
    assert!(is_own("sira.catalog.names") && is_own("sira.versions.a") && !is_own("a"));
    let level = LifecycleRule::new("c", LifecycleAction::Compress { level: 23 });
    assert!(level.check().is_err());
}

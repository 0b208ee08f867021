use std::time::Duration;

use sira_store::version_history::KeepVersions;

use super::{one, right};

#[test]
fn earlier_versions_are_kept_by_number_and_age_where_their_namespace_lies() {
    let text = "[namespaces.a]\nkeep_versions = 3\nkeep_versions_for = \"30d\"\nttl = \"1h\"\n\
                compression = \"zstd\"\n[namespaces.a.cache]\nmemory = \"1MiB\"";
    let config = right(text);
    let keep = KeepVersions { count: Some(3), age: Some(Duration::from_secs(30 * 86_400)) };
    assert_eq!(config.namespaces["a"].keep_versions, Some(keep));
    let kept = &config.namespaces["sira.versions.a"];
    assert_eq!(kept.compression, config.namespaces["a"].compression);
    assert_eq!((kept.ttl, &kept.cache, kept.keep_versions), (None, &None, None));
    assert_eq!(right("[namespaces.a]").namespaces.len(), 1);
    assert!(right("[namespaces.a]\nkeep_versions_for = \"1h\"").namespaces.len() == 2);

    let refused = |text: &str| one(text).0;
    assert!(refused("[namespaces.a]\nkeep_versions = 0").contains("1 to 1000"));
    assert!(refused("[namespaces.a]\nkeep_versions = 2000").contains("1 to 1000"));
    assert!(refused("[namespaces.a]\nkeep_versions_for = \"soon\"").contains("30d"));
    let plain = "[namespaces.a]\nkeep_versions = 1\nplain = true";
    assert!(refused(plain).contains("cannot keep versions: other programs"));
    let back = "[namespaces.a]\nkeep_versions = 1\n[namespaces.a.cache]\nwrite = \"back\"\n\
                allow_loss = true";
    assert!(refused(back).contains("writes back"));
    assert!(refused("[namespaces.\"sira.versions.a\"]").contains("the store's own"));
    let long = format!("[namespaces.{}]\nkeep_versions = 1", "x".repeat(120));
    assert!(refused(&long).contains("up to 114 bytes"));
}

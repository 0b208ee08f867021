use std::time::Duration;

use sira_store::lifecycle::LifecycleAction;

use super::{one, right};

#[test]
fn rules_of_the_lifecycle_are_read_in_their_order() {
    let text = "\
[storage.lifecycle]
interval = \"1h\"
[[storage.lifecycle.rules]]
name = \"held\"
action = \"keep\"
metadata = { hold = \"yes\" }
[[storage.lifecycle.rules]]
name = \"old\"
action = \"expire\"
namespaces = [\"logs\", \"tenant-*\"]
keys = \"raw/*\"
older_than = \"30d\"
larger_than = \"1KiB\"
smaller_than = \"1MiB\"
[[storage.lifecycle.rules]]
name = \"cold\"
action = \"move\"
to = \"embedded\"
[[storage.lifecycle.rules]]
name = \"press\"
action = \"compress\"
level = 19
";
    let lifecycle = right(text).lifecycle;
    assert_eq!(lifecycle.interval, Duration::from_secs(3600));
    let [held, old, cold, press] = &lifecycle.rules[..] else { panic!("{:?}", lifecycle.rules) };
    assert_eq!((held.metadata["hold"].as_str(), &held.action), ("yes", &LifecycleAction::Keep));
    assert_eq!(old.older_than, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!((old.larger_than, old.smaller_than), (Some(1024), Some(1 << 20)));
    assert!(old.is_about("tenant-7") && !old.is_about("other"));
    assert_eq!(old.keys.as_ref().unwrap().as_str(), "raw/*");
    assert_eq!(cold.action, LifecycleAction::Move { to: "embedded".to_owned() });
    assert_eq!(press.action, LifecycleAction::Compress { level: 19 });
    assert_eq!(right("").lifecycle.rules, []);
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let refused = |rule: &str| {
        let text = format!("[[storage.lifecycle.rules]]\nname = \"r\"\n{rule}");
        one(&text).0
    };
    assert!(refused("action = \"expire\"").contains("remove every object"));
    assert!(refused("action = \"move\"").contains("does not say where"));
    assert!(refused("action = \"move\"\nto = \"none\"").contains("none"));
    assert!(refused("action = \"keep\"\nto = \"embedded\"").contains("moves nothing"));
    assert!(refused("action = \"expire\"\nkeys = \"a\"\nlevel = 3").contains("compresses nothing"));
    assert!(refused("action = \"compress\"\nlevel = 30").contains("30"));
    assert!(refused("action = \"burn\"").contains("burn"));
    assert!(refused("action = \"keep\"\nolder_than = \"30\"").contains("30d"));
    let twice = "action = \"keep\"\n[[storage.lifecycle.rules]]\nname = \"r\"\naction = \"keep\"";
    assert!(refused(twice).contains("two rules"));
    assert!(one("[storage.lifecycle]\ninterval = \"1ms\"").0.contains("at least 1s"));
}

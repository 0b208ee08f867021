use std::sync::Arc;

use sira_store::StorageOptions;
use sira_store::env::SystemEnv;
use sira_store::router::{RouteRequest, StorageRouter};

use super::super::tests::{one, right, wrong};
use super::*;

const BACKENDS: &str = "\
[storage.backends.memory]
[storage.backends.filesystem]
path = \"/nowhere\"
";

fn router(text: &str) -> StorageRouter {
    let config = right(&format!("{BACKENDS}{text}"));
    let env: Arc<dyn Env> = Arc::new(SystemEnv);
    let router = config.routing.router(&config.default_backend, &env, Arc::default()).unwrap();
    for name in ["embedded", "filesystem", "memory"] {
        let profile = config.routing.profiles.get(name).cloned().unwrap_or_default();
        router.register_backend(name, profile);
    }
    router
}

#[test]
fn strategies_are_made_of_others() {
    let router = router(
        "\
[storage.routing]
strategy = \"tried\"
[storage.routing.strategies.tried]
type = \"shadow\"
of = [\"copied\"]
to = [\"memory\"]
[storage.routing.strategies.copied]
type = \"mirror\"
of = [\"steady\"]
to = [\"filesystem\"]
[storage.routing.strategies.steady]
type = \"fallback\"
of = [\"spread\", \"cost\"]
[storage.routing.strategies.spread]
type = \"weighted\"
weights = { embedded = 1, filesystem = 0 }
[storage.routing.prices.filesystem]
storage_gb_month = 1.0
[storage.routing.prices.embedded]
storage_gb_month = 2.0
",
    );
    let options = StorageOptions::default();
    let route = router.route(&RouteRequest { size: Some(9), ..RouteRequest::new("k", &options) });
    assert_eq!(route.backends, ["embedded", "memory", "filesystem"]);
    assert_eq!((route.mirrors, route.shadows), (vec!["filesystem".into()], vec!["memory".into()]));
    assert!(router.has_shadows());
    assert_eq!(router.mirrors().into_iter().collect::<Vec<_>>(), ["filesystem"]);
}

#[test]
fn patterns_name_mirrors_and_shadows() {
    let router = router(
        "\
[[storage.routing.patterns]]
pattern = \"a*\"
backend = \"embedded\"
mirrors = [\"memory\"]
shadow = \"filesystem\"
",
    );
    let options = StorageOptions::default();
    let route = router.route(&RouteRequest::new("a", &options));
    assert_eq!((route.mirrors, route.shadows), (vec!["memory".into()], vec!["filesystem".into()]));
}

#[test]
fn callers_come_from_the_region_of_the_gateway() {
    let text = |region: &str| {
        format!(
            "[storage.routing]\nstrategy = \"geography\"\nregion = {region:?}\n\
             [storage.routing.profiles.memory]\nregion = \"us-east-1\"\n\
             [storage.routing.profiles.filesystem]\nregion = \"eu-west-1\"\n"
        )
    };
    let options = StorageOptions::default();
    for (region, backend) in [("eu-north-1", "filesystem"), ("us-west-2", "memory")] {
        assert_eq!(router(&text(region)).select_backend("k", &options), backend);
    }
}

#[test]
fn what_is_wrong_with_copies_is_told() {
    let pattern = "[[storage.routing.patterns]]\npattern = \"a\"\nbackend = \"embedded\"\n";
    for (line, message, hint) in [
        (
            "mirrors = [\"embedded\"]",
            "4:12: storage.routing.patterns.mirrors: \"embedded\" is where the objects lie themselves",
            "",
        ),
        (
            "shadow = \"embedded\"",
            "4:10: storage.routing.patterns.shadow: \"embedded\" is where the objects lie themselves",
            "",
        ),
        ("mirrors = [\"embeded\"]", "4:12: there is no backend \"embeded\"", "\"embedded\""),
        ("shadow = \"embeded\"", "4:10: there is no backend \"embeded\"", "\"embedded\""),
        (
            "shadow_part = 0.5",
            "4:15: storage.routing.patterns.shadow_part is that of a shadow, and there is none",
            "shadow = \"archive\"",
        ),
    ] {
        assert_eq!(one(&format!("{pattern}{line}")), (message.to_owned(), hint.to_owned()));
    }
    let text = "[storage.backends.memory]\n".to_owned()
        + pattern
        + "shadow = \"memory\"\nshadow_part = 1.5";
    let message = "6:15: storage.routing.patterns.shadow_part is a part from 0 to 1, this is 1.5";
    assert_eq!(one(&text).0, message);
}

#[test]
fn what_is_wrong_with_strategies_is_told() {
    let section = |name: &str, lines: &str| format!("[storage.routing.strategies.{name}]\n{lines}");
    for (text, message, hint) in [
        (
            "[storage.routing]\nstrategy = \"costs\"".to_owned(),
            "2:12: there is no strategy \"costs\"",
            "\"cost\"",
        ),
        (
            "[storage.routing]\nstrategy = 5".to_owned(),
            "2:12: storage.routing.strategy is a name in quotes, this is a integer",
            "",
        ),
        (
            section("cost", "type = \"first\"\nof = [\"sla\"]"),
            "1:29: storage.routing.strategies.cost: there is a strategy of this name; choose another",
            "",
        ),
        (
            section("a", "type = \"first\"\nof = [\"b\"]\n")
                + &section("b", "type = \"all_of\"\nof = [\"slaa\"]"),
            "6:7: there is no strategy \"slaa\"",
            "\"sla\"",
        ),
        (
            section("a", "type = \"weighted\"\nweights = { embeddedd = 1 }"),
            "3:13: there is no backend \"embeddedd\"",
            "\"embedded\"",
        ),
        (
            section("a", "type = \"weighted\"\nweights = { embedded = -1 }"),
            "3:13: storage.routing.strategies.a.weights: a weight is a number from 0 on, this is -1",
            "",
        ),
        (
            section("a", "type = \"fallback\""),
            "1:29: storage.routing.strategies.a.of: a strategy of this type takes strategies",
            "",
        ),
        (
            section("a", "type = \"mirror\"\nof = [\"cost\", \"sla\"]\nto = [\"embedded\"]"),
            "1:29: storage.routing.strategies.a.of: a strategy of this type takes one of the strategies",
            "",
        ),
        (
            section("a", "type = \"first\"\nof = [\"cost\"]\nto = [\"embedded\"]"),
            "1:29: storage.routing.strategies.a.to: a strategy of this type takes no backends",
            "",
        ),
        (
            section("a", "type = \"shadow\"\nof = [\"cost\"]\nto = [\"embedded\"]\npart = -0.5"),
            "5:8: storage.routing.strategies.a.part is a part from 0 to 1, this is -0.5",
            "",
        ),
    ] {
        assert_eq!(one(&text), (message.to_owned(), hint.to_owned()), "{text}");
    }
    let text = section("a", "type = \"first\"\nof = [\"b\"]\n")
        + &section("b", "type = \"first\"\nof = [\"a\"]\n");
    let told: Vec<String> = wrong(&text).into_iter().map(|(message, _)| message).collect();
    assert_eq!(
        told,
        ["3:7: the strategy \"b\" asks itself", "6:7: the strategy \"a\" asks itself"]
    );
}

use super::*;
use crate::router::{BackendProfile, BackendStats};

fn place(rules: &Rules, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Vec<String>> {
    rules.route(request, stats).map(|route| route.backends)
}

fn refused(expression: &str, backends: &[&str]) -> String {
    let backends = backends.iter().map(|name| (*name).to_owned()).collect();
    let error = Rules::new().add("r", expression, backends).unwrap_err();
    assert_eq!(error.code(), "invalid_input");
    error.to_string()
}

#[test]
fn the_first_rule_that_holds_wins() {
    let mut rules = Rules::new();
    rules.add("large", "size > 1000000 && operation == 'write'", vec!["s3".into()]).unwrap();
    rules.add("brief", "ttl_s >= 0 && ttl_s < 60", vec!["redis".into(), "pg".into()]).unwrap();
    rules.add("night", "hour in [0, 1, 2] ? 'tape' : ''", Vec::new()).unwrap();
    rules
        .add(
            "tenant",
            "key.startsWith('t:') && content_type.contains('json')",
            vec!["mongo".into()],
        )
        .unwrap();
    let stats = RoutingStats::default();
    let options = StorageOptions::default();
    let request = RouteRequest { now_ms: 12 * 3_600_000, ..RouteRequest::new("t:1", &options) };
    assert_eq!(place(&rules, &request, &stats), None);
    let large = RouteRequest { size: Some(2_000_000), ..request };
    assert_eq!(place(&rules, &large, &stats).unwrap(), ["s3"]);
    let night = RouteRequest { now_ms: 25 * 3_600_000, ..request };
    assert_eq!(place(&rules, &night, &stats).unwrap(), ["tape"]);
    let mut options = StorageOptions::default();
    options.metadata.content_type = Some("application/json".into());
    let json = RouteRequest { options: &options, ..request };
    assert_eq!(place(&rules, &json, &stats).unwrap(), ["mongo"]);
    let brief = StorageOptions { ttl: Some(std::time::Duration::from_secs(5)), ..options.clone() };
    let brief = RouteRequest { options: &brief, ..request };
    assert_eq!(place(&rules, &brief, &stats).unwrap(), ["redis", "pg"]);
}

#[test]
fn rules_see_the_statistics_and_fail_over_backends_that_there_are_not() {
    let mut rules = Rules::new();
    rules.add("calm", "backends['redis'].latency_ms < 5", vec!["redis".into()]).unwrap();
    rules.add("else", "true", vec!["pg".into()]).unwrap();
    let of = |latency_ms: f64| -> RoutingStats {
        let profile = BackendProfile { latency_ms, ..BackendProfile::default() };
        [("redis", BackendStats::unmeasured(Arc::new(profile)))].into_iter().collect()
    };
    let options = StorageOptions::default();
    let request = RouteRequest { explain: true, ..RouteRequest::new("k", &options) };
    assert_eq!(place(&rules, &request, &of(1.0)).unwrap(), ["redis"]);
    assert_eq!(place(&rules, &request, &of(9.0)).unwrap(), ["pg"]);
    let route = rules.route(&request, &RoutingStats::default()).unwrap();
    assert_eq!(route.backends, ["pg"]);
    assert!(route.reason.contains("\"calm\" could not be evaluated"), "{}", route.reason);
}

#[test]
fn what_cannot_work_is_refused_with_its_position() {
    let text = refused("size >\n  && 3", &["a"]);
    assert!(text.contains("line 2"), "{text}");
    let text = refused("size > 3 &&\n    colour == 'red'", &["a"]);
    assert!(text.contains("line 2, column 5: there is no variable \"colour\""), "{text}");
    let text = refused("key.matches('(a+)+')", &["a"]);
    assert!(text.contains("no function \"matches\""), "{text}");
    let text = refused("[1, 2].exists(x, [1, 2].exists(y, x == y))", &["a"]);
    assert!(text.contains("not allowed"), "{text}");
    assert!(refused("{'a': 1}", &[]).contains("not allowed"));
    assert!(refused("size + 1", &["a"]).contains("true or false"));
    assert!(refused("size > 1", &[]).contains("name of a backend"));
    refused("key > 5", &["a"]);
    assert!(refused(&"!".repeat(EXPRESSION_BYTES_MAX + 1), &["a"]).contains("4097 bytes"));
    refused(&format!("{}true{}", "(".repeat(1500), ")".repeat(1500)), &["a"]);
}

mod learning;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::env::SimEnv;

fn profile(latency_ms: f64) -> BackendProfile {
    BackendProfile { latency_ms, ..BackendProfile::default() }
}

fn stats<const N: usize>(backends: [(&str, BackendProfile); N]) -> RoutingStats {
    backends
        .into_iter()
        .map(|(name, profile)| (name, BackendStats::unmeasured(Arc::new(profile))))
        .collect()
}

fn sim_router() -> (Arc<SimEnv>, StorageRouter) {
    let env = Arc::new(SimEnv::new(7, 1_000_000));
    let recorder = StatsRecorder::with_env(env.clone(), StatsRecorder::HALF_LIFE);
    (env.clone(), StorageRouter::with_recorder(env, Arc::new(recorder)))
}

fn outcome<'a>(backend: &'a str, latency_ms: f64, now_ms: u64) -> RouteOutcome<'a> {
    RouteOutcome {
        backend,
        namespace: "default",
        key: "k",
        operation: Operation::Write,
        size: 1000,
        region: None,
        latency: Duration::from_secs_f64(latency_ms / 1000.0),
        success: true,
        now_ms,
    }
}

/// Answers with fixed names.
#[derive(Debug)]
struct Says(Vec<&'static str>);

impl RoutingStrategy for Says {
    fn name(&self) -> &str {
        "says"
    }

    fn select_backend(&self, _: &str, _: &StorageOptions, _: &RoutingStats) -> Option<String> {
        self.0.first().map(|name| (*name).to_owned())
    }

    fn route(&self, _: &RouteRequest<'_>, _: &RoutingStats) -> Option<Route> {
        (!self.0.is_empty()).then(|| Route::to(self.0.clone()).because("it was told so"))
    }
}

fn says(names: &[&'static str]) -> Box<dyn RoutingStrategy> {
    Box::new(Says(names.to_vec()))
}

#[test]
fn the_first_strategy_that_answers_wins_then_patterns_then_the_default() {
    let (_, mut router) = sim_router();
    let options = StorageOptions::default();
    assert_eq!(router.select_backend("cache:1", &options), DEFAULT_BACKEND);
    router.register_backend("zeta", profile(1.0));
    router.register_backend("beta", profile(1.0));
    assert_eq!(router.select_backend("cache:1", &options), "beta");
    router.set_default_backend("postgres");
    router.add_data_pattern("cache:*", DataPattern::to("redis")).unwrap();
    assert_eq!(router.select_backend("cache:1", &options), "redis");
    assert_eq!(router.select_backend("data:1", &options), "postgres");
    assert_eq!(router.data_type_based_routing("cache:1", &options).as_deref(), Some("redis"));
    assert_eq!(router.data_type_based_routing("data:1", &options), None);
    router.add_strategy(says(&[]));
    router.add_strategy(says(&["a"]));
    router.add_strategy(says(&["b"]));
    assert_eq!(router.select_backend("cache:1", &options), "a");
    assert!(router.add_data_pattern("[", DataPattern::to("x")).is_err());
}

#[test]
fn a_route_names_only_candidates_and_never_none() {
    let (_, mut router) = sim_router();
    router.set_default_backend("far");
    router.add_strategy(says(&["gone", "b", "a"]));
    let options = StorageOptions::default();
    let candidates = ["a".to_owned(), "b".to_owned()];
    let request = RouteRequest { candidates: &candidates, ..RouteRequest::new("k", &options) };
    assert_eq!(router.route(&request).backends, ["b", "a"]);
    let candidates = ["c".to_owned(), "d".to_owned()];
    let request = RouteRequest { candidates: &candidates, ..RouteRequest::new("k", &options) };
    let route = router.route(&request);
    assert_eq!((route.first(), route.rule.as_str()), (Some("c"), "default"));
}

#[test]
fn an_explanation_has_every_rule_and_says_what_routes_say() {
    let (_, mut router) = sim_router();
    router.register_backend("a", profile(1.0));
    router.register_backend("b", profile(2.0));
    router.set_default_backend("a");
    router.add_data_pattern("cache:*", DataPattern::to("b")).unwrap();
    router.add_strategy(says(&["gone"]));
    router.add_strategy(says(&[]));
    let options = StorageOptions::default();
    let candidates = ["a".to_owned(), "b".to_owned()];
    let request =
        RouteRequest { candidates: &candidates, ..RouteRequest::new("cache:1", &options) };
    let explained = router.explain(&request);
    let rules: Vec<&str> = explained.answers.iter().map(|answer| answer.rule.as_str()).collect();
    assert_eq!(rules, ["says", "says", "patterns", "default"]);
    assert_eq!(explained.answers[0].passed_over, ["gone"]);
    assert!(explained.answers[0].route.is_none());
    assert_eq!(explained.chosen.backends, router.route(&request).backends);
    assert_eq!(explained.chosen.rule, "patterns");
    assert_eq!(
        explained.to_string(),
        "\"cache:1\" goes to b (rule patterns)\n  \
         says: no answer; not allowed here: gone\n  \
         says: no answer\n  \
         patterns: b (the key matches the pattern cache:*)\n  \
         default: a (no other rule has an answer)"
    );
    assert_eq!(router.route(&request).reason, "");
}

#[test]
fn recorded_outcomes_change_what_is_fastest() {
    let (env, mut router) = sim_router();
    router.register_backend("a", profile(1.0));
    router.register_backend("b", profile(5.0));
    let options = StorageOptions::default();
    assert_eq!(router.performance_based_routing("k", &options).as_deref(), Some("a"));
    for _ in 0..50 {
        router.record(&outcome("a", 80.0, 0));
    }
    router.set_rebalance_interval(Duration::from_secs(1));
    env.advance_ms(1000);
    assert_eq!(router.performance_based_routing("k", &options).as_deref(), Some("b"));
    router.add_strategy(Box::new(PerformanceBased::new(&*env)));
    let explained = router.explain(&RouteRequest::new("k", &options));
    assert_eq!(explained.chosen.backends, ["b", "a"]);
    // What was slow is forgotten in time, and asked again.
    env.advance_ms(200_000);
    assert_eq!(router.performance_based_routing("k", &options).as_deref(), Some("a"));
}

use super::*;

/// Part of `rounds` choices that fell on `name`, each recorded with the latency of what was chosen.
fn share(
    strategy: &dyn RoutingStrategy,
    name: &str,
    rounds: u32,
    now_ms: &mut u64,
    request: RouteRequest<'_>,
    latency_ms: impl Fn(&str) -> f64,
) -> f64 {
    let stats = stats([("a", profile(10.0)), ("b", profile(10.0)), ("c", profile(10.0))]);
    let mut hits = 0;
    for _ in 0..rounds {
        *now_ms += 10;
        let request = RouteRequest { now_ms: *now_ms, ..request };
        let route = strategy.route(&request, &stats).unwrap();
        let chosen = route.first().unwrap();
        hits += u32::from(chosen == name);
        let (operation, size) = (request.operation, request.size.unwrap_or(0));
        let latency_ms = latency_ms(chosen);
        strategy.observe(&RouteOutcome { operation, size, ..outcome(chosen, latency_ms, *now_ms) });
    }
    f64::from(hits) / f64::from(rounds)
}

#[test]
fn adaptive_finds_the_best_of_each_context_and_again_when_it_changes() {
    for seed in 0..5 {
        let adaptive = Adaptive::new(&SimEnv::new(seed, 0));
        let options = StorageOptions::default();
        let small = RouteRequest { size: Some(100), ..RouteRequest::new("k", &options) };
        let large = RouteRequest { size: Some(10 << 20), ..small };
        let mut now_ms = 0;
        let before = |name: &str| if name == "a" { 2.0 } else { 20.0 };
        let others = |name: &str| if name == "b" { 30.0 } else { 200.0 };
        let after = |name: &str| if name == "c" { 2.0 } else { 20.0 };
        let mut run = |name, rounds, request, latency: &dyn Fn(&str) -> f64| {
            share(&adaptive, name, rounds, &mut now_ms, request, latency)
        };
        assert!(run("a", 1000, small, &before) > 0.9, "seed {seed}");
        assert!(run("b", 1000, large, &others) > 0.9, "seed {seed}");
        assert!(run("a", 1000, small, &before) > 0.9, "seed {seed}");
        // The best changes: it is found anew.
        run("c", 3000, small, &after);
        assert!(run("c", 1000, small, &after) > 0.9, "seed {seed}");
    }
}

#[test]
fn adaptive_shuns_what_fails_and_weighs_prices() {
    let adaptive = Adaptive::new(&SimEnv::new(3, 0)).with_ms_per_price(1000.0);
    let options = StorageOptions::default();
    for i in 0..50 {
        adaptive.observe(&RouteOutcome { success: false, ..outcome("a", 1.0, i) });
        adaptive.observe(&outcome("b", 10.0, i));
        adaptive.observe(&outcome("c", 12.0, i));
    }
    let prices = PriceTable { write_per_1000: 5.0, ..PriceTable::default() };
    let dear = BackendProfile { prices, ..profile(10.0) };
    let stats = stats([("a", profile(10.0)), ("b", dear), ("c", profile(10.0))]);
    let request = RouteRequest {
        now_ms: 50,
        size: Some(1000),
        explain: true,
        ..RouteRequest::new("k", &options)
    };
    let route = adaptive.route(&request, &stats).unwrap();
    assert_eq!(route.backends, ["c", "b", "a"], "{}", route.reason);
}

#[test]
fn performance_goes_on_trying_backends_of_which_little_is_known() {
    let (env, _) = sim_router();
    let strategy = PerformanceBased::new(&*env).with_exploration(0.1);
    let known =
        |ms, evidence| BackendStats { evidence, ..BackendStats::unmeasured(Arc::new(profile(ms))) };
    let options = StorageOptions::default();
    let request = RouteRequest::new("k", &options);
    let tried = |stats: &RoutingStats, request: &RouteRequest<'_>| {
        let routes = (0..1000).map(|_| strategy.route(request, stats).unwrap());
        routes.filter(|route| route.backends == ["slow", "fast"]).count()
    };
    let stats = [("fast", known(1.0, 100.0)), ("slow", known(9.0, 1.0))].into_iter().collect();
    assert!((60..140).contains(&tried(&stats, &request)));
    assert_eq!(tried(&stats, &RouteRequest { explain: true, ..request }), 0);
    let stats = [("fast", known(1.0, 100.0)), ("slow", known(9.0, 100.0))].into_iter().collect();
    assert_eq!(tried(&stats, &request), 0);
}

#[test]
fn siblings_stay_together_within_a_bounded_memory() {
    let locality = Locality::new().with_groups_max(2);
    let options = StorageOptions::default();
    let stats = RoutingStats::default();
    let place = |key: &str| locality.select_backend(key, &options, &stats).unwrap_or_default();
    let write = |key, backend| locality.observe(&RouteOutcome { key, ..outcome(backend, 1.0, 0) });
    assert_eq!(place("user:1/photo"), "");
    write("user:1/photo", "s3");
    assert_eq!((place("user:1/name").as_str(), place("user:2/name").as_str()), ("s3", ""));
    write("user:1/name", "pg");
    assert_eq!(place("user:1/photo"), "pg");
    locality.observe(&RouteOutcome {
        key: "user:1/x",
        operation: Operation::Read,
        ..outcome("s3", 1.0, 0)
    });
    assert_eq!(place("user:1/photo"), "pg");
    write("user:2/a", "s3");
    write("user:3/a", "s3");
    assert_eq!((place("user:1/x").as_str(), place("user:3/x").as_str()), ("", "s3"));
    let near = |group: &str| (group == "user:1/").then(|| "old".to_owned());
    let request = RouteRequest { near: Some(&near), ..RouteRequest::new("user:1/x", &options) };
    assert_eq!(locality.route(&request, &stats).unwrap().backends, ["old"]);
    assert_eq!(place("flat"), "");
}

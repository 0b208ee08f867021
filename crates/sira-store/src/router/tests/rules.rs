use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::metadata::Metadata;

fn first(
    strategy: &dyn RoutingStrategy,
    request: &RouteRequest<'_>,
    stats: &RoutingStats,
) -> String {
    strategy
        .route(request, stats)
        .and_then(|route| route.first().map(str::to_owned))
        .unwrap_or_default()
}

#[test]
fn the_most_specific_pattern_wins_and_bounds_on_the_size_hold() {
    let mut patterns = DataPatterns::new();
    patterns.add("*", DataPattern::to("any")).unwrap();
    patterns.add("cache:*", DataPattern::to("redis")).unwrap();
    patterns.add("cache:session:*", DataPattern::to("memory")).unwrap();
    let large = DataPattern { size_min: Some(1000), ..DataPattern::to("s3") };
    patterns.add("cache:????:*", large).unwrap();
    patterns.add("cache:*", DataPattern::to("second")).unwrap();
    let options = StorageOptions::default();
    let stats = RoutingStats::default();
    let place = |key, size| {
        first(&patterns, &RouteRequest { size, ..RouteRequest::new(key, &options) }, &stats)
    };
    assert_eq!(place("other", None), "any");
    assert_eq!(place("cache:1", None), "redis");
    assert_eq!(place("cache:session:1", None), "memory");
    assert_eq!(place("cache:blob:1", Some(1000)), "s3");
    assert_eq!(place("cache:blob:1", Some(999)), "redis");
    assert_eq!(place("cache:blob:1", None), "redis");
}

#[test]
fn a_pattern_whose_backends_are_not_allowed_gives_way_to_the_next() {
    let mut patterns = DataPatterns::new();
    patterns.add("*", DataPattern::to("any")).unwrap();
    let fallback_backends = vec!["stand-in".to_owned()];
    let mirror_backends = vec!["copy".to_owned()];
    let data = DataPattern { fallback_backends, mirror_backends, ..DataPattern::to("redis") };
    patterns.add("cache:*", data).unwrap();
    let options = StorageOptions::default();
    let allowed = ["any".to_owned()];
    let request = RouteRequest { candidates: &allowed, ..RouteRequest::new("cache:1", &options) };
    assert_eq!(first(&patterns, &request, &RoutingStats::default()), "any");
    let open = RouteRequest::new("cache:1", &options);
    let route = patterns.route(&open, &RoutingStats::default()).unwrap();
    assert_eq!(route.backends, ["redis", "stand-in"]);
    assert_eq!(route.mirrors, ["copy"]);
}

#[test]
fn kinds_come_from_the_media_type_then_from_the_extension() {
    let kinds = [
        ("a.png", None, DataKind::Image),
        ("a.png", Some("video/mp4"), DataKind::Video),
        ("a.JSON", Some("application/octet-stream"), DataKind::Document),
        ("model.v1/weights.safetensors", None, DataKind::Tensor),
        ("model.v1/readme", None, DataKind::Binary),
        ("x", Some("application/ld+json; charset=utf-8"), DataKind::Document),
        ("x", Some("Text/CSV"), DataKind::Table),
        ("x", Some("nonsense"), DataKind::Binary),
    ];
    for (key, content_type, kind) in kinds {
        assert_eq!(DataKind::of(key, content_type), kind, "{key} {content_type:?}");
    }
    let strategy = DataTypeBased::new().with(DataKind::Image, "s3");
    let metadata = Metadata { content_type: Some("image/webp".into()), ..Metadata::default() };
    let options = StorageOptions { metadata, ..StorageOptions::default() };
    let stats = RoutingStats::default();
    assert_eq!(strategy.select_backend("k", &options, &stats).as_deref(), Some("s3"));
    assert_eq!(strategy.select_backend("k", &StorageOptions::default(), &stats), None);
}

#[test]
fn sizes_fall_into_classes_and_larger_classes_stand_in() {
    let strategy = SizeBased::new().with(u64::MAX, "s3").with(1024, "redis").with(65_536, "pg");
    let options = StorageOptions::default();
    let route = |size| {
        let request = RouteRequest { size, ..RouteRequest::new("k", &options) };
        strategy.route(&request, &RoutingStats::default()).map(|route| route.backends)
    };
    assert_eq!(route(Some(0)).unwrap(), ["redis", "pg", "s3"]);
    assert_eq!(route(Some(1024)).unwrap(), ["redis", "pg", "s3"]);
    assert_eq!(route(Some(1025)).unwrap(), ["pg", "s3"]);
    assert_eq!(route(Some(u64::MAX)).unwrap(), ["s3"]);
    assert_eq!(route(None), None);
}

fn priced(storage: f64, read: f64, egress: f64, region: &str) -> BackendProfile {
    let prices = PriceTable {
        storage_gb_month: storage,
        read_per_1000: read,
        write_per_1000: read,
        egress_gb: egress,
        ..PriceTable::default()
    };
    BackendProfile { prices, region: Some(region.to_owned()), ..BackendProfile::default() }
}

#[test]
fn the_cheapest_place_depends_on_life_reads_and_where_they_come_from() {
    let stats = stats([
        ("archive", priced(0.001, 0.5, 0.0, "eu-1")),
        ("disk", priced(0.1, 0.0, 0.09, "eu-1")),
    ]);
    let (long, short) = (
        StorageOptions::default(),
        StorageOptions { ttl: Some(Duration::from_secs(3600)), ..StorageOptions::default() },
    );
    let cost = CostBased { reads_per_day: 1.0, ..CostBased::default() };
    let gb = RouteRequest { size: Some(1_000_000_000), ..RouteRequest::new("k", &long) };
    let small = RouteRequest { size: Some(1000), ..RouteRequest::new("k", &long) };
    assert_eq!(first(&cost, &gb, &stats), "archive");
    assert_eq!(first(&cost, &small, &stats), "disk");
    let brief = RouteRequest { size: Some(1_000_000_000), ..RouteRequest::new("k", &short) };
    assert_eq!(first(&cost, &brief, &stats), "disk");
    let often = CostBased { reads_per_day: 10.0, ..cost };
    assert_eq!(first(&often, &gb, &stats), "disk");
    let abroad = RouteRequest { region: Some("us-1"), ..gb };
    assert_eq!(first(&often, &abroad, &stats), "archive");
    // 0.1 to keep, 30 reads of 10^9 bytes at 0.09.
    let price = cost.price(&abroad, stats.get("disk").unwrap());
    assert!((price - (0.1 + 30.0 * 0.09)).abs() < 1e-9, "{price}");
}

#[test]
fn the_least_storage_time_is_charged() {
    let prices =
        PriceTable { storage_gb_month: 3.0, storage_days_min: 10.0, ..PriceTable::default() };
    let day = Duration::from_secs(86_400);
    assert!((prices.storage(1_000_000_000, day) - 1.0).abs() < 1e-9);
    assert!((prices.storage(1_000_000_000, day * 30) - 3.0).abs() < 1e-9);
}

#[test]
fn the_nearest_region_wins_and_the_table_goes_before_the_names() {
    let at = |region: &str| BackendProfile { region: Some(region.into()), ..profile(1.0) };
    let stats = stats([
        ("ap", at("ap-south-1")),
        ("eu", at("eu-west-1")),
        ("nowhere", profile(1.0)),
        ("us", at("us-east-1")),
    ]);
    let options = StorageOptions::default();
    let from = |region| RouteRequest { region, ..RouteRequest::new("k", &options) };
    let names = Geography::new();
    assert_eq!(first(&names, &from(Some("eu-north-1")), &stats), "eu");
    assert_eq!(first(&names, &from(Some("us-east-1")), &stats), "us");
    assert!(names.route(&from(None), &stats).is_none());
    let table = Geography::new().with_distance("eu-north-1", "ap-south-1", 5.0);
    let route = table.route(&from(Some("eu-north-1")), &stats).unwrap();
    assert_eq!(route.backends, ["ap", "eu", "us", "nowhere"]);
}

#[test]
fn bounds_go_before_the_price() {
    let mut cheap = priced(0.01, 0.0, 0.0, "eu");
    (cheap.latency_ms, cheap.durability) = (80.0, 0.9999);
    let mut dear = priced(1.0, 0.0, 0.0, "eu");
    (dear.latency_ms, dear.durability) = (5.0, 0.999_999);
    let stats = stats([("cheap", cheap), ("dear", dear)]);
    let options = StorageOptions::default();
    let request = RouteRequest { explain: true, ..RouteRequest::new("k", &options) };
    assert_eq!(first(&SlaBased::default(), &request, &stats), "cheap");
    let quick = SlaBased { latency_p99: Some(Duration::from_millis(10)), ..SlaBased::default() };
    let route = quick.route(&request, &stats).unwrap();
    assert_eq!(route.backends, ["dear", "cheap"]);
    assert!(route.reason.ends_with("cheap breaks latency"), "{}", route.reason);
    let impossible = SlaBased { durability: Some(1.0), ..quick };
    assert_eq!(first(&impossible, &request, &stats), "dear");
    assert!(SlaBased { strict: true, ..impossible }.route(&request, &stats).is_none());
}

#[test]
fn values_that_a_backend_does_not_take_are_not_sent_there() {
    let small = BackendProfile { value_bytes_max: Some(10), ..profile(0.1) };
    let stats = stats([("small", small), ("slow", profile(9.0))]);
    let options = StorageOptions::default();
    let (env, _) = sim_router();
    let request = RouteRequest { size: Some(11), ..RouteRequest::new("k", &options) };
    let strategies: [Box<dyn RoutingStrategy>; 4] = [
        Box::new(PerformanceBased::new(&*env)),
        Box::new(CostBased::default()),
        Box::new(SlaBased::default()),
        Box::new(Adaptive::new(&*env)),
    ];
    for strategy in strategies {
        let route = strategy.route(&request, &stats).unwrap();
        assert_eq!(route.backends, ["slow"], "{}", strategy.name());
    }
}

#[test]
fn failures_make_a_fast_backend_a_slow_one() {
    let failing =
        BackendStats { success_rate: 0.1, ..BackendStats::unmeasured(Arc::new(profile(1.0))) };
    let steady = BackendStats::unmeasured(Arc::new(profile(5.0)));
    let stats: RoutingStats = [("failing", failing), ("steady", steady)].into_iter().collect();
    let (env, _) = sim_router();
    let strategy = PerformanceBased::new(&*env).with_exploration(0.0);
    assert_eq!(
        first(&strategy, &RouteRequest::new("k", &StorageOptions::default()), &stats),
        "steady"
    );
}

#[test]
fn weights_hold_and_only_the_keys_of_a_backend_that_goes_are_moved() {
    let options = StorageOptions::default();
    let stats = RoutingStats::default();
    let weights = [("a", 1.0), ("b", 3.0), ("c", 4.0)];
    let weighted = |weights: &[(&str, f64)]| {
        Weighted(weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect())
    };
    let (all, without_b) = (weighted(&weights), weighted(&[weights[0], weights[2]]));
    let mut counts = [0_u32; 3];
    for i in 0..8000 {
        let key = format!("key-{i}");
        let request = RouteRequest::new(&key, &options);
        let place = first(&all, &request, &stats);
        counts[weights.iter().position(|(name, _)| *name == place).unwrap()] += 1;
        if place != "b" {
            assert_eq!(first(&without_b, &request, &stats), place);
        }
    }
    for (count, (name, weight)) in counts.iter().zip(weights) {
        let share = f64::from(*count) / (1000.0 * weight);
        assert!((0.9..1.1).contains(&share), "{name}: {count}");
    }
    assert!(weighted(&[("a", 0.0)]).select_backend("k", &options, &stats).is_none());
}

#[test]
fn strategies_are_composed() {
    let options = StorageOptions::default();
    let stats = RoutingStats::default();
    let request = RouteRequest::new("k", &options);
    let lists: [&[&'static str]; 4] = [&[], &["a", "b", "c"], &["c", "a"], &["d"]];
    let list = |which: &[usize]| which.iter().map(|i| says(lists[*i])).collect::<Vec<_>>();
    let route = |strategy: &dyn RoutingStrategy| {
        strategy.route(&request, &stats).map(|route| route.backends).unwrap_or_default()
    };
    assert_eq!(route(&First(list(&[0, 2, 1]))), ["c", "a"]);
    assert_eq!(route(&FallbackChain(list(&[2, 0, 1, 3]))), ["c", "a", "b", "d"]);
    // Ranks: a 0 + 1 + 0, c 2 + 0 + 2; b is not in every list.
    assert_eq!(route(&AllOf(list(&[1, 2, 1]))), ["a", "c"]);
    assert!(route(&AllOf(list(&[1, 3]))).is_empty());
    assert!(route(&First(list(&[0]))).is_empty());

    let mirror = Mirror { inner: says(&["a", "b"]), to: vec!["a".into(), "b".into()] };
    let mirrored = mirror.route(&request, &stats).unwrap();
    assert_eq!(
        (mirrored.backends, mirrored.mirrors),
        (vec!["a".into(), "b".into()], vec!["b".into()])
    );

    let compared = |part: f64| {
        let shadow = Shadow { inner: says(&["a"]), to: "new".into(), part };
        let keys = (0..1000).map(|i| format!("{i}"));
        keys.filter(|key| {
            let route = shadow.route(&RouteRequest::new(key, &options), &stats).unwrap();
            assert_eq!(route.backends, ["a"]);
            route.shadows == ["new"]
        })
        .count()
    };
    assert_eq!((compared(0.0), compared(1.0)), (0, 1000));
    assert!((200..300).contains(&compared(0.25)));
}

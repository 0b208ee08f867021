use super::*;

#[test]
fn a_season_is_foreseen() {
    let mut forecast = Forecast::new(1000, 10);
    // Quiet for eight buckets, then a peak of two, with a slow growth.
    let load = |bucket: u64| if bucket % 10 >= 8 { 1000 } else { 100 };
    let (mut error, mut total) = (0.0, 0.0);
    for bucket in 0..200_u64 {
        forecast.roll(bucket * 1000);
        if bucket >= 100 {
            let expected = forecast.level.unwrap() + forecast.trend + forecast.season_of(bucket);
            error += (expected - load(bucket) as f64).abs();
            total += load(bucket) as f64;
        }
        forecast.ended = load(bucket);
    }
    assert!(error / total < 0.1, "{}", error / total);
    // In the last quiet bucket the peak is reckoned with already.
    forecast.roll(207_000);
    assert!(forecast.per_second(207_000) > 800.0, "{}", forecast.per_second(207_000));
}

#[test]
fn backends_are_filled_in_order_up_to_what_they_carry() {
    assert_eq!(shares(100.0, &[50.0, 30.0, 1e12]), [0.5, 0.3, 0.2]);
    assert_eq!(shares(10.0, &[50.0, 30.0]), [1.0, 0.0]);
    assert_eq!(shares(0.0, &[50.0, 30.0]), [1.0, 0.0]);
    assert_eq!(shares(800.0, &[60.0, 20.0]), [0.75, 0.25]);
}

#[test]
fn who_would_wait_goes_where_it_is_done_first() {
    assert_eq!(relieved(&[2.0, 8.0], &[2.0, 8.0], Some(1)), Some(1), "the forecast decides");
    assert_eq!(relieved(&[2.0, 8.0], &[9.0, 8.0], Some(0)), Some(1));
    assert_eq!(relieved(&[2.0, 8.0], &[9.0, 20.0], Some(1)), Some(0));
    assert_eq!(relieved(&[2.0, 8.0], &[9.0, 8.0], None), None);
}

#[test]
fn a_backend_that_has_become_slow_is_reckoned_as_slow_for_a_while() {
    let mut pace = Pace { alone_ms: 2.0, per_second: Some(1000.0), slowness: 1.0, at_ms: 0 };
    assert!((pace.told_ms(0) - 2.0).abs() < 1e-9 && (pace.told_ms(9) - 10.0).abs() < 1e-9);
    for _ in 0..100 {
        pace.see(80.0, 9, 1000);
    }
    assert!((pace.slowness_at(1000) - 8.0).abs() < 0.1, "{pace:?}");
    assert!((pace.slowness_at(3000) - 4.5).abs() < 0.1, "{pace:?}");
    assert!(pace.slowness_at(60_000) < 1.01);
}

#[test]
fn a_long_silence_and_a_clock_that_goes_back_are_borne() {
    let mut forecast = Forecast::new(1, 10);
    forecast.roll(5);
    forecast.ended = 100;
    forecast.roll(u64::MAX / 2);
    assert!(forecast.per_second(u64::MAX / 2).abs() < 1.0);
    forecast.roll(0);
    assert_eq!(forecast.current, Some(u64::MAX / 2));
}

#[test]
fn a_burst_is_shared_before_its_first_operation_has_ended() {
    let env = crate::env::SimEnv::new(1, 0);
    let predictive = Predictive::new(&env).with_season(1000, 1);
    let profile = |latency_ms, most| super::super::BackendProfile {
        latency_ms,
        operations_per_s_max: Some(most),
        ..Default::default()
    };
    let unmeasured = |profile| super::super::BackendStats::unmeasured(std::sync::Arc::new(profile));
    let stats: RoutingStats =
        [("fast", unmeasured(profile(2.0, 900.0))), ("wide", unmeasured(profile(8.0, 1800.0)))]
            .into_iter()
            .collect();
    let options = crate::StorageOptions::default();
    let mut sent = BTreeMap::<String, u64>::new();
    for number in 0..300 {
        let key = number.to_string();
        let request = RouteRequest { now_ms: 5000, ..RouteRequest::new(&key, &options) };
        let route = predictive.route(&request, &stats).unwrap();
        *sent.entry(route.backends[0].clone()).or_default() += 1;
    }
    // A third, as both have room, when the burst is known to be one.
    assert!((90..=130).contains(&sent["fast"]), "{sent:?}");
}

use super::*;
use crate::router::{Adaptive, PerformanceBased, Predictive, PriceTable, SizeBased, Weighted};

fn access(time_ms: u64, operation: Operation, key: &str) -> Access {
    Access { time_ms, operation, key: key.to_owned(), size: 1_000_000_000, region: None }
}

fn to(backend: &'static str) -> impl Fn(&Arc<SimEnv>) -> Vec<Box<dyn RoutingStrategy>> {
    move |_| vec![Box::new(SizeBased::new().with(u64::MAX, backend))]
}

/// A backend that is quick until it is full or slowed down, and one that is slow and wide.
fn two_backends(seed: u64, reads: Reads, slow: Slowdown) -> Simulation {
    let profile = |latency_ms, most| BackendProfile {
        latency_ms,
        operations_per_s_max: Some(most),
        ..BackendProfile::default()
    };
    let fast = BackendModel {
        profile: profile(2.0, 900.0),
        service_ms: 2.0,
        workers: 2,
        slow: vec![slow],
        ..BackendModel::default()
    };
    let wide = BackendModel {
        profile: profile(8.0, 1800.0),
        service_ms: 8.0,
        workers: 16,
        ..BackendModel::default()
    };
    let backends = [("fast".to_owned(), fast), ("wide".to_owned(), wide)].into();
    Simulation { backends, reads, seed }
}

fn load(seed: u64) -> SkewedLoad {
    SkewedLoad {
        seed,
        length_ms: 240_000,
        per_second: 500.0,
        swing: 0.8,
        period_ms: 60_000,
        keys: 10_000,
        drift_ms: 40_000,
        writes: 0.3,
        sizes: (100, 20_000),
    }
}

/// Mean wait under the best choice that does not change, under the learner, and under the forecast.
fn compare(simulation: &Simulation, log: &[Access]) -> (f64, f64, f64) {
    let run = |name: &str, make: MakeStrategies<'_>| {
        let report = simulation.run(name, log, make).unwrap();
        println!("{report}");
        report.mean_ms
    };
    let weighted = |fast: f64| {
        run(&format!("static {fast}"), &|_| {
            let weights = vec![("fast".to_owned(), fast), ("wide".to_owned(), 1.0 - fast)];
            vec![Box::new(Weighted(weights))]
        })
    };
    let best = [0.0, 0.2, 0.33, 0.5, 0.7, 1.0].map(weighted).into_iter().fold(f64::MAX, f64::min);
    run("performance", &|env| vec![Box::new(PerformanceBased::new(&**env))]);
    let adaptive = run("adaptive", &|env| vec![Box::new(Adaptive::new(&**env))]);
    let predictive =
        run("predictive", &|env| vec![Box::new(Predictive::new(&**env).with_season(1000, 60))]);
    println!("best static / adaptive {:.2}", best / adaptive);
    println!("best static / predictive {:.2}", best / predictive);
    (best, adaptive, predictive)
}

/// Load, backends and the parameters of the strategies are reasoned; nothing is tuned on these seeds.
#[test]
fn learning_and_foresight_beat_the_best_static_choice() {
    for seed in 11..14 {
        let slow = Slowdown { from_ms: 100_000, to_ms: 130_000, factor: 8.0 };
        let simulation = two_backends(seed, Reads::Anywhere, slow);
        let (best, adaptive, predictive) = compare(&simulation, &load(seed).accesses());
        assert!(best > 1.15 * adaptive, "seed {seed}: {best} against {adaptive}");
        assert!(best > 1.15 * predictive, "seed {seed}: {best} against {predictive}");
    }
}

/// Operations that come a hundred at a time wait for each other: what came of the first is known
/// only when the last is long on its way.
#[test]
fn bursts_are_shared_out_while_they_are_under_way() {
    let calm = Slowdown { from_ms: 0, to_ms: 0, factor: 1.0 };
    let log: Vec<Access> = (0..20_000_u64)
        .map(|number| Access {
            time_ms: number / 100 * 1000,
            operation: Operation::Read,
            key: format!("key:{number}"),
            size: 1000,
            region: None,
        })
        .collect();
    let (best, adaptive, predictive) = compare(&two_backends(21, Reads::Anywhere, calm), &log);
    assert!(adaptive < 1.1 * best, "{best} against {adaptive}");
    assert!(predictive < 1.3 * best, "{best} against {predictive}");
}

#[test]
fn a_replay_is_the_same_each_time() {
    let slow = Slowdown { from_ms: 0, to_ms: 0, factor: 1.0 };
    let simulation = two_backends(5, Reads::WhereWritten, slow);
    let log = SkewedLoad { length_ms: 5000, ..load(5) }.accesses();
    let run = || {
        let make: MakeStrategies<'_> = &|env| vec![Box::new(Adaptive::new(&**env))];
        simulation.run("adaptive", &log, make).unwrap().to_string()
    };
    assert_eq!(run(), run());
}

#[test]
fn operations_wait_for_a_worker_and_reads_go_where_the_object_is() {
    let exact = |service_ms| BackendModel {
        service_ms,
        spread: 0.0,
        ms_per_mb: 0.0,
        workers: 1,
        ..BackendModel::default()
    };
    let mut a = exact(10.0);
    a.slow = vec![Slowdown { from_ms: 1000, to_ms: 2000, factor: 3.0 }];
    a.profile.prices = PriceTable {
        read_per_1000: 1000.0,
        storage_gb_month: 30.0 * 86_400.0,
        ..PriceTable::default()
    };
    let backends = [("a".to_owned(), a), ("b".to_owned(), exact(1.0))].into();
    let simulation = Simulation { backends, reads: Reads::WhereWritten, seed: 1 };
    let log = [
        access(0, Operation::Write, "k"),
        access(0, Operation::Read, "k"),
        access(1000, Operation::Read, "k"),
        access(2000, Operation::Delete, "k"),
        access(9000, Operation::Read, "other"),
    ];
    let report = simulation.run("a", &log, &to("a")).unwrap();
    // 10, 10 after 10, 30, 10, 10 ms.
    assert!((report.mean_ms - 16.0).abs() < 0.01, "{report}");
    assert!((report.p99_ms - 30.0).abs() < 0.01, "{report}");
    assert_eq!(report.backends["a"], 5);
    // Three reads at 1, and 10^9 bytes for two seconds at 1 each.
    assert!((report.cost - 5.0).abs() < 1e-6, "{report}");
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let run = |simulation: &Simulation, log: &[Access]| {
        simulation.run("a", log, &to("a")).unwrap_err().to_string()
    };
    let log = [access(5, Operation::Read, "k"), access(4, Operation::Read, "k")];
    assert!(run(&Simulation::default(), &log).contains("at least one backend"));
    let slow = Slowdown { from_ms: 0, to_ms: 0, factor: 1.0 };
    let mut simulation = two_backends(1, Reads::Anywhere, slow);
    assert!(run(&simulation, &log).contains("access 2"));
    simulation.backends.entry("fast".into()).or_default().workers = 0;
    assert!(run(&simulation, &[]).contains("workers is 0"));
}

#[test]
fn logs_are_read_and_wrong_lines_named() {
    let text = "{\"time_ms\":1,\"operation\":\"read\",\"key\":\"k\",\"size\":2}\n\n\
        {\"time_ms\":2,\"operation\":\"write\",\"key\":\"k\",\"size\":2,\"region\":\"eu\"}\n";
    let log = read_log(text).unwrap();
    assert_eq!((log.len(), log[1].region.as_deref()), (2, Some("eu")));
    assert!(read_log(&format!("{text}{{}}")).unwrap_err().to_string().contains("line 4"));
    let trace = "{\"timestamp\": 3, \"input_length\": 9, \"hash_ids\": [0, 1]}\n\
        {\"timestamp\": 4, \"hash_ids\": [0, 2]}";
    let log = from_prefix_trace(trace, 7).unwrap();
    let operations: Vec<Operation> = log.iter().map(|access| access.operation).collect();
    use Operation::{Read, Write};
    assert_eq!(operations, [Write, Write, Read, Write]);
    assert_eq!((log[2].key.as_str(), log[2].time_ms, log[2].size), ("block:0", 4, 7));
}

#[test]
fn the_load_is_skewed_drifts_and_swings() {
    let log = load(1).accesses();
    let share = |from_ms: u64, to_ms: u64, key: &str| {
        let part = log.iter().filter(|a| (from_ms..to_ms).contains(&a.time_ms));
        let total = part.clone().count();
        part.filter(|a| a.key == key).count() as f64 / total as f64
    };
    assert!(share(0, 40_000, "key:0") > 0.05);
    assert!(share(40_000, 80_000, "key:0") < 0.01);
    assert!(share(40_000, 80_000, "key:7919") > 0.05);
    let count = |from_ms: u64, to_ms: u64| {
        log.iter().filter(|a| (from_ms..to_ms).contains(&a.time_ms)).count()
    };
    assert!(count(10_000, 20_000) > 5 * count(40_000, 50_000));
}

use std::io;

use super::*;
use crate::env::SimEnv;
use crate::error::Retry;

fn breaker(options: BreakerOptions) -> (Arc<SimEnv>, Breaker, Arc<Mutex<Vec<BreakerChange>>>) {
    let env = Arc::new(SimEnv::new(1, 0));
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&changes);
    let breaker = Breaker::with_env(options, env.clone())
        .with_listener(Arc::new(move |change| told.lock().push(change)));
    (env, breaker, changes)
}

fn options() -> BreakerOptions {
    BreakerOptions {
        window: Duration::from_secs(10),
        calls_min: 10,
        failure_ratio: 0.5,
        slow: Duration::from_secs(1),
        open: Duration::from_secs(1),
        open_max: Duration::from_secs(8),
        probes: 2,
        probes_to_close: 2,
    }
}

fn run(breaker: &Breaker, verdict: Verdict) -> Result<(), BreakerOpen> {
    breaker.admit().map(|call| call.end(verdict))
}

fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        run(breaker, Verdict::Failure).unwrap();
    }
}

/// Opens a breaker, and says for how long.
fn opened(env: &SimEnv, breaker: &Breaker) -> Duration {
    let refused = run(breaker, Verdict::Success).unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Open);
    env.advance_ms(refused.retry_in.as_millis() as u64 + 1);
    refused.retry_in
}

#[test]
fn it_opens_when_enough_calls_failed_and_not_before() {
    let (_, breaker, changes) = breaker(options());
    fail(&breaker, 9);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(run(&breaker, Verdict::Success).is_err());
    let changes = changes.lock();
    assert_eq!((changes.len(), changes[0].to), (1, BreakerState::Open));
    assert!(changes[0].open_for.unwrap() >= Duration::from_millis(500));
}

#[test]
fn failures_that_are_few_or_long_ago_do_not_open_it() {
    let (env, breaker, _) = breaker(options());
    for _ in 0..200 {
        run(&breaker, Verdict::Success).unwrap();
        run(&breaker, Verdict::Success).unwrap();
        fail(&breaker, 1);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    env.advance_ms(60_000);
    fail(&breaker, 9);
    env.advance_ms(11_000);
    fail(&breaker, 9);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn probes_close_it_or_open_it_for_longer() {
    let (env, breaker, changes) = breaker(options());
    fail(&breaker, 10);
    let mut last = opened(&env, &breaker);
    for _ in 0..5 {
        fail(&breaker, 1);
        let now = opened(&env, &breaker);
        assert!(now <= Duration::from_secs(8), "{now:?}");
        assert!(now > last / 2, "{now:?} after {last:?}");
        last = now;
    }
    assert!(last >= Duration::from_secs(4), "{last:?}");
    // Two probes at a time, and both must succeed.
    let (first, second) = (breaker.admit().unwrap(), breaker.admit().unwrap());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.admit().is_err());
    first.end(Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    second.end(Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.times_opened(), 6);
    assert_eq!(changes.lock().last().unwrap().to, BreakerState::Closed);
    // The next time begins with the short pause again, and with an empty window.
    fail(&breaker, 9);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1);
    assert!(opened(&env, &breaker) <= Duration::from_secs(1));
}

#[test]
fn a_probe_that_is_dropped_makes_room_for_another() {
    let (env, breaker, _) = breaker(BreakerOptions { probes: 1, ..options() });
    fail(&breaker, 10);
    opened(&env, &breaker);
    drop(breaker.admit().unwrap());
    run(&breaker, Verdict::Success).unwrap();
    run(&breaker, Verdict::Success).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn calls_of_an_earlier_state_mean_nothing() {
    let (env, breaker, _) = breaker(options());
    let old: Vec<_> = (0..20).map(|_| breaker.admit().unwrap()).collect();
    fail(&breaker, 10);
    opened(&env, &breaker);
    let probe = breaker.admit().unwrap();
    old.into_iter().for_each(|call| call.end(Verdict::Failure));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    probe.end(Verdict::Success);
    run(&breaker, Verdict::Success).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn slow_calls_are_failures_whatever_they_answer_also_when_dropped() {
    let (env, breaker, _) = breaker(options());
    for number in 0..10 {
        let call = breaker.admit().unwrap();
        env.advance_ms(1001);
        match number % 2 {
            0 => call.end(Verdict::Success),
            _ => drop(call),
        }
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn only_errors_of_an_engine_that_does_not_work_are_failures() {
    let source = Shed::QueueFull;
    for (error, verdict) in [
        (StorageError::unavailable("down"), Verdict::Failure),
        (StorageError::timeout("late").with_retry(Retry::Temporary), Verdict::Failure),
        (StorageError::from(io::Error::other("broken")), Verdict::Failure),
        (StorageError::precondition_failed("no"), Verdict::Success),
        (StorageError::not_found("none"), Verdict::Success),
        (StorageError::invalid_input("no"), Verdict::Success),
        (StorageError::out_of_space("full"), Verdict::Success),
        (StorageError::conflict("busy"), Verdict::Success),
        (StorageError::unavailable("shed").with_source(source), Verdict::None),
    ] {
        assert_eq!(judge(&error), verdict, "{error}");
    }
}

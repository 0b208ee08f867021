use super::*;
use crate::backend::StorageBackend;
use crate::env::SimEnv;
use crate::error::Retry;
use crate::memory::MemoryBackend;
use crate::options::StorageOptions;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_rate_lets_a_second_of_itself_through_at_once_and_then_spreads() {
    let rate = Rate::new(10.0, at(0));
    for _ in 0..10 {
        assert_eq!(rate.take(1.0, at(0), at(0)), Some(at(0)));
    }
    assert_eq!(rate.take(1.0, at(0), at(99)), None);
    assert_eq!(rate.take(1.0, at(0), at(100)), Some(at(100)));
    assert_eq!(rate.take(1.0, at(0), at(1000)), Some(at(200)));
    // Nobody came for long: no more than a second is saved up.
    let taken = (0..100).take_while(|_| rate.take(1.0, at(60_000), at(0)).is_some()).count();
    assert_eq!(taken, 10);
}

#[test]
fn what_is_larger_than_a_second_of_the_rate_leaves_a_debt() {
    let rate = Rate::new(10.0, at(0));
    assert_eq!(rate.take(30.0, at(0), at(0)), Some(at(0)));
    assert_eq!(rate.take(1.0, at(0), at(1000)), None);
    assert_eq!(rate.take(1.0, at(2000), at(100)), Some(at(100)));
    rate.owe(20.0, at(3000));
    assert_eq!(rate.take(1.0, at(3000), at(1000)), None);
    rate.give_back(100.0);
    assert_eq!(rate.take(10.0, at(3000), at(0)), Some(at(0)));
}

fn limited(options: LimitOptions) -> (Arc<SimEnv>, Arc<Limiter>, Arc<dyn StorageBackend>) {
    let env = Arc::new(SimEnv::new(1, 0));
    let limiter = Arc::new(Limiter::with_env(options, env.clone()));
    let memory = Arc::new(MemoryBackend::new(1 << 20));
    (env, Arc::clone(&limiter), Arc::new(LimitLayer::new(memory, limiter)))
}

fn shed(error: &StorageError) -> Option<Shed> {
    assert_eq!((error.code(), error.retry()), ("unavailable", Retry::Temporary));
    error.detail().source.as_ref()?.downcast_ref().copied()
}

#[tokio::test(start_paused = true)]
async fn operations_wait_for_their_turn_in_a_bounded_queue_and_for_a_bounded_time() {
    let options = LimitOptions { concurrent: 1, queue: 2, ..LimitOptions::default() };
    let (_, limiter, store) = limited(options);
    let turn = limiter.permits.acquire().await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.get("key").await })
        })
        .collect();
    tokio::time::sleep(at(10)).await;
    assert_eq!(limiter.waiting(), 2);
    assert_eq!(shed(&store.get("key").await.unwrap_err()), Some(Shed::QueueFull));
    for task in waiting {
        let error = task.await.unwrap().unwrap_err();
        assert_eq!(shed(&error), Some(Shed::Concurrency));
    }
    assert_eq!((limiter.waiting(), limiter.shed()), (0, 3));
    drop(turn);
    assert_eq!(store.get("key").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn bytes_read_hold_back_those_who_come_next() {
    let options = LimitOptions { bytes_per_second: Some(1000.0), ..LimitOptions::default() };
    let (env, _, store) = limited(options);
    store.put("key", vec![0; 900].into(), StorageOptions::default()).await.unwrap();
    env.advance_ms(1000);
    for _ in 0..3 {
        assert_eq!(store.get("key").await.unwrap().unwrap().len(), 900);
    }
    // 1,700 bytes are owed: that takes longer than anybody may wait.
    assert_eq!(shed(&store.get("key").await.unwrap_err()), Some(Shed::Rate));
    env.advance_ms(1700);
    store.get("key").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn operations_over_the_rate_are_spread_then_shed() {
    let options = LimitOptions {
        operations_per_second: Some(5.0),
        wait_max: at(500),
        ..LimitOptions::default()
    };
    let (env, limiter, store) = limited(options);
    let results = std::iter::repeat_with(|| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.exists("key").await })
    });
    let tasks: Vec<_> = results.take(10).collect();
    let mut passed = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => passed += 1,
            Err(error) => assert_eq!(shed(&error), Some(Shed::Rate)),
        }
    }
    // A second's worth at once, and what half a second of waiting brings.
    assert_eq!((passed, limiter.shed()), (7, 3));
    env.advance_ms(1000);
    assert!(store.exists("key").await.is_ok());
}

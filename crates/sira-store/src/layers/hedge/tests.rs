use parking_lot::Mutex;

use super::*;
use crate::env::SimEnv;
use crate::memory::MemoryBackend;

/// What a request meets: after so many milliseconds, an error or an answer.
type Plan = (u64, Option<fn() -> StorageError>);

/// An engine that treats one request after the other as planned.
#[derive(Debug, Default)]
struct Planned {
    plans: Mutex<std::collections::VecDeque<Plan>>,
    requests: AtomicU64,
    finished: AtomicU64,
}

#[async_trait]
impl StorageBackend for Planned {
    fn capabilities(&self) -> Capabilities {
        MemoryBackend::new(0).capabilities()
    }

    async fn put(&self, _: &str, _: Bytes, _: StorageOptions) -> Result<Version> {
        self.next().await.map(|()| Version::default())
    }

    async fn read(&self, _: &str, _: ReadOptions) -> Result<Option<Object>> {
        self.next().await.map(|()| None)
    }

    async fn remove(&self, _: &str, _: Condition) -> Result<bool> {
        self.next().await.map(|()| true)
    }
}

impl Planned {
    async fn next(&self) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (ms, error) = self.plans.lock().pop_front().unwrap_or((1, None));
        sleep(Duration::from_millis(ms)).await;
        self.finished.fetch_add(1, Ordering::Relaxed);
        error.map_or(Ok(()), |error| Err(error()))
    }

    fn plan(&self, plans: &[Plan]) {
        *self.plans.lock() = plans.iter().copied().collect();
        self.requests.store(0, Ordering::Relaxed);
        self.finished.store(0, Ordering::Relaxed);
    }

    fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.finished.load(Ordering::Relaxed))
    }
}

fn hedged(options: HedgeOptions) -> (Arc<Planned>, HedgeLayer) {
    let engine = Arc::new(Planned::default());
    let env = Arc::new(SimEnv::new(1, 0));
    let layer = HedgeLayer::with_env(engine.clone(), engine.clone(), options, env);
    (engine, layer)
}

fn down() -> StorageError {
    StorageError::unavailable("down")
}

fn refused() -> StorageError {
    StorageError::precondition_failed("no")
}

fn corrupt() -> StorageError {
    StorageError::corrupt("rotten")
}

#[tokio::test(start_paused = true)]
async fn a_second_request_is_sent_late_and_the_first_success_wins() {
    let (engine, store) = hedged(HedgeOptions::default());
    // In time: one request.
    engine.plan(&[(49, None)]);
    store.get("key").await.unwrap();
    assert_eq!((engine.counts(), store.hedges().counters()), ((1, 1), HedgeCounters::default()));
    // The second wins, and the first is dropped.
    engine.plan(&[(10_000, None), (10, None)]);
    store.get("key").await.unwrap();
    assert_eq!(engine.counts(), (2, 1));
    assert_eq!(store.hedges().counters(), HedgeCounters { sent: 1, won: 1, over_budget: 0 });
    // The first wins after all.
    engine.plan(&[(60, None), (10_000, None)]);
    store.head("key").await.unwrap();
    assert_eq!(engine.counts(), (2, 1));
    assert_eq!(store.hedges().counters(), HedgeCounters { sent: 2, won: 1, over_budget: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_does_not_end_the_other_unless_it_is_an_answer() {
    let (engine, store) = hedged(HedgeOptions::default());
    engine.plan(&[(60, Some(down)), (100, None)]);
    store.get("key").await.unwrap();
    engine.plan(&[(200, None), (10, Some(down))]);
    store.get("key").await.unwrap();
    engine.plan(&[(60, Some(corrupt)), (100, None)]);
    store.get("key").await.unwrap();
    // The condition that the second sees as broken may hold for the first.
    engine.plan(&[(200, None), (10, Some(refused))]);
    store.get("key").await.unwrap();
    engine.plan(&[(60, Some(refused)), (100, None)]);
    assert_eq!(store.get("key").await.unwrap_err().code(), "precondition_failed");
    engine.plan(&[(60, Some(down)), (100, Some(corrupt))]);
    assert_eq!(store.get("key").await.unwrap_err().code(), "unavailable");
    // An error that comes early is no reason for a second request.
    engine.plan(&[(10, Some(down))]);
    assert_eq!(store.get("key").await.unwrap_err().code(), "unavailable");
    assert_eq!(engine.counts().0, 1);
}

#[tokio::test(start_paused = true)]
async fn writes_are_sent_once() {
    let (engine, store) = hedged(HedgeOptions::default());
    engine.plan(&[(10_000, None), (10_000, None)]);
    store.put("key", Bytes::new(), StorageOptions::default()).await.unwrap();
    store.remove("key", Condition::Always).await.unwrap();
    assert_eq!(engine.counts(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_slow_as_a_whole_is_not_asked_twice_for_everything() {
    let (engine, store) = hedged(HedgeOptions::default());
    engine.plan(&vec![(200, None); 10_000]);
    for _ in 0..1000 {
        store.get("key").await.unwrap();
    }
    let counters = store.hedges().counters();
    assert!((55..=60).contains(&counters.sent), "5% and what was saved up: {counters:?}");
    assert_eq!(counters.over_budget, 1000 - counters.sent);
}

#[test]
fn the_delay_follows_the_quantile_within_its_bounds() {
    let env = Arc::new(SimEnv::new(1, 0));
    let hedges = Hedges::new(HedgeOptions::default(), env.clone());
    let pace = Pace::default();
    assert_eq!(hedges.delay(&pace, env.monotonic()), Duration::from_millis(50));
    let seen = |ms: u64, count: usize| {
        env.advance_ms(120_000);
        for _ in 0..count {
            pace.latency.record(env.monotonic(), Duration::from_millis(ms));
        }
        hedges.delay(&pace, env.monotonic()).as_secs_f64() * 1e3
    };
    assert!((seen(20, 100) / 20.0 - 1.0).abs() < 0.04);
    assert_eq!(seen(0, 100), 2.0);
    assert_eq!(seen(30_000, 100), 1000.0);
    assert_eq!(seen(20, 10), 50.0, "too few to tell");
}

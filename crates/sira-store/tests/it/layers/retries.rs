//! What retries do after each way that a write can fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sira_store::driver::DriverBackend;
use sira_store::layers::retry::RetryCounters;
use sira_store::layers::{
    BreakerOptions, BreakerState, Layers, RetryLayer, RetryOptions, TimeoutOptions,
};
use sira_store::{
    BatchOperation, Condition, ReadOptions, Retry, StorageBackend, StorageBackendExt, StorageError,
    StorageOptions, Version,
};

use super::faulty::Fate::{self, Answer, HangAfter, HangBefore, LoseAnswer, LoseRequest, Refuse};
use super::faulty::{Faulty, Weather};
use crate::driver::memory::{Kind, MemoryDriver};

/// An engine, and a client of it behind a network that follows a script.
struct World {
    engine: Arc<DriverBackend>,
    network: Faulty,
    store: RetryLayer,
}

impl World {
    fn new(script: &[Fate]) -> Self {
        Self::with(script, RetryOptions::default())
    }

    fn with(script: &[Fate], options: RetryOptions) -> Self {
        let engine = Arc::new(DriverBackend::new(MemoryDriver::new(Kind::default())));
        let network = Faulty::scripted(engine.clone(), script);
        let store = RetryLayer::new(Arc::new(network.clone()), options);
        Self { engine, network, store }
    }

    async fn put(
        &self,
        value: &'static str,
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let options = StorageOptions { condition, ..StorageOptions::default() };
        self.store.put("key", value.into(), options).await
    }

    async fn held(&self) -> Option<Bytes> {
        self.engine.get("key").await.unwrap()
    }

    /// What another client wrote with a version of long before, or will with one of long after.
    async fn other(&self, value: &'static str, version: Version) -> Version {
        let options = StorageOptions { version: Some(version), ..StorageOptions::default() };
        self.engine.put("key", value.into(), options).await.unwrap()
    }

    fn counters(&self) -> RetryCounters {
        self.store.retries().counters()
    }
}

const OLD: Version = Version::from_u64(1 << 40);
const NEW: Version = Version::from_u64(1 << 60);

fn unknown<T: std::fmt::Debug>(result: Result<T, StorageError>) {
    let error = result.unwrap_err();
    assert_eq!(error.retry(), Retry::Ambiguous, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_found() {
    let world = World::new(&[LoseAnswer]);
    let version = world.put("new", Condition::IfAbsent).await.unwrap();
    assert_eq!(world.engine.head("key").await.unwrap().unwrap().version, version);
    assert_eq!(world.network.calls(), ["put", "head", "read"]);
    assert_eq!((world.counters().found, world.counters().retried), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_request_was_lost_is_made_once() {
    let world = World::new(&[LoseRequest, Answer, Refuse]);
    let first = world.other("old", OLD).await;
    world.put("new", Condition::IfMatch(first)).await.unwrap();
    assert_eq!(world.network.calls(), ["put", "head", "put", "put"]);
    assert_eq!(world.network.effects().len(), 1);
    // A second loss, of the answer to the repeated request.
    let world = World::new(&[LoseRequest, LoseRequest, Answer, LoseAnswer]);
    world.put("new", Condition::IfAbsent).await.unwrap();
    assert_eq!(world.network.calls(), ["put", "head", "head", "put", "head", "read"]);
    assert_eq!(world.network.effects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_another_writer_broke_is_told_as_such() {
    let world = World::new(&[LoseRequest]);
    world.other("theirs", OLD).await;
    let refused = world.put("ours", Condition::IfAbsent).await.unwrap_err();
    assert_eq!(refused.code(), "precondition_failed");
    assert_eq!(world.held().await.as_deref(), Some(&b"theirs"[..]));
}

/// Runs a write, and something of another client between its first request and what follows.
async fn between<T>(
    write: impl Future<Output = T>,
    network: &Faulty,
    other: impl Future<Output = ()>,
) -> T {
    let other = async {
        while network.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        other.await;
    };
    tokio::join!(write, other).0
}

#[tokio::test(start_paused = true)]
async fn a_write_that_a_newer_one_may_have_replaced_stays_unknown() {
    for (script, condition) in [
        (HangAfter, Condition::IfAbsent),
        (HangAfter, Condition::IfPresent),
        (HangAfter, Condition::Always),
        (HangBefore, Condition::Always),
    ] {
        let options = RetryOptions { identify_all: true, ..RetryOptions::default() };
        let world = World::with(&[script], options.clone());
        if condition == Condition::IfPresent {
            world.other("old", OLD).await;
        }
        let store = Layers::new(Arc::new(world.network.clone()))
            .timeout(TimeoutOptions::default())
            .retry(options)
            .build();
        let put_options = StorageOptions { condition, ..StorageOptions::default() };
        let write = store.put("key", "ours".into(), put_options);
        let result = between(write, &world.network, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.other("theirs", NEW).await;
        })
        .await;
        unknown(result);
        assert_eq!(world.held().await.as_deref(), Some(&b"theirs"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn unconditional_writes_are_repeated() {
    let world = World::new(&[LoseAnswer, Refuse]);
    world.put("new", Condition::Always).await.unwrap();
    assert_eq!(world.network.calls(), ["put", "put", "put"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_not_made_up() {
    // Every look fails.
    let mut script = vec![LoseAnswer];
    script.extend([LoseRequest; 20]);
    let world = World::new(&script);
    unknown(world.put("new", Condition::IfAbsent).await);
    assert_eq!(world.counters().unknown, 1);
    // An attempt may have worked, and the engine is down ever since.
    let world = World::new(&[&[LoseRequest, Answer][..], &[Refuse; 20]].concat());
    unknown(world.put("new", Condition::IfAbsent).await);
    // None can have.
    let world = World::new(&[Refuse; 20]);
    let error = world.put("new", Condition::IfAbsent).await.unwrap_err();
    assert_eq!((error.retry(), world.network.calls().len()), (Retry::Temporary, 5));
}

#[tokio::test(start_paused = true)]
async fn a_version_of_the_callers_is_kept() {
    let world = World::new(&[LoseRequest, LoseRequest, Answer, LoseAnswer]);
    let version = Version::from_u64((1 << 60) + 7);
    let options = StorageOptions { version: Some(version), ..StorageOptions::default() };
    let put = |options| world.store.put("key", "copy".into(), options);
    assert_eq!(put(options.clone()).await.unwrap(), version);
    assert_eq!(world.network.effects().len(), 1);
    let stale = StorageOptions { version: Some(Version::from_u64(1 << 60)), ..options };
    assert_eq!(put(stale).await.unwrap_err().code(), "conflict");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_draws_again() {
    let options = RetryOptions { identify_all: true, ..RetryOptions::default() };
    let world = World::with(&[], options);
    let ahead = Version::from_u64(1 << 60);
    let theirs = StorageOptions { version: Some(ahead), ..StorageOptions::default() };
    world.engine.put("key", "theirs".into(), theirs.clone()).await.unwrap();
    assert!(world.put("ours", Condition::Always).await.unwrap() > ahead);
    assert!(world.put("again", Condition::IfPresent).await.unwrap() > ahead);
    // What has expired is not there to be looked at, and still keeps its version.
    let ttl = Some(Duration::from_millis(1));
    let expiring = StorageOptions { ttl, ..theirs };
    world.engine.put("other", "theirs".into(), expiring).await.unwrap();
    while world.engine.exists("other").await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert!(world.store.put_if_absent("other", "ours").await.unwrap().unwrap() > ahead);
}

#[tokio::test(start_paused = true)]
async fn removals_whose_answer_was_lost_are_looked_after() {
    let world = World::new(&[LoseAnswer]);
    world.other("old", OLD).await;
    assert!(world.store.delete("key").await.unwrap());
    assert_eq!(world.network.calls(), ["remove", "head"]);

    let world = World::new(&[LoseRequest]);
    world.other("old", OLD).await;
    assert!(world.store.delete("key").await.unwrap());
    assert_eq!(world.network.calls(), ["remove", "head", "remove"]);

    // Whether it was this removal that took the version away cannot be known.
    let world = World::new(&[LoseAnswer]);
    let version = world.other("old", OLD).await;
    unknown(world.store.remove("key", Condition::IfMatch(version)).await);
    // That the version is still there can.
    let world = World::new(&[LoseRequest]);
    let version = world.other("old", OLD).await;
    assert!(world.store.remove("key", Condition::IfMatch(version)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_removal_leaves_what_was_written_after_it() {
    for fate in [HangBefore, HangAfter] {
        let world = World::new(&[fate]);
        world.other("old", OLD).await;
        let store = Layers::new(Arc::new(world.network.clone()))
            .timeout(TimeoutOptions::default())
            .retry(RetryOptions::default())
            .build();
        let result = between(store.delete("key"), &world.network, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.other("new", NEW).await;
        })
        .await;
        unknown(result);
        assert_eq!(world.held().await.as_deref(), Some(&b"new"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_repeated_while_they_fit_into_memory_and_resolved_beyond() {
    let body = |parts: usize| {
        let parts = std::iter::repeat_n(Bytes::from(vec![7; 1 << 20]), parts);
        let mut parts = parts.collect::<Vec<_>>().into_iter();
        let stream = Parts(Box::new(move || parts.next()));
        Box::pin(stream) as sira_store::ByteStream
    };
    let absent = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    let world = World::new(&[LoseRequest, Answer, Refuse]);
    world.store.put_stream("key", body(2), absent.clone()).await.unwrap();
    assert_eq!(world.held().await.unwrap().len(), 2 << 20);
    let world = World::new(&[LoseAnswer]);
    world.store.put_stream("key", body(6), absent.clone()).await.unwrap();
    assert_eq!((world.held().await.unwrap().len(), world.counters().found), (6 << 20, 1));
    let world = World::new(&[LoseRequest]);
    unknown(world.store.put_stream("key", body(6), absent).await);
}

struct Parts(Box<dyn FnMut() -> Option<Bytes> + Send>);

impl futures_core::Stream for Parts {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready((self.0)().map(Ok))
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_repeated_only_where_nothing_can_happen_twice() {
    let put = |condition| BatchOperation::Put {
        key: "key".into(),
        value: "new".into(),
        options: StorageOptions { condition, ..StorageOptions::default() },
    };
    let world = World::new(&[LoseAnswer, LoseRequest]);
    world.store.batch(vec![put(Condition::Always)]).await.unwrap();
    assert_eq!(world.network.calls().len(), 3);
    let world = World::new(&[LoseAnswer]);
    unknown(world.store.batch(vec![put(Condition::IfAbsent)]).await);
    let world = World::new(&[Refuse]);
    world.store.batch(vec![put(Condition::IfAbsent)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_gets_a_tenth_more_at_most() {
    let weather = Weather { refuse: 100, ..Weather::default() };
    let engine = Arc::new(DriverBackend::new(MemoryDriver::new(Kind::default())));
    let network = Faulty::new(engine, weather, 1);
    let mut options = RetryOptions::default();
    options.budget.per_second = 0.0;
    let store = RetryLayer::new(Arc::new(network.clone()), options);
    for _ in 0..2000 {
        store.read("key", ReadOptions::default()).await.unwrap_err();
    }
    let calls = network.calls().len();
    assert!((2290..=2300).contains(&calls), "a tenth, and what was saved up: {calls}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_given_up_within_the_deadline_and_then_left_alone() {
    let weather = Weather { hang: 100, ..Weather::default() };
    let engine = Arc::new(DriverBackend::new(MemoryDriver::new(Kind::default())));
    let network = Faulty::new(engine, weather, 1);
    let stack = Layers::new(Arc::new(network.clone()))
        .timeout(TimeoutOptions::default())
        .retry(RetryOptions::default())
        .breaker(BreakerOptions { calls_min: 4, ..BreakerOptions::default() })
        .assemble();
    let error = stack.backend.get("key").await.unwrap_err();
    assert!(matches!(error, StorageError::Timeout(_) | StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.retry(), Retry::Temporary);
    stack.backend.get("key").await.unwrap_err();
    let breaker = stack.handles.breaker.unwrap();
    assert!(breaker.times_opened() > 0 && breaker.state() != BreakerState::Closed);
    let before = network.calls().len();
    let error = stack.backend.get("key").await.unwrap_err();
    assert!(network.calls().len() <= before + 5, "{error}");
}
